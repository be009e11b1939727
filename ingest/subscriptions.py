"""What is asked of the feed, and over which connection: a set that is kept, not a log of calls. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from brokers.upstox.limits import Limits
from schemas.commands import Mode


@dataclass(frozen=True, slots=True)
class Change:
    """Messages that turn one set of subscriptions into another."""

    unsub: list[str] = field(default_factory=list)
    sub: dict[Mode, list[str]] = field(default_factory=dict)
    change_mode: dict[Mode, list[str]] = field(default_factory=dict)


def difference(now: Mapping[str, Mode], wanted: Mapping[str, Mode]) -> Change:
    change = Change(unsub=sorted(now.keys() - wanted.keys()))
    for key, mode in sorted(wanted.items()):
        if key not in now:
            change.sub.setdefault(mode, []).append(key)
        elif now[key] is not mode:
            change.change_mode.setdefault(mode, []).append(key)
    return change


def spread(
    wanted: Mapping[str, Mode],
    present: Sequence[Mapping[str, Mode]],
    usable: Sequence[bool],
    limits: Limits,
) -> tuple[list[dict[str, Mode]], list[str]]:
    """Which connection carries which key, and the keys for which there is no room.

    `usable` has an entry for each connection that we may have, False where it is known to be dead. As few connections
    as can carry the keys are used: the venue allows few, and another process may need the others. A key stays where it
    is as long as its connection is used, as every move is a hole in what is told of it; so those that carry most are.
    """
    plan: list[dict[str, Mode]] = [{} for _ in range(max(len(usable), len(present)))]
    counts: list[Counter[Mode]] = [Counter() for _ in plan]
    caps = limits.of_connection(set(wanted.values()))
    room = Counter(limits.of_process(set(wanted.values()), len(usable)))
    used = _used(wanted, present, usable, caps)
    home = {key: number for number in used if number < len(present) for key in present[number]}
    left_over: list[str] = []
    # Keys that have a home come first, so that a newcomer never drives one out.
    for key, mode in sorted(wanted.items(), key=lambda item: (item[0] not in home, item[0])):
        order = [home[key]] if key in home else []
        for number in [*order, *used] if room[mode] > 0 else ():
            if counts[number][mode] < caps[mode]:
                plan[number][key] = mode
                counts[number][mode] += 1
                room[mode] -= 1
                break
        else:
            left_over.append(key)
    return plan, left_over


def _used(
    wanted: Mapping[str, Mode],
    present: Sequence[Mapping[str, Mode]],
    usable: Sequence[bool],
    caps: Mapping[Mode, int],
) -> list[int]:
    """The numbers of the connections to use."""
    of_mode = Counter(wanted.values())
    needed = max((-(-count // caps[mode]) for mode, count in of_mode.items() if caps[mode]), default=0)
    able = [number for number, good in enumerate(usable) if good]
    carried = {number: len(present[number]) if number < len(present) else 0 for number in able}
    return sorted(sorted(able, key=lambda number: (-carried[number], number))[:needed])
