"""What is asked of the feed, and over which connection: a set that is kept, not a log of calls. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from brokers.upstox.limits import ALONE, COMBINED
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
    wanted: Mapping[str, Mode], present: Sequence[Mapping[str, Mode]], connections: int
) -> tuple[list[dict[str, Mode]], list[str]]:
    """Which connection carries which key, and the keys for which there is no room.

    As few connections as can carry them, the first ones: the venue allows few, and another process may need the others.
    A key stays where it is as long as its connection does; new ones go to the first connection with room.
    """
    of_mode = Counter(wanted.values())
    caps = ALONE if len(of_mode) <= 1 else COMBINED
    needed = min(connections, max((-(-count // caps[mode]) for mode, count in of_mode.items()), default=0))
    plan: list[dict[str, Mode]] = [{} for _ in range(max(connections, len(present)))]
    counts: list[Counter[Mode]] = [Counter() for _ in range(needed)]
    home = {key: number for number, keys in enumerate(present[:needed]) for key in keys}
    left_over: list[str] = []
    # Keys that have a home come first, so that a newcomer never drives one out.
    for key, mode in sorted(wanted.items(), key=lambda item: (item[0] not in home, item[0])):
        order = [home[key]] if key in home else []
        for number in [*order, *range(needed)]:
            if counts[number][mode] < caps[mode]:
                plan[number][key] = mode
                counts[number][mode] += 1
                break
        else:
            left_over.append(key)
    return plan, left_over
