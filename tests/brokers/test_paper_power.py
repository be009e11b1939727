"""The power goes at every write of a day of paper trading, before it arrives or after. Nothing is lost or doubled."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from brokers.paper.facts import Filled, Placed, read
from brokers.venue import NewOrder, Update, VenueTrade
from schemas.orders import OrderStatus, OrderType, Side, Validity
from tests.brokers.paper_house import House, Wire, house
from tests.brokers.paper_market import T0, Levels, batch, order, tick

_BIDS: Levels = [(99.95, 130), (99.9, 260)]
_ASKS: Levels = [(100.05, 130), (100.1, 130)]

#: Ticks and orders of a day, in the order of time.
_DAY: Sequence[NewOrder | tuple[Levels, Levels, float, int]] = [
    (_BIDS, _ASKS, 100.0, 10_000),
    order(Side.BUY, 195, "100.10", tag="tj1"),
    (_BIDS, _ASKS, 100.05, 10_065),
    order(Side.BUY, 195, "100.10", tag="tj2"),  # 65 are left
    order(Side.SELL, 65, "99.00", trigger="99.50", kind=OrderType.SL, tag="tj3"),
    order(Side.BUY, 130, "99.90", tag="tj4"),
    (_BIDS, [(100.1, 195), (100.15, 65)], 100.1, 10_130),  # 65 more at 100.1
    (_BIDS[1:], _ASKS, 99.85, 10_195),  # 65 through 99.9
    order(Side.BUY, 65, "100.05", validity=Validity.IOC, tag="tj5"),
    ([(99.4, 65)], [(99.6, 65)], 99.45, 10_260),
]
#: What the day shows of a level: first, added later, and again after it was gone.
_SHOWN = {
    (Side.BUY, Decimal("100.05")): 130 + 130,
    (Side.BUY, Decimal("100.1")): 130 + 65,
    (Side.BUY, Decimal("99.6")): 65,
    (Side.SELL, Decimal("99.4")): 65,
}
_TAGS = ["tj1", "tj2", "tj3", "tj4", "tj5"]


class PowerCut(BaseException):
    pass


class CutWire(Wire):
    """Ends the process at its n-th write."""

    def __init__(self, pool: Any, cut_at: int, arrives: bool) -> None:
        super().__init__(pool)
        self.cut_at, self.arrives = cut_at, arrives

    async def acquire(self, timeout: float) -> Any:
        line = await super().acquire(timeout)
        plain = line.execute

        async def execute(sql: str, *arguments: Any) -> Any:
            if self.writes < self.cut_at:
                return await plain(sql, *arguments)
            if self.arrives:
                await plain(sql, *arguments)
            raise PowerCut

        line.execute = execute
        return line


async def play(home: House, told: list[Update]) -> None:
    """As the order worker does: from the last tick that it is sure of, asking for each order before it is sent."""
    async with home.venue() as venue, venue.updates() as updates:
        for number, event in enumerate(_DAY):
            home.clock.ms = max(home.clock.ms, T0 + number * 1000)
            if isinstance(event, NewOrder):
                if not await venue.tagged(event.order_id):
                    await venue.place(event)
            else:
                bids, asks, ltp, vtt = event
                venue.feed(batch(tick(ts=T0 + number * 1000, bids=bids, asks=asks, ltp=ltp, vtt=vtt)))
            await venue.orders()  # all that happened so far is stored
            venue._listeners.tell(_END)
            async for update in updates:
                if update is _END:
                    break
                told.append(update)


_END: Any = object()


async def filled(home: House) -> tuple[dict[str, int], dict[tuple[Side, Decimal], int], list[str]]:
    """By tag; by level that was taken; and the ids of all trades."""
    rows = await home.pool.fetch("SELECT data FROM paper_log ORDER BY seq")
    facts = [read(row["data"]) for row in rows]
    placed = {fact.venue_order_id: fact for fact in facts if isinstance(fact, Placed)}
    assert sorted(fact.tag for fact in placed.values()) == _TAGS
    by_tag: dict[str, int] = defaultdict(int)
    by_level: dict[tuple[Side, Decimal], int] = defaultdict(int)
    trades = []
    for fact in facts:
        if isinstance(fact, Filled):
            by_tag[fact.tag] += fact.quantity
            trades.append(fact.trade_id)
            if fact.level is not None:
                by_level[placed[fact.venue_order_id].side, fact.level] += fact.quantity
    return dict(by_tag), dict(by_level), trades


async def writes(url: str) -> int:
    async with house(url) as home:
        await play(home, [])
        by_tag, by_level, _ = await filled(home)
        assert by_tag == {"tj1": 195, "tj2": 195, "tj3": 65, "tj4": 130, "tj5": 65}
        assert all(units <= _SHOWN[level] for level, units in by_level.items())
        return home.wire.writes


@pytest.mark.parametrize("arrives", [False, True])
async def test_the_power_goes_at_every_write(postgres_url: str, arrives: bool) -> None:
    count = await writes(postgres_url)
    assert count >= 8
    async with house(postgres_url) as home:
        for cut_at in range(count):
            await home.pool.execute("TRUNCATE paper_log")
            told: list[Update] = []
            home.wire = CutWire(home.pool, cut_at, arrives)
            with pytest.raises(PowerCut):
                await play(home, told)
            home.wire = Wire(home.pool)
            await play(home, told)
            by_tag, by_level, trades = await filled(home)
            assert all(units <= _SHOWN[level] for level, units in by_level.items()), cut_at
            assert all(by_tag.get(each.order_id, 0) <= each.quantity for each in _DAY if isinstance(each, NewOrder))
            assert {update.trade_id for update in told if isinstance(update, VenueTrade)} <= set(trades), cut_at
            assert len(set(trades)) == len(trades)
            async with home.venue() as venue:
                states = {each.tag: each for each in await venue.orders()}
                assert {tag: each.filled_quantity for tag, each in states.items() if each.filled_quantity} == by_tag
                assert states["tj5"].status in (OrderStatus.CANCELLED, OrderStatus.COMPLETE)
