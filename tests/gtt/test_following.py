"""What the feed has to carry, and what is done where it does not."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtt.desk.following import Ask, Following, Told, needed
from schemas.commands import FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe, Mode
from schemas.orders import TradingMode
from schemas.signals import Signal, SignalSide
from tests.gtt.fake import KEY, PAPER, START_MS, World

A, B = "NSE_EQ|A", "NSE_EQ|B"


def always(_: str) -> bool:
    return True


def keys_of(asks: list[Ask]) -> list[str]:
    return [key for ask in asks for key in ask.keys]


class Feed:
    """Ingest, as far as it matters: obeys, and sends a snapshot of what is new."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.following = Following()
        self.ts: dict[str, int] = {}
        self.asked: list[Ask] = []
        self.told: list[Told] = []

    def look(self, wanted: set[str], after_ms: int = 100, is_open: Callable[[str], bool] = always) -> list[str]:
        self.now_ms += after_ms
        asks, told = self.following.due(self.now_ms, wanted, lambda key: self.ts.get(key, 0), is_open)
        self.asked += asks
        self.told += told
        return keys_of(asks)

    def obey(self) -> None:
        for ask in self.asked:
            self.following.heard(FeedSubscribe(instruments=list(ask.keys), mode=ask.mode))
            self.ts |= dict.fromkeys(ask.keys, self.now_ms)
        self.asked.clear()


def test_what_has_no_price_is_asked_for_again_and_again_and_then_a_person_is_told() -> None:
    feed = Feed()
    gaps, last = [], feed.now_ms
    for _ in range(1_500):
        if feed.look({A}):
            gaps.append(feed.now_ms - last)
            last = feed.now_ms
    assert [round(gap / 1000) for gap in gaps[:6]] == [0, 5, 10, 20, 40, 60]
    assert [told.key for told in feed.told] == [A]
    assert feed.told[0].message == f"traded, and no price of it comes: nothing that waits for one can fire: {A}"

    feed.obey()
    assert not feed.look({A}, 100_000)
    assert not feed.look({A}, 100_000)


def test_what_has_no_price_outside_of_its_hours_is_no_news() -> None:
    feed = Feed()
    for _ in range(1_000):
        feed.look({A}, is_open=lambda _: False)
    assert not feed.told


def test_whoever_takes_a_needed_instrument_out_of_the_feed_is_overruled_and_a_person_is_told_once() -> None:
    feed = Feed()
    feed.ts[A] = 1
    assert not feed.look({A})
    feed.following.heard(FeedUnsubscribe(instruments=[A, B]))
    assert feed.look({A}) == [A]
    assert feed.look({A}) == []  # on its way
    feed.obey()
    assert feed.look({A}) == []
    feed.following.heard(FeedUnsubscribe(instruments=[A]))
    assert feed.look({A}) == [A]
    assert [told.key for told in feed.told] == [A]
    assert feed.look({A, B}) == [B]  # needed only now


def test_the_mode_that_somebody_chose_is_kept() -> None:
    feed = Feed()
    feed.following.mode = Mode.OPTION_GREEKS
    feed.following.heard(FeedSubscribe(instruments=[A], mode=Mode.FULL))
    feed.look({A, B})
    assert {ask.mode: ask.keys for ask in feed.asked} == {Mode.FULL: (A,), Mode.OPTION_GREEKS: (B,)}
    assert len({ask.command_id for ask in feed.asked}) == 2


def test_silence_in_an_open_market_is_doubted_and_at_night_it_is_not() -> None:
    feed = Feed()
    feed.ts[A] = 1
    feed.look({A})
    assert feed.look({A}, 130_000, lambda _: False) == []
    assert feed.look({A}) == [A]
    assert feed.look({A}, 100_000) == []
    assert feed.look({A}, 100_000) == [A]
    feed.ts[A] = 2
    assert feed.look({A}) == []
    assert not feed.told


def test_what_was_known_before_the_start_and_has_not_ticked_since_is_doubted_soon() -> None:
    feed = Feed()
    feed.following.seeded = {A: 5, B: 5}
    feed.ts |= {A: 5, B: 6}
    assert feed.look({A, B}) == []
    assert feed.look({A, B}, 16_000) == [A]


def test_after_an_interruption_silence_is_doubted_soon() -> None:
    feed = Feed()
    feed.ts |= {A: 1, B: 1}
    feed.look({A, B})
    feed.following.interrupted(feed.now_ms)
    assert feed.look({A, B}, 10_000) == []
    feed.ts[A] = 2
    assert feed.look({A, B}, 6_000) == [B]
    assert feed.look({A, B}, 6_000) == []


def test_a_feed_that_a_person_has_switched_off_stays_off_and_says_what_that_means() -> None:
    feed = Feed()
    feed.ts[A] = 1
    feed.following.heard(FeedDisconnect())
    assert feed.look({A}) == feed.look({A}, 500_000) == []
    assert [told.message for told in feed.told] == [
        "the feed is switched off: 1 instruments that are traded have no prices"
    ]
    feed.following.heard(FeedConnect())
    assert feed.look({A}) == [A]


def test_many_are_asked_for_in_parts_and_the_same_question_has_the_same_id() -> None:
    keys = {f"NSE_FO|{number}" for number in range(1_200)}
    first, second = Feed(), Feed()
    assert sorted(first.look(keys)) == sorted(keys) == sorted(second.look(keys))
    assert [len(ask.keys) for ask in first.asked] == [500, 500, 200]
    assert [ask.command_id for ask in first.asked] == [ask.command_id for ask in second.asked]
    assert len({ask.command_id for ask in first.asked}) == 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sub"), st.sampled_from([A, B])),
        st.tuples(st.just("unsub"), st.sampled_from([A, B])),
        st.tuples(st.just("tick"), st.sampled_from([A, B])),
        st.tuples(st.just("look"), st.sampled_from([100, 5_000, 70_000])),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_in_the_end_everything_needed_is_followed_whatever_others_did(steps: list[Any]) -> None:
    feed = Feed()
    carried: set[str] = set()
    for what, value in steps:
        if what == "look":
            feed.look({A, B}, value)
        elif what == "tick" and value in carried:
            feed.ts[value] = feed.now_ms
        elif what in ("sub", "unsub"):
            command = FeedSubscribe if what == "sub" else FeedUnsubscribe
            feed.following.heard(command(instruments=[value]))
            carried = carried | {value} if what == "sub" else carried - {value}
            if what == "sub":
                feed.ts[value] = feed.now_ms
    for _ in range(40):
        carried |= set(feed.look({A, B}, 5_000))
        feed.obey()
    assert carried == {A, B}


# With the desk


def test_needed_is_what_is_held_worked_or_guarded(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(500)
    assert needed(world.desk.book, [PAPER]) == set()
    world.buy("a", 5)
    world.go(500)
    assert needed(world.desk.book, [PAPER]) == {KEY}
    assert needed(world.desk.book, [TradingMode.LIVE]) == set()
    world.exchange.fill("V1", 5)
    world.go(500)
    assert needed(world.desk.book, [PAPER]) == {KEY}
    world.command("x", kind="position.exit")
    world.go(500)
    world.exchange.fill(world.exchange.live()[0].venue_order_id, 5)
    world.go(5_000)
    assert needed(world.desk.book, [PAPER]) == set()
    rules = [{"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 150}]
    body = {"type": "SINGLE", "quantity": 1, "product": "I", "instrument_token": KEY, "transaction_type": "BUY"}
    world.command("g", kind="gtt.place", body={**body, "rules": rules})
    world.go(500)
    assert needed(world.desk.book, [PAPER]) == {KEY}


def test_an_entry_waits_a_moment_for_the_first_price_of_its_instrument(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(500)
    price = world.market.prices.pop(KEY)
    world.buy("a", 5, order_type="MARKET", price=0)
    world.go(1_000)
    assert not world.replies
    assert world.desk.here.following.waiting == {KEY}
    world.market.prices[KEY] = price
    world.go(500)
    assert len(world.exchange.placed) == 1


@pytest.mark.parametrize("kind", ["MARKET", "LIMIT"])
def test_where_no_price_comes_the_entry_is_decided_all_the_same(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path)
    world.go(500)
    del world.market.prices[KEY]
    world.buy("a", 5, order_type=kind, price=100 if kind == "LIMIT" else 0)
    world.go(2_500)
    assert not world.replies
    world.go(1_500)
    if kind == "LIMIT":  # it names its own
        assert len(world.exchange.placed) == 1
        return
    assert world.replies == {"a": [False]}
    told = world.desk.book.commands["a"]
    assert (told.rule, told.reason) == ("price", "no price is known to protect a market order with")


def test_a_signal_without_a_price_is_refused_in_words_and_an_exit_never_waits(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(500)
    del world.market.prices[KEY]
    about: dict[str, Any] = {"strategy": "s", "instrument": KEY, "ts": 1}
    enter = Signal(id="in", side=SignalSide.BUY, quantity=1, stop_loss=Decimal(90), **about)
    leave = Signal(id="out", side=SignalSide.EXIT, **about)
    assert world.desk.signal(world.now_ms, leave, world.now_ms)
    entry_ms = world.now_ms
    assert not world.desk.signal(world.now_ms, enter, entry_ms)
    assert world.desk.signal(world.now_ms + 3_000, enter, entry_ms)
    refused = [row.fact for row in world.desk.take().rows if row.fact.kind == "refused"]
    assert [fact.refusal.rule for fact in refused] == ["position", "price"]


def test_where_the_market_is_closed_nothing_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(500)
    del world.market.prices[KEY]
    world.market.always_open = False
    sunday_ms = 1_763_879_400_000  # a Sunday
    world.market.market_ms = lambda now_ms: sunday_ms + now_ms - START_MS  # type: ignore[method-assign]
    world.buy("a", 5, order_type="MARKET", price=0)
    world.go(100)
    assert world.desk.book.commands["a"].rule == "session"


def test_an_exit_at_a_limit_does_not_wait_for_a_price(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(500)
    world.buy("a", 5)
    world.go(500)
    world.exchange.fill("V1", 5)
    world.go(500)
    del world.market.prices[KEY]
    world.command(
        "out", kind="order.place", instrument_token=KEY, transaction_type="SELL", quantity=5, price=99, product="I"
    )
    world.go(200)
    assert len(world.exchange.placed) == 2


def test_a_price_of_long_ago_that_no_tick_has_confirmed_is_waited_for_like_none(tmp_path: Path) -> None:
    following = Following(seeded={A: 1_000})
    assert following.waits("i", A, START_MS, 1_000, old=True)
    assert not following.waits("j", A, START_MS, 1_000, old=False)
    assert not following.waits("i", A, START_MS + 100, 2_000, old=True)
    feed = Feed()
    feed.following, feed.ts = following, {A: 1_000}
    following.waits("k", A, feed.now_ms, 1_000, old=True)
    assert feed.look(set()) == [A]
