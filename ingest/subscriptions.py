"""What is asked of the feed, and over which connection: a set that is kept, not a log of calls. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.commands import Mode

#: Keys per connection: with one mode only, and with several (documented for normal accounts).
ALONE: Final = {Mode.LTPC: 5000, Mode.OPTION_GREEKS: 3000, Mode.FULL: 2000, Mode.FULL_D30: 50}
COMBINED: Final = {Mode.LTPC: 2000, Mode.OPTION_GREEKS: 2000, Mode.FULL: 1500, Mode.FULL_D30: 50}


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

    A key stays where it is; new ones go to the first connection with room. No connection beyond those needed.
    """
    caps = ALONE if len(set(wanted.values())) <= 1 else COMBINED
    plan: list[dict[str, Mode]] = [{} for _ in range(connections)]
    counts: list[dict[Mode, int]] = [{} for _ in range(connections)]
    home = {key: number for number, keys in enumerate(present[:connections]) for key in keys}
    left_over: list[str] = []
    # Keys that have a home come first, so that a newcomer never drives one out.
    for key, mode in sorted(wanted.items(), key=lambda item: (item[0] not in home, item[0])):
        order = [home[key]] if key in home else []
        for number in [*order, *range(connections)]:
            if counts[number].get(mode, 0) < caps[mode]:
                plan[number][key] = mode
                counts[number][mode] = counts[number].get(mode, 0) + 1
                break
        else:
            left_over.append(key)
    return plan, left_over
