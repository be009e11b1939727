"""Instruments that should speak and do not: found, and not found where they need not."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from ingest.health import Found, Health, Sight

KEYS = ("A", "B", "C", "D", "E")
START = 1_795_000_000_000


@dataclass
class Scene:
    """Five instruments on a clock that the test moves, looked at once a second."""

    health: Health = field(default_factory=lambda: Health(unseen_s=10.0, silent_s=60.0))
    keys: Sequence[str] = KEYS
    groups: Sequence[int] = (0, 0, 0, 0, 0)
    now_s: float = 0.0
    ts: dict[str, int] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    unable: set[str] = field(default_factory=set)
    again: list[str] = field(default_factory=list)

    @property
    def now_ms(self) -> int:
        return START + int(self.now_s * 1000)

    def run(self, seconds: int, **every_s: int) -> Found:
        """Those named tick every so many seconds."""
        found = Found()
        for _ in range(seconds):
            self.now_s += 1
            for key, step in every_s.items():
                if int(self.now_s) % step == 0:
                    self.ts[key] = self.now_ms
                    self.unseen.discard(key)
            found = self.look()
        return found

    def look(self) -> Found:
        of = np.array([self.ts.get(key, 0) for key in self.keys])
        sight = Sight(
            self.keys,
            of,
            np.array([key in self.unseen for key in self.keys], bool),
            np.array([key not in self.unable for key in self.keys], bool),
            np.array(self.groups[: len(self.keys)]),
        )
        found = self.health.look(sight, self.now_ms, self.now_s)
        self.again += found.ask_again
        return found


ALL = dict.fromkeys(KEYS, 1)
OTHERS = dict.fromkeys(KEYS[1:], 1)


def test_what_ticks_is_never_reported() -> None:
    assert Scene().run(300, **ALL) == Found()


# Never seen


def test_what_is_never_seen_is_asked_for_again_once_and_then_reported() -> None:
    scene = Scene(unseen={"A"})
    assert scene.run(9, **OTHERS) == Found()
    assert scene.again == []
    scene.run(10, **OTHERS)
    assert scene.again == ["A"]
    assert scene.run(10, **OTHERS).never_seen == ("A",)
    assert scene.run(100, **OTHERS).never_seen == ("A",)
    assert scene.again == ["A"]


def test_what_comes_when_it_is_asked_again_is_not_reported_and_may_be_missed_again() -> None:
    scene = Scene(unseen={"A"})
    scene.run(12, **OTHERS)
    assert scene.run(20, **ALL) == Found()
    scene.unseen = {"A"}
    scene.run(12, **OTHERS)
    assert scene.again == ["A", "A"]


def test_while_it_could_not_tick_nobody_waits_for_it() -> None:
    scene = Scene(unseen={"A"}, unable={"A"})
    assert scene.run(100, **OTHERS) == Found()
    assert scene.again == []
    scene.unable.clear()
    scene.run(5, **OTHERS)
    assert scene.again == []
    scene.run(6, **OTHERS)
    assert scene.again == ["A"]


def test_it_stays_reported_over_night() -> None:
    scene = Scene(unseen={"A"})
    scene.run(25, **OTHERS)
    scene.unable = {"A"}
    assert scene.run(50, **OTHERS).never_seen == ("A",)


# Silent


def test_what_used_to_tick_and_has_stopped_is_reported_until_it_ticks() -> None:
    scene = Scene()
    scene.run(30, **ALL)
    assert scene.run(59, **OTHERS).silent == ()
    assert scene.run(2, **OTHERS).silent == ("A",)
    assert scene.run(1, **ALL).silent == ()


def test_what_ticks_rarely_is_left_alone_for_as_long_as_its_ways_ask() -> None:
    scene = Scene()
    scene.run(400, A=30, **OTHERS)
    assert scene.run(225, **OTHERS).silent == ()  # its last one came ten seconds before
    assert scene.run(10, **OTHERS).silent == ("A",)


def test_what_nobody_knows_yet_is_left_alone() -> None:
    scene = Scene()
    scene.run(5, **ALL)
    assert scene.run(300, **OTHERS).silent == ()


def test_when_all_peers_are_silent_it_is_not_the_instrument() -> None:
    scene = Scene(groups=(0, 0, 0, 1, 1))
    scene.run(30, **ALL)
    assert scene.run(100, D=1, E=1).silent == ()
    assert Scene(groups=(0, 0, 0, 1, 1)).run(30, **ALL).silent == ()


def test_peers_are_those_with_the_same_hours() -> None:
    scene = Scene(groups=(0, 0, 0, 1, 1))
    scene.run(30, **ALL)
    assert scene.run(61, B=1, C=1, D=1).silent == ("A", "E")


@pytest.mark.parametrize("away_s", [30, 3600])
def test_a_closed_segment_or_a_broken_line_is_no_pause_of_the_instrument(away_s: int) -> None:
    scene = Scene()
    scene.run(30, **ALL)
    scene.unable = set(KEYS)
    assert scene.run(away_s) == Found()
    scene.unable.clear()
    assert scene.run(30, **ALL) == Found()
    assert scene.run(61, **OTHERS).silent == ("A",)  # and has not made it more patient


def test_a_silence_that_was_reported_makes_nobody_more_patient() -> None:
    scene = Scene()
    scene.run(30, **ALL)
    assert scene.run(200, **OTHERS).silent == ("A",)
    assert scene.run(1, **ALL) == Found()  # asked for again, it told its state once
    assert scene.run(61, **OTHERS).silent == ("A",)


def test_a_silence_of_all_makes_nobody_more_patient() -> None:
    scene = Scene()
    scene.run(30, **ALL)
    scene.run(50)
    scene.run(5, **ALL)
    assert scene.run(61, **OTHERS).silent == ("A",)


def test_time_that_jumps_is_time_that_nobody_has_waited() -> None:
    scene = Scene()
    scene.run(30, **ALL)
    scene.now_s += 500
    assert scene.run(50, **OTHERS) == Found()


def test_instruments_come_and_go_and_the_others_keep_their_past() -> None:
    scene = Scene(keys=("A", "B", "C"))
    scene.run(30, **ALL)
    scene.keys = ("B", "A", "E")
    assert scene.run(61, B=1, E=1).silent == ("A",)


def test_fifty_thousand_instruments_are_looked_at_in_a_few_milliseconds() -> None:
    keys = tuple(f"NSE_FO|{number}" for number in range(50_000))
    some = np.zeros(len(keys), bool)
    sight = Sight(keys, np.full(len(keys), START), some, ~some, np.zeros(len(keys), np.int64))
    health = Health(10.0, 60.0)
    health.look(sight, START, 0.0)
    began = time.process_time()
    for number in range(10):
        health.look(sight, START + number * 1000, float(number))
    assert (time.process_time() - began) / 10 < 0.05  # of processor time, once a second
