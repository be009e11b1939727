"""What holds for a paper book whatever the market does and whoever orders what."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.paper.facts import Filled, How
from brokers.paper.seen import Seen, view
from brokers.venue import OrderChange, Refused
from market.sessions import trading_date
from schemas.money import ZERO
from schemas.orders import FINAL, OrderStatus, OrderType, Side, Validity
from tests.brokers.paper_market import CONDUCT, OPTION, T0, Floor, batch, order, tick

_TICK = Decimal("0.05")
_LOT = OPTION.lot_size
DAY = trading_date(T0)

steps = st.integers(-8, 8)
sizes = st.integers(1, 6)
books = st.tuples(
    st.integers(-4, 4),  # the middle
    st.lists(sizes, max_size=5),
    st.lists(sizes, max_size=5),
    st.integers(0, 8),  # traded, lots
    st.integers(-1, 1),  # last price: bid, middle, ask
)
placings = st.tuples(
    st.just("place"),
    st.sampled_from(list(Side)),
    sizes,
    steps,
    st.sampled_from([OrderType.LIMIT, OrderType.SL]),
    st.sampled_from(list(Validity)),
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), books),
        placings,
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("change"), st.integers(0, 5), sizes, steps),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=40,
)


def price(step: int) -> Decimal:
    return 100 + step * _TICK


class Market(Floor):
    """Plays events, and remembers what the market offered."""

    def __init__(self) -> None:
        super().__init__(CONDUCT)
        self.volume = 0
        self.offered: dict[tuple[Side, Decimal], int] = defaultdict(int)  # shown first, and what was added later
        self.showing: dict[tuple[Side, Decimal], int] = {}
        self.traded = 0

    def play(self, event: tuple[Any, ...]) -> None:
        kind, *rest = event
        numbers = [each.venue_order_id for each in self.book.orders]
        if kind == "tick":
            self.show(*rest[0])
        elif kind == "place":
            side, lots, step, order_type, validity = rest
            trigger = str(price(step)) if order_type is OrderType.SL else "0"
            self.place(order(side, lots * _LOT, str(price(step)), kind=order_type, validity=validity, trigger=trigger))
        elif kind == "wait":
            self.now += rest[0]
            self.stand()
        elif numbers:
            self.ask(kind, numbers[rest[0] % len(numbers)], rest[1:])

    def ask(self, kind: str, number: str, rest: list[Any]) -> None:
        try:
            if kind == "cancel":
                self.keep(self.book.cancel(number, self.now))
            else:
                terms = OrderChange("", number, rest[0] * _LOT, OrderType.LIMIT, price(rest[1]), ZERO, Validity.DAY)
                self.keep(self.book.change(terms, OPTION, self.now, self.seen.get(OPTION.key), {}))
                self.stand()
        except Refused:
            assert not self.order(number).is_open or kind == "change"

    def show(self, middle: int, bids: list[int], asks: list[int], lots: int, where: int) -> None:
        bid_levels = [(float(price(middle - 1 - at)), size * _LOT) for at, size in enumerate(bids)]
        ask_levels = [(float(price(middle + 1 + at)), size * _LOT) for at, size in enumerate(asks)]
        self.volume += lots * _LOT
        self.traded += lots * _LOT
        shown = {(Side.BUY, Decimal(str(level))): size for level, size in ask_levels}
        shown |= {(Side.SELL, Decimal(str(level))): size for level, size in bid_levels}
        for place, size in shown.items():
            self.offered[place] += max(size - self.showing.get(place, 0), 0)
        self.showing = shown
        self.ticks(
            tick(
                ts=self.now + 1,
                bids=bid_levels,
                asks=ask_levels,
                ltp=float(price(middle + where)),
                vtt=self.volume,
            )
        )


@settings(deadline=None, max_examples=120)
@given(events)
def test_nothing_is_filled_that_the_market_did_not_show_or_trade(plan: list[tuple[Any, ...]]) -> None:
    market = Market()
    for event in plan:
        market.play(event)
    fills = [fact for fact in market.log if isinstance(fact, Filled)]
    taken: dict[tuple[Side, Decimal], int] = defaultdict(int)
    printed = 0
    for fill in fills:
        placed = market.order(fill.venue_order_id)
        if fill.how is How.PRINTED:
            printed += fill.quantity
        else:
            assert fill.level is not None
            taken[placed.side, fill.level] += fill.quantity
    assert printed <= market.traded
    assert all(taken[place] <= market.offered[place] for place in taken)


@settings(deadline=None, max_examples=120)
@given(events)
def test_orders_add_up_and_keep_their_limits(plan: list[tuple[Any, ...]]) -> None:
    market = Market()
    for event in plan:
        before = {each.venue_order_id: each.price for each in market.book.orders}
        known = len(market.log)
        market.play(event)
        for fact in market.log[known:]:
            if isinstance(fact, Filled):
                placed = market.order(fact.venue_order_id)
                limit = placed.price if event[0] == "change" else before.get(fact.venue_order_id, placed.price)
                assert (limit - fact.price) * placed.side.sign >= 0
    net = 0
    for placed in market.book.orders:
        told = placed.told()
        assert 0 <= told.filled_quantity <= told.quantity
        assert (told.status is OrderStatus.COMPLETE) is (told.filled_quantity == told.quantity)
        assert told.validity is Validity.DAY or told.status in FINAL or placed.is_stop
        net += placed.side.sign * placed.filled
    assert sum(each.quantity for each in market.book.account.positions.values()) == net
    assert net == sum(each.quantity * each.side.sign for each in market.book.trades)


@settings(deadline=None, max_examples=60)
@given(events, st.integers(0, 40))
def test_a_restart_changes_nothing_that_was_told(plan: list[tuple[Any, ...]], cut: int) -> None:
    market = Market()
    for event in plan[:cut]:
        market.play(event)
    again = market.restarted()
    assert [each.told() for each in again.book.orders] == [each.told() for each in market.book.orders]
    assert again.book.trades == market.book.trades
    assert again.book.account == market.book.account
    assert (again.book.seq, again.book.day) == (market.book.seq, market.book.day)
    assert again.book.bound(DAY) == market.book.bound(DAY)


@settings(deadline=None, max_examples=60)
@given(events)
def test_ticks_that_come_again_after_a_restart_fill_nothing_again(plan: list[tuple[Any, ...]]) -> None:
    market = Market()
    for event in plan:
        market.play(event)
    ticks = [event[1] for event in plan if event[0] == "tick"]
    fills = len(market.fills())
    again = market.restarted()
    if not (ticks and fills):
        return
    last_fill = max(fact.ts for fact in market.log if isinstance(fact, Filled))
    middle, bids, asks, _, _ = ticks[-1]
    levels = [[(float(price(middle + sign * (1 + at))), size * _LOT) for at, size in enumerate(side)]
              for sign, side in ((-1, bids), (1, asks))]  # fmt: skip
    again.ticks(tick(ts=last_fill, bids=levels[0], asks=levels[1], vtt=market.volume + 1000))
    assert len(again.fills()) == fills


@settings(deadline=None, max_examples=60)
@given(events)
def test_a_flat_account_has_what_its_trades_left(plan: list[tuple[Any, ...]]) -> None:
    market = Market()
    for event in plan:
        market.play(event)
    fills = [fact for fact in market.log if isinstance(fact, Filled)]
    position = next(iter(market.book.account.positions.values()), None)
    flow = sum((-market.order(f.venue_order_id).side.sign * f.price * f.quantity for f in fills), ZERO)
    charges = sum((f.charges.total for f in fills), ZERO)
    cost = position.cost if position else ZERO
    assert abs(market.book.account.cash - (CONDUCT.capital + flow + cost - charges)) < Decimal("1e-12")
    if position and not position.quantity:
        assert abs(position.realised - (position.sell_value - position.buy_value)) < Decimal("1e-12")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), st.booleans()), min_size=1, max_size=6)))
def test_the_last_record_of_an_instrument_is_kept_however_old_its_batch(
    frames: list[list[tuple[int, int, bool]]],
) -> None:
    seen = Seen()
    expected: dict[Any, Any] = {}
    for number, frame in enumerate(frames):
        ts = T0 + number * 4000
        ticks = []
        for which, size, has_depth in frame:
            levels = [(99.95, size), (99.9, size + 1)] if has_depth else None
            ticks.append(tick(f"NSE_FO|{which}", ts, bids=levels, asks=levels and [(100.05, size)], ltp=size / 20))
        came = batch(*ticks)
        seen.keep(came, came.rec["id"].tolist())
        expected |= {came.rec["id"][at]: view(came, at) for at in range(len(frame))}
    assert all(seen.of_id(int(number)) == last for number, last in expected.items())
    seen.forget()
    assert all(seen.of_id(int(number)) is None for number in expected)
