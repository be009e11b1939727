"""Orders, books and GTTs at the simulated exchange, over real sockets, through the vendor's SDK."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from brokers.upstox.outcome import NoLogin
from brokers.venue import Lost, NotSent, OrderChange, Refused
from schemas.errors import Unavailable
from schemas.gtt import Leg, RuleStatus, TriggerType
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity
from sim.faults import FaultRequest
from tests.brokers.upstox_venue import market_order, new_gtt, new_order, rule, settings_at, trading
from tests.sim.simtools import NIFTY, RELIANCE


def change(venue_order_id: str, price: str, quantity: int = 10) -> OrderChange:
    return OrderChange("tj1", venue_order_id, quantity, OrderType.LIMIT, Decimal(price), Decimal(0), Validity.DAY)


async def test_an_order_is_placed_changed_found_by_its_tag_and_cancelled(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _):
        order = new_order()
        venue_id = await venue.place(order)
        (found,) = await venue.tagged(order.order_id)
        assert (found.venue_order_id, found.tag, found.status) == (venue_id, order.order_id, OrderStatus.OPEN)
        assert (found.price, found.quantity, found.side) == (Decimal(1400), 10, Side.BUY)
        assert found.ts == 1_795_150_800_000  # by the venue's clock, in India 10:30

        await venue.modify(change(venue_id, "1400.5", 12))
        (found,) = await venue.orders()
        assert (found.price, found.quantity, found.version) == (Decimal("1400.5"), 12, 2)

        await venue.cancel(venue_id)
        (found,) = await venue.orders()
        assert (found.status, found.words) == (OrderStatus.CANCELLED, "cancelled")
        with pytest.raises(Refused) as refused:
            await venue.cancel(venue_id)
        assert refused.value.code == "UDAPI100040"
        with pytest.raises(Refused) as refused:
            await venue.modify(change(venue_id, "1401"))
        assert refused.value.code == "UDAPI100041"
        assert await venue.tagged("tjnobodys") == []
        assert await venue.trades() == []


async def test_a_market_order_is_protected_and_leads_to_trades_positions_and_less_funds(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _):
        before = await venue.funds()
        venue_id = await venue.place(market_order())
        (order,) = await venue.tagged("tj0000000000000001")
        assert (order.status, order.filled_quantity) == (OrderStatus.COMPLETE, 10)
        trades = await venue.trades()
        assert sum(each.quantity for each in trades) == 10
        assert {(each.venue_order_id, each.side, each.instrument) for each in trades} == {
            (venue_id, Side.BUY, RELIANCE)
        }
        value = sum((each.price * each.quantity for each in trades), Decimal(0))
        assert order.average_price == pytest.approx(value / 10)
        (position,) = await venue.positions()
        assert (position.instrument, position.product, position.quantity) == (RELIANCE, Product.INTRADAY, 10)
        assert (position.buy_quantity, position.buy_value, position.sell_quantity) == (10, value, 0)
        assert position.last_price
        after = await venue.funds()
        assert after.available < before.available
        assert after.used > before.used
        assert "available_to_trade" in after.details

        quoted = await venue.quoted([RELIANCE, NIFTY, "NSE_EQ|NOWHERE"])
        assert quoted.keys() == {RELIANCE, NIFTY}
        lower, upper = quoted[RELIANCE].lower, quoted[RELIANCE].upper
        assert lower
        assert upper
        assert lower < quoted[RELIANCE].asks[0].price < upper
        assert quoted[RELIANCE].bids[0].price < quoted[RELIANCE].asks[0].price
        assert quoted[NIFTY].bids == ()


async def test_holdings_and_margins_are_told(tmp_path: Path) -> None:
    async with trading(tmp_path, holdings={RELIANCE: 25}) as (venue, _):
        (holding,) = await venue.holdings()
        assert (holding.instrument, holding.quantity) == (RELIANCE, 25)
        one = await venue.margin([new_order()])
        assert 0 < one < 10 * 1400
        assert await venue.margin([new_order(), new_order()]) == pytest.approx(2 * one)
        assert await venue.margin([]) == 0


async def test_what_the_venue_turns_down_says_why(tmp_path: Path) -> None:
    async with trading(tmp_path, algo_name="Ours") as (venue, exchange):
        for order, code in (
            (new_order(instrument="NSE_EQ|NOWHERE"), "UDAPI100011"),
            (new_order(price=Decimal(0)), "UDAPI1043"),
            (new_order(order_id="x" * 41), "UDAPI1119"),
            (market_order(market_protection=Decimal(0)), "UDAPI1158"),
            (market_order(market_protection=Decimal(26)), "UDAPI1176"),
        ):
            with pytest.raises(Refused) as refused:
                await venue.place(order)
            assert refused.value.code == code
            assert refused.value.message
        exchange.account.primary_ip = "203.0.113.7"
        with pytest.raises(NotSent, match="UDAPI1154"):
            await venue.place(new_order())
        assert not (await venue.egress()).ok
        assert await venue.orders() == []


async def test_an_order_that_was_accepted_may_be_rejected_afterwards(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _):
        await venue.place(new_order(quantity=1_000_000, product=Product.DELIVERY))
        (order,) = await venue.orders()
        assert order.status is OrderStatus.REJECTED
        assert order.reason


async def test_after_an_answer_that_was_lost_the_tag_tells_whether_there_is_an_order(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        for number, (fault, there) in enumerate(
            [(FaultRequest(order_500=1), 1), (FaultRequest(order_lost=1), 1), (FaultRequest(order_unheard=1), 0)]
        ):
            exchange.order_fault(fault)
            tag = f"tj{number}"
            with pytest.raises(Lost):
                await venue.place(new_order(order_id=tag))
            assert len(await venue.tagged(tag)) == there
            assert len([each for each in await venue.orders() if each.tag == tag]) == there
        await venue.place(new_order(order_id="tj9"))
        assert len(await venue.orders()) == 3


async def test_a_slow_answer_is_lost_when_its_time_is_over_and_others_do_not_wait_for_it(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        exchange.order_fault(FaultRequest(order_slow_ms=700))
        venue._sdk._timeout_s = 0.3
        with pytest.raises(Lost):
            await venue.place(new_order())
        exchange.order_fault(FaultRequest(order_slow_ms=0))
        assert len(await venue.tagged("tj0000000000000001")) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (FaultRequest(refuse_orders=401), NotSent),
        (FaultRequest(refuse_orders=403), NotSent),
        (FaultRequest(refuse_orders=403, html=True), NotSent),
        (FaultRequest(refuse_orders=423), NotSent),
        (FaultRequest(refuse_orders=429), NotSent),
        (FaultRequest(refuse_orders=503), Lost),
    ],
)
async def test_a_refusal_of_the_moment_ends_and_the_same_order_goes_out(
    tmp_path: Path, fault: FaultRequest, kind: type[Exception]
) -> None:
    async with trading(tmp_path) as (venue, exchange):
        exchange.order_fault(fault)
        with pytest.raises(kind):
            await venue.place(new_order())
        assert await venue.orders() == []
        await venue.place(new_order())
        assert len(await venue.orders()) == 1


async def test_a_dead_token_is_given_up_and_the_next_login_is_taken_up(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        exchange.order_fault(FaultRequest(expire_tokens=True))
        with pytest.raises(NoLogin, match="refuses"):
            await venue.place(new_order())
        async with asyncio.timeout(5):
            while venue._tokens.current() is not None:  # noqa: ASYNC110 - it is looked at in the background
                await asyncio.sleep(0.01)
        with pytest.raises(NoLogin, match="no access token"):
            await venue.place(new_order())
        fresh = exchange.auth.token(exchange.now_ms())
        venue._tokens.save(fresh)
        await venue.place(new_order())
        assert len(await venue.orders()) == 1


async def test_while_rest_is_down_a_read_is_unavailable_and_a_write_is_lost(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        exchange.order_fault(FaultRequest(rest_down=True))
        with pytest.raises(Unavailable):
            await venue.orders()
        with pytest.raises(Lost):
            await venue.place(new_order())
        exchange.order_fault(FaultRequest(rest_down=False))
        assert await venue.orders() == []


async def test_many_orders_at_once_share_few_connections_and_none_is_doubled(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _):
        tags = [f"tj{number}" for number in range(20)]
        ids = await asyncio.gather(*(venue.place(new_order(order_id=tag, quantity=1)) for tag in tags))
        assert len(set(ids)) == 20
        assert sorted(each.tag for each in await venue.orders()) == sorted(tags)


# GTTs


async def test_a_gtt_is_placed_changed_listed_and_cancelled(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _):
        rules = (
            rule(Leg.ENTRY, "1400", TriggerType.BELOW),
            rule(Leg.TARGET, "1500"),
            rule(Leg.STOPLOSS, "1300", trailing_gap=Decimal(20)),
        )
        venue_id = await venue.place_gtt(new_gtt(*rules))
        (found,) = await venue.gtts()
        assert (found.venue_gtt_id, found.instrument, found.side, found.quantity) == (venue_id, RELIANCE, Side.BUY, 10)
        assert [(each.strategy, each.trigger_price, each.trailing_gap) for each in found.rules] == [
            (each.strategy, each.trigger_price, each.trailing_gap) for each in rules
        ]
        assert [each.status for each in found.rules] == [
            RuleStatus.SCHEDULED, RuleStatus.INACTIVE, RuleStatus.INACTIVE,
        ]  # fmt: skip
        assert found.created_us // 1_000_000 == 1_795_150_800
        assert found.expires_us > found.created_us

        await venue.modify_gtt(venue_id, new_gtt(*rules[:2], quantity=20))
        (found,) = await venue.gtts()
        assert (found.quantity, len(found.rules)) == (20, 2)
        await venue.cancel_gtt(venue_id)
        assert await venue.gtts() == []
        with pytest.raises(Refused):
            await venue.cancel_gtt(venue_id)


async def test_a_gtt_that_the_venue_turns_down_says_why_and_a_lost_one_is_in_its_book(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        entry = rule(Leg.ENTRY, "1400", TriggerType.BELOW)
        with pytest.raises(Refused, match="UDAPI1151"):
            await venue.place_gtt(new_gtt(entry, rule(Leg.STOPLOSS, "1300", trailing_gap=Decimal("0.05"))))
        exchange.order_fault(FaultRequest(order_lost=1))
        with pytest.raises(Lost):
            await venue.place_gtt(new_gtt(entry))
        assert len(await venue.gtts()) == 1


async def test_capabilities_are_the_venues_and_our_budget_is_within_its_own(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        assert (venue.capabilities.gtt, venue.capabilities.gtt_exit_only) == (True, False)
        assert venue.capabilities.segments_off == {"MCX_FO"}
        assert venue.capabilities.budget == ((1.0, 8), (60.0, 450), (1800.0, 1800))
        greedy = type(venue)(settings_at(exchange, tmp_path, teji_order_budget="99,999,9999"), venue._tokens)
        assert greedy.capabilities.budget == ((1.0, 10), (60.0, 500), (1800.0, 2000))
        greedy._sdk.close()
