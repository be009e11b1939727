"""The paper venue on a real Postgres: what is told is stored, what is stored survives, what is not never happened."""

import time
from decimal import Decimal

import pytest

from brokers.paper.venue import PaperVenue
from brokers.venue import CONNECTED, Lost, NotSent, OrderChange, Refused, VenueOrder, VenueTrade
from schemas.errors import LeaseLost, Unavailable
from schemas.orders import OrderStatus, OrderType, Product, Side, TradingMode, Validity
from schemas.ticks import FeedMark, pack_mark, unpack
from tests.brokers.paper_house import House, heard, house, until
from tests.brokers.paper_market import FUTURE, OPTION, SHARE, T0, Levels, batch, order, tick

BIDS: Levels = [(99.95, 130), (99.9, 260)]
ASKS: Levels = [(100.05, 130), (100.1, 260)]
HOUR = 3_600_000


def mark(ts: int, feed: bytes) -> object:
    fields = pack_mark(ts, 0, feed=feed)
    return unpack({name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()})


def book(venue: PaperVenue, ts: int = T0, key: str = OPTION.key, ltp: float = 100.0) -> None:
    venue.feed(batch(tick(key, ts, bids=BIDS, asks=ASKS, ltp=ltp)))


async def test_an_order_and_its_fills_are_stored_before_they_are_told(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue, venue.updates() as updates:
        book(venue)
        number = await venue.place(order(Side.BUY, 195, "100.10", tag="tj1"))
        assert ("placed", "tj1") in await home.rows()
        told = await heard(updates, 6)
        assert told[0] is CONNECTED
        assert [type(each) for each in told[1:]] == [VenueOrder, VenueTrade, VenueOrder, VenueTrade, VenueOrder]
        assert [kind for kind, _ in await home.rows()] == ["opened", "placed", "filled", "filled"]
        last = told[-1]
        assert isinstance(last, VenueOrder)
        assert (last.venue_order_id, last.tag, last.status) == (number, "tj1", OrderStatus.COMPLETE)
        assert list(await venue.orders()) == [last]
        assert [trade.price for trade in await venue.trades()] == [Decimal("100.05"), Decimal("100.1")]


async def test_no_day_begins_before_the_venue_has_told_the_time(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        assert (list(await venue.orders()), list(await venue.positions())) == ([], [])
        assert (await venue.funds()).available == home.settings.teji_capital
        assert await home.rows() == []
        book(venue)
        await venue.orders()
        assert await home.rows() == [("opened", "")]


async def test_the_book_survives(postgres_url: str) -> None:
    async with house(postgres_url) as home:
        async with home.venue() as venue:
            book(venue)
            await venue.place(order(Side.BUY, 455, "100.10", tag="tj1"))
            await venue.place(order(Side.SELL, 65, "98", trigger="99", kind=OrderType.SL, tag="tj2"))
            before = [await venue.orders(), await venue.trades(), await venue.positions(), await venue.funds()]
        async with home.venue() as venue:
            book(venue, T0 + 1)
            after = [await venue.orders(), await venue.trades(), await venue.positions(), await venue.funds()]
            assert after == before
            book(venue, T0 + 2, ltp=99.0)
            assert (await venue.tagged("tj2"))[0].status is OrderStatus.COMPLETE
            assert list(await venue.tagged("tj3")) == []


async def test_accounts_do_not_see_each_other(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as paper, home.venue(TradingMode.SHADOW) as shadow:
        await paper.place(order(price="90", tag="tj1"))
        await shadow.place(order(price="91", tag="tj1"))
        assert [each.price for each in await paper.orders()] == [Decimal(90)]
        assert [each.price for each in await shadow.orders()] == [Decimal(91)]
        assert (paper.capabilities.venue, shadow.capabilities.venue) == ("paper", "shadow")


async def test_the_same_tag_never_makes_two_orders(postgres_url: str) -> None:
    async with house(postgres_url) as home:
        async with home.venue() as venue:
            number = await venue.place(order(price="90", tag="tj1"))
            assert await venue.place(order(price="90", tag="tj1")) == number
        home.clock.ms = T0 + 3 * 24 * HOUR
        async with home.venue() as venue:
            (left,) = await venue.orders()  # nobody has told the venue's time yet
            assert left.status is OrderStatus.OPEN
            venue.feed(mark(home.clock.ms, FeedMark.LIVE))
            assert list(await venue.orders()) == []
            with pytest.raises(Refused, match="earlier day"):
                await venue.place(order(price="90", tag="tj1"))
            (told,) = await venue.tagged("tj1")
            assert (told.venue_order_id, told.status) == (number, OrderStatus.CANCELLED)
            assert told.reason == "the session ended"


@pytest.mark.parametrize("lost", ["lose_requests", "lose_replies"])
async def test_a_write_whose_answer_is_lost_is_written_once(postgres_url: str, lost: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        await venue.orders()
        setattr(home.wire, lost, 1)
        await venue.place(order(price="90", tag="tj1"))
        assert await home.rows() == [("opened", ""), ("placed", "tj1")]


async def test_while_postgres_is_away_nobody_is_told_anything(postgres_url: str) -> None:
    async with house(postgres_url, teji_order_timeout_s=0.1) as home:
        async with home.venue() as venue:
            book(venue)
            await venue.place(order(Side.BUY, 260, "99.00", tag="tj0"))
            home.wire.lose_requests = 1_000_000
            with pytest.raises(Lost):
                await venue.place(order(Side.BUY, 65, "100.05", tag="tj1"))
            with pytest.raises(Unavailable):
                await venue.tagged("tj1")
            with pytest.raises(Unavailable):
                await venue.positions()
            home.wire.is_away = True
            with pytest.raises(NotSent):
                await venue.place(order(Side.BUY, 65, "100.05", tag="tj2"))
            home.wire.is_away, home.wire.lose_requests = False, 0

            async def known() -> bool:
                try:
                    return [each.status for each in await venue.tagged("tj1")] == [OrderStatus.COMPLETE]
                except Unavailable:
                    return False

            await until(known)
            assert list(await venue.tagged("tj2")) == []
        assert [kind for kind, tag in await home.rows() if tag == "tj1"] == ["placed", "filled"]


async def crash(home: House) -> None:
    async with home.venue() as venue:
        await venue.orders()
        home.wire.lose_requests = 1_000_000
        with pytest.raises(Lost):
            await venue.place(order(price="90", tag="tj1"))
        raise RuntimeError("crash")


async def test_what_a_crash_forgets_has_not_happened(postgres_url: str) -> None:
    async with house(postgres_url, teji_order_timeout_s=0.1) as home:
        with pytest.raises(RuntimeError, match="crash"):
            await crash(home)
        home.wire.lose_requests = 0
        async with home.venue() as venue:
            assert list(await venue.tagged("tj1")) == []
            assert await venue.place(order(price="90", tag="tj1"))


async def fork(home: House, venue: PaperVenue) -> None:
    async with home.venue() as other:
        await venue.place(order(price="90", tag="tj2"))
        await other.place(order(price="90", tag="tj3"))


async def test_two_processes_cannot_fork_a_book(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        await venue.place(order(price="90", tag="tj1"))
        with pytest.raises(LeaseLost):
            await fork(home, venue)
        await venue.place(order(price="90", tag="tj4"))
        assert [tag for kind, tag in await home.rows() if kind == "placed"] == ["tj1", "tj2", "tj4"]


async def test_latency_runs_out_though_nothing_ticks(postgres_url: str) -> None:
    async with house(postgres_url, teji_paper_latency_ms=20) as home, home.venue() as venue, venue.updates() as told:
        book(venue)
        home.clock.ms = T0 + 5
        await venue.place(order(Side.BUY, 65, "100.05"))
        assert (await venue.orders())[0].status is OrderStatus.OPEN
        home.clock.ms = T0 + 40
        assert isinstance((await heard(told, 3))[-1], VenueTrade)


async def test_a_book_that_is_not_fed_any_more_fills_nothing(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        book(venue)
        venue.feed(mark(T0 + 1, FeedMark.DOWN))
        await venue.place(order(Side.BUY, 65, "100.05"))
        assert list(await venue.trades()) == []
        book(venue, T0 + 2)
        assert len(await venue.trades()) == 1


async def test_time_that_only_heartbeats_tell_ends_orders(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue, venue.updates() as updates:
        book(venue)
        await venue.place(order(price="90"))
        venue.feed(mark(T0 + 5 * HOUR, FeedMark.LIVE))
        last = (await heard(updates, 3))[-1]
        assert isinstance(last, VenueOrder)
        assert (last.status, last.reason) == (OrderStatus.CANCELLED, "the session ended")


async def test_bought_shares_are_held_the_next_day(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        book(venue, key=SHARE.key)
        await venue.place(order(Side.BUY, 100, "100.10", key=SHARE.key, product=Product.DELIVERY))
        (position,) = await venue.positions()
        assert (position.quantity, position.average_price) == (100, Decimal("100.05"))
        monday = T0 + 3 * 24 * HOUR
        book(venue, monday, key=SHARE.key)
        home.clock.ms = monday
        (holding,) = await venue.holdings()
        assert (holding.isin, holding.quantity, holding.average_price) == ("INE002A01018", 100, Decimal("100.05"))
        assert list(await venue.positions()) == []
        await venue.place(order(Side.SELL, 60, "99.90", key=SHARE.key, product=Product.DELIVERY, tag="a"))
        await venue.place(order(Side.SELL, 60, "99.90", key=SHARE.key, product=Product.DELIVERY, tag="b"))
        assert "40 held" in (await venue.tagged("b"))[0].reason
        tuesday = monday + 2 * 24 * HOUR
        book(venue, tuesday, key=SHARE.key)
        home.clock.ms = tuesday
        assert [each.quantity for each in await venue.holdings()] == [40]


async def test_contracts_that_have_ended_are_settled_at_their_last_price(postgres_url: str) -> None:
    async with house(postgres_url, teji_brokerage="none") as home, home.venue() as venue:
        book(venue)
        await venue.place(order(Side.BUY, 65, "100.05"))
        book(venue, T0 + 1, ltp=150.0)
        before = await venue.funds()
        later = T0 + 5 * 24 * HOUR
        home.clock.ms = later
        venue.feed(mark(later, FeedMark.LIVE))
        assert list(await venue.positions()) == []
        after = await venue.funds()
        assert after.available - before.available == 65 * Decimal("150.00")


async def test_funds_follow_orders_and_positions(postgres_url: str) -> None:
    async with house(postgres_url, teji_brokerage="none", teji_capital=1_000_000) as home, home.venue() as venue:
        start = await venue.funds()
        assert (start.available, start.used) == (Decimal(1_000_000), Decimal(0))
        assert "estimate" in start.details["note"]
        await venue.place(order(Side.BUY, 65, "90", tag="a"))
        assert (await venue.funds()).used == 65 * 90
        await venue.cancel((await venue.orders())[0].venue_order_id)
        assert (await venue.funds()).used == 0
        sold = order(Side.SELL, 65, "100")
        assert await venue.margin([sold]) == Decimal("0.12") * 65 * 24000
        assert await venue.margin([sold, order(Side.BUY, 65, "90")]) == 0
        future = order(Side.BUY, 65, "24000", key=FUTURE.key)
        assert await venue.margin([future]) == Decimal("0.12") * 65 * 24000


async def test_an_order_is_changed_and_cancelled(postgres_url: str) -> None:
    async with house(postgres_url) as home, home.venue() as venue:
        book(venue)
        number = await venue.place(order(price="90", tag="tj1"))
        change = OrderChange("tj1", number, 130, OrderType.LIMIT, Decimal("91"), Decimal(0), Validity.DAY)
        await venue.modify(change)
        (told,) = await venue.tagged("tj1")
        assert (told.quantity, told.price, told.version) == (130, Decimal(91), 1)
        await venue.cancel(number)
        with pytest.raises(Refused, match="UDAPI100040"):
            await venue.cancel(number)
        with pytest.raises(Refused, match="UDAPI100041"):
            await venue.modify(change)
        with pytest.raises(Refused, match="UDAPI100010"):
            await venue.modify(OrderChange("", "1", 65, OrderType.LIMIT, Decimal(1), Decimal(0), Validity.DAY))


async def test_ticks_cost_nearly_nothing_where_nothing_is_ordered(postgres_url: str) -> None:
    """CPU time of batches of a hundred full ticks; the bound is ten times what a slow machine needs."""
    keys = [f"NSE_FO|{number}" for number in range(100)]
    wide: Levels = [(99.95 - 0.05 * at, 130) for at in range(5)]
    many = [batch(*(tick(key, T0 + at, bids=wide, asks=ASKS) for key in keys)) for at in range(20)]
    async with house(postgres_url) as home, home.venue() as venue:
        book(venue)
        await venue.place(order(price="90"))
        started = time.process_time()
        for _ in range(10):
            for each in many:
                venue.feed(each)
        assert time.process_time() - started < 0.2  # 1 ms a batch


async def test_a_days_log_is_read_in_a_moment(postgres_url: str) -> None:
    async with house(postgres_url) as home:
        async with home.venue() as venue:
            book(venue)
            for number in range(150):
                await venue.place(order(price="1" if number % 2 else "90", tag=f"tj{number}"))
            await home.pool.execute(
                "INSERT INTO paper_log (account, seq, ts, kind, tag, data) SELECT 'shadow', seq, ts, kind, tag, data"
                " FROM paper_log WHERE account = 'paper'"
            )
        started = time.process_time()
        async with home.venue(TradingMode.SHADOW) as venue:
            took = time.process_time() - started
            assert len(await venue.orders()) == 150
        assert took < 0.2
