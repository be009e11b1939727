"""Price limits of the day: asked for once, in the background, and never waited for by an exit."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from brokers.upstox.outcome import Denied
from gtt.band_reader import BandReader
from gtt.book.book import Book
from gtt.desk.bands import WAIT_MS, Bands
from gtt.desk.desk import Desk
from schemas.errors import Unavailable
from schemas.orders import TradingMode
from tests.conftest import settings_in
from tests.gtt.fake import CAN, KEY, SHARE, START_MS, Market, World

TODAY, TOMORROW = date(2026, 11, 20), date(2026, 11, 21)
A, B = "NSE_EQ|A", "NSE_EQ|B"
LIMITS = (Decimal(90), Decimal(110))


def test_limits_are_of_their_day() -> None:
    bands = Bands()
    assert bands.due(START_MS, TODAY, [A, B]) == [A, B]
    bands.told([A, B], {A: LIMITS}, TODAY, START_MS)
    assert bands.of(A, TODAY) == LIMITS
    assert bands.of(A, TOMORROW) is bands.of(B, TODAY) is None
    assert bands.due(START_MS + 1_000, TODAY, [A, B]) == []
    assert bands.due(START_MS + 1_000, TOMORROW, [A]) == [A]


def test_what_is_traded_is_asked_about_again_as_limits_are_widened() -> None:
    bands = Bands()
    bands.told([A], {A: LIMITS}, TODAY, START_MS)
    assert bands.due(START_MS + 299_000, TODAY, [A]) == []
    assert bands.due(START_MS + 300_000, TODAY, [A]) == [A]
    assert bands.of(A, TODAY) == LIMITS


def test_what_entries_name_comes_first_and_the_rest_with_the_next_question() -> None:
    bands = Bands()
    bands.want(B)
    many = [f"NSE_FO|{number}" for number in range(700)]
    first = bands.due(START_MS, TODAY, many)
    assert (first[0], len(first)) == (B, 500)
    bands.told(first, {}, TODAY, START_MS)
    assert set(bands.due(START_MS + 50, TODAY, ())) == set(many) - set(first)


def test_an_entry_waits_a_moment_and_not_at_all_where_nobody_answers() -> None:
    bands = Bands()
    assert bands.waits("i", A, TODAY, START_MS)
    assert bands.waits("i", A, TODAY, START_MS + WAIT_MS - 1)
    assert not bands.waits("i", A, TODAY, START_MS + WAIT_MS)
    assert bands.waits("j", A, TODAY, START_MS)
    asked = bands.due(START_MS, TODAY, ())
    bands.failed(asked, START_MS)
    assert not bands.waits("j", A, TODAY, START_MS)
    assert bands.due(START_MS + 4_999, TODAY, ()) == []
    assert bands.due(START_MS + 5_000, TODAY, ()) == [A]
    bands.told([A], {}, TODAY, START_MS)
    assert not bands.waits("k", A, TODAY, START_MS)  # it has none


@dataclass(frozen=True)
class Limited:
    lower: Decimal | None
    upper: Decimal | None


class Venue:
    def __init__(self, *, broken: bool = False) -> None:
        self.asked: list[list[str]] = []
        self.broken = broken
        self.come = asyncio.Event()

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Limited]:
        self.asked.append(list(keys))
        self.come.set()
        if self.broken:
            raise Unavailable("away")
        return {KEY: Limited(*LIMITS), "NSE_EQ|other": Limited(None, None)}


@pytest.mark.parametrize("broken", [False, True])
async def test_they_are_read_in_the_background(tmp_path: Path, broken: bool) -> None:
    settings = settings_in(tmp_path, teji_calendar="always")
    desk = Desk(Book(), Market(settings), settings, {TradingMode.PAPER: CAN})
    desk.here.now_ms = START_MS
    venue, told, over = Venue(broken=broken), asyncio.Event(), asyncio.Event()
    reader = BandReader(venue, desk.here, told.set)
    running = asyncio.create_task(reader.run(over))
    desk.here.bands.want(KEY)
    desk.here.bands.want("NSE_EQ|unknown")
    async with asyncio.timeout(5):
        await told.wait()
        over.set()
        await running
    assert venue.asked == [[KEY]]
    assert desk.here.bands.of(KEY, desk.here.today) == (None if broken else LIMITS)


class Picky(Venue):
    """Turns a question down in which one name is wrong."""

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Limited]:
        self.asked.append(list(keys))
        if "NSE_EQ|4" in keys:
            raise Denied(400, "UDAPI1087", "invalid")
        return {key: Limited(*LIMITS) for key in keys}


async def test_one_wrong_name_does_not_keep_the_others_from_their_limits(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, teji_calendar="always")
    market = Market(settings)
    market.instrument = lambda key: SHARE  # type: ignore[method-assign]
    desk = Desk(Book(), market, settings, {TradingMode.PAPER: CAN})
    desk.here.now_ms = START_MS
    keys = [f"NSE_EQ|{number}" for number in range(6)]
    reader = BandReader(Picky(), desk.here, lambda: None)
    await reader._ask(keys)
    known = {key for key in keys if desk.here.bands.of(key, desk.here.today)}
    assert known == set(keys) - {"NSE_EQ|4"}
    assert desk.here.bands.due(START_MS, desk.here.today, keys) == []


class Limiting(Market):
    """With limits, once they are known."""

    known = False

    def band(self, _: str) -> tuple[Decimal, Decimal] | None:
        return LIMITS if self.known else None


def _world(tmp_path: Path, **more: Any) -> World:
    world = World(tmp_path, **more)
    world.market.__class__ = Limiting
    return world


def test_a_paper_entry_does_not_wait_and_its_limits_are_wanted(tmp_path: Path) -> None:
    world = _world(tmp_path)
    world.go(300)
    world.buy("a", 5)
    world.go(100)
    assert len(world.exchange.placed) == 1
    assert world.desk.here.bands.due(world.now_ms, TODAY, ()) == [KEY]
    (approved,) = [row for row in map(_checks, world.paper.rows) if row]
    assert approved["band"] == "not known"


def _checks(row: tuple[int, bytes]) -> dict[str, str]:
    fact = orjson.loads(row[1])
    return {check["rule"]: check["verdict"] for check in fact["checks"]} if fact["kind"] == "approved" else {}


def test_what_is_known_counts(tmp_path: Path) -> None:
    world = _world(tmp_path)
    world.go(300)
    world.market.known = True  # type: ignore[attr-defined]
    world.buy("a", 5, price=111)
    world.go(100)
    assert world.replies == {"a": [False]}
    assert world.desk.book.commands["a"].rule == "band"


def test_a_chase_stays_inside_the_limits(tmp_path: Path) -> None:
    world = _world(tmp_path, teji_leftover="chase", teji_leftover_s=1)
    world.go(300)
    world.market.known = True  # type: ignore[attr-defined]
    world.buy("a", 5, order_type="MARKET", price=0)
    world.go(200)
    world.market.prices[KEY] = 109.9
    world.go(2_000)
    assert world.exchange.orders["V1"].price == 110
