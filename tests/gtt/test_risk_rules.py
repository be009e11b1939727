"""Each rule just within, at and just over what it allows, on entries and on exits."""

# ruff: noqa: E501 -- a row of a table is a line

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from bus.settings import Freeze
from gtt.risk.budget import Budget
from gtt.risk.limits import Caps
from gtt.risk.risk import Approved, Market, Origin, Proposal, Refused, Standing, Tally, Units, Verdict, breach, check
from gtt.risk.rules import RULES
from market.sessions import Part, Phase
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode, Validity
from tests.gtt.risk_case import (
    ABLE,
    CALL,
    CAPITAL,
    CLOSES_MS,
    CURRENCY,
    FUTURE,
    GOLD,
    INDEX,
    LIMITS,
    NOW_MS,
    STOCK_FUTURE,
    D,
    limits,
    market,
    proposal,
    standing,
)

LIVE = {"mode": TradingMode.LIVE}
CALL_MARKET = {"instrument": CALL, "band": None, "underlying_ltp": D(24000)}
Changes = dict[str, dict[str, Any]]

HELD = {"units": Units(net=500), "own_units": Units(net=500)}
EXIT = {"side": Side.SELL, "reduces": True, "origin": Origin.EXIT, "stop": None}


def asked(changes: Changes) -> tuple[Proposal, Market, Standing, Any]:
    """Changes of the order that passes, by whose they are: order, market, standing, limits."""
    return (
        proposal(**changes.get("order", {})),
        market(**changes.get("market", {})),
        standing(**changes.get("standing", {})),
        limits(**changes.get("limits", {})),
    )


def rule_that_refuses(changes: Changes) -> str | None:
    answer = check(*asked(changes))
    return answer.rule if isinstance(answer, Refused) else None


def tally(**more: Any) -> Tally:
    return Tally(**({"equity": CAPITAL, "peak_equity": CAPITAL} | more))


#: name, changes, the rule that refuses (None: approved)
ENTRIES: list[tuple[str, Changes, str | None]] = [
    ("nothing is wrong", {}, None),
    # mode, switch, opt-ins
    ("paper under paper", {"standing": {"ceiling": TradingMode.PAPER}}, None),
    ("shadow under paper", {"order": {"mode": TradingMode.SHADOW}, "standing": {"ceiling": TradingMode.PAPER}}, "mode"),
    ("live under shadow", {"order": LIVE, "standing": {"ceiling": TradingMode.SHADOW}}, "mode"),
    ("live under live", {"order": LIVE}, None),
    ("switched off", {"standing": {"switch": StrategyMode.OFF}}, "switch"),
    ("a switch in paper, an order in paper", {"standing": {"switch": StrategyMode.PAPER}}, None),
    ("a switch in paper, a live order", {"order": LIVE, "standing": {"switch": StrategyMode.PAPER}}, "switch"),
    ("a signal without a switch", {"standing": {"switch": None}}, "switch"),
    ("a person without a switch", {"order": {"origin": Origin.MANUAL}, "standing": {"switch": None}}, None),
    ("live, the venue not named", {"order": LIVE, "standing": {"venue_opted_in": False}}, "opt_in"),
    ("paper, the venue not named", {"standing": {"venue_opted_in": False}}, None),
    ("live from another address", {"order": LIVE, "standing": {"egress": "10.0.0.1 is not registered"}}, "egress"),
    ("paper from another address", {"standing": {"egress": "10.0.0.1 is not registered"}}, None),
    # halt, reconciling
    ("halted", {"standing": {"halted": "ravi: news"}}, "halt"),
    ("halted without a word", {"standing": {"halted": ""}}, "halt"),
    ("reconciling", {"standing": {"reconciling": True}}, "reconciling"),
    # instrument
    ("unknown", {"market": {"instrument": None}}, "instrument"),
    ("an index", {"market": {"instrument": INDEX}}, "instrument"),
    ("expired yesterday", {"market": {"instrument": replace(CALL, expiry=date(2026, 11, 19))}}, "instrument"),
    ("expires today", {"order": {"quantity": 65}, "market": CALL_MARKET | {"instrument": replace(CALL, expiry=date(2026, 11, 20))}}, None),
    # session
    ("closed", {"market": {"phase": Phase.CLOSED}}, "session"),
    ("closed by the calendar, open by the feed", {"market": {"phase": Phase.CLOSED, "is_open": True}}, "session"),
    ("open by the calendar, closed by the feed", {"market": {"is_open": False}}, "session"),
    ("after the close", {"market": {"phase": Phase.POST_CLOSE}}, "session"),
    ("pre-open, a share", {"market": {"phase": Phase.PRE_OPEN, "part": Part.ENTRY}}, None),
    ("pre-open, an option", {"order": {"quantity": 65}, "market": CALL_MARKET | {"phase": Phase.PRE_OPEN, "part": Part.ENTRY}}, "session"),
    ("pre-open, matching", {"market": {"phase": Phase.PRE_OPEN, "part": Part.MATCHING}}, "session"),
    ("closing auction, limit only", {"market": {"phase": Phase.CLOSING_AUCTION, "part": Part.LIMIT_ONLY}}, None),
    ("closing auction, frozen", {"market": {"phase": Phase.CLOSING_AUCTION, "part": Part.FROZEN}}, "session"),
    ("pre-open, IOC", {"order": {"validity": Validity.IOC}, "market": {"phase": Phase.PRE_OPEN, "part": Part.ENTRY}}, "session"),
    ("pre-open, a stop order", {"order": {"order_type": OrderType.SL, "trigger_price": D(99)}, "market": {"phase": Phase.PRE_OPEN, "part": Part.ENTRY}}, "session"),
    # square-off: 10 minutes before the end
    ("a second before square-off", {"market": {"now_ms": CLOSES_MS - 601_000}}, None),
    ("at square-off", {"market": {"now_ms": CLOSES_MS - 600_000}}, "square_off"),
    ("at square-off, carried", {"order": {"product": Product.DELIVERY}, "market": {"now_ms": CLOSES_MS - 600_000}}, None),
    # venue, product
    ("a segment that is off", {"standing": {"capabilities": replace(ABLE, segments_off=frozenset({"NSE_EQ"}))}}, "venue"),
    ("a stop order that the venue keeps", {"order": {"order_type": OrderType.SL, "trigger_price": D(99)}}, None),
    ("a stop order that the venue does not keep", {"order": {"order_type": OrderType.SL_M, "trigger_price": D(99)}, "standing": {"capabilities": replace(ABLE, stop_orders=False)}}, "venue"),
    ("IOC", {"order": {"validity": Validity.IOC}}, None),
    ("IOC where there is none", {"order": {"validity": Validity.IOC}, "standing": {"capabilities": replace(ABLE, ioc=False)}}, "venue"),
    ("a product that the venue has not", {"order": {"product": Product.MTF}, "standing": {"capabilities": replace(ABLE, products=frozenset({Product.INTRADAY}))}}, "product"),
    ("MTF of a share", {"order": {"product": Product.MTF}}, None),
    ("MTF of an option", {"order": {"product": Product.MTF, "quantity": 65}, "market": CALL_MARKET}, "product"),
    ("a share sold short for the day", {"order": {"side": Side.SELL, "stop": D(105)}}, None),
    ("a share sold short overnight", {"order": {"side": Side.SELL, "stop": D(105), "product": Product.DELIVERY}}, "product"),
    # quote: 60 s
    ("market, a price of 60 s", {"order": {"order_type": OrderType.MARKET}, "market": {"age_ms": 60_000}}, None),
    ("market, a price of 60.001 s", {"order": {"order_type": OrderType.MARKET}, "market": {"age_ms": 60_001}}, "quote"),
    ("limit, a price of an hour", {"market": {"age_ms": 3_600_000}}, None),
    ("market, nobody knows how old", {"order": {"order_type": OrderType.MARKET}, "market": {"age_ms": None}}, None),
    # price
    ("market, no price", {"order": {"order_type": OrderType.MARKET}, "market": {"ltp": None, "bid": None, "ask": None}}, "price"),
    ("market, without protection", {"order": {"order_type": OrderType.MARKET, "protection": D(0)}}, "price"),
    ("market, without protection, where that is taken", {"order": {"order_type": OrderType.MARKET, "protection": D(0)}, "standing": {"capabilities": replace(ABLE, market_orders=True)}}, None),
    ("market, 25 % protection", {"order": {"order_type": OrderType.MARKET, "protection": D(25)}}, None),
    ("market, 25.01 % protection", {"order": {"order_type": OrderType.MARKET, "protection": D("25.01")}}, "price"),
    ("market, a half percent less than nothing", {"order": {"order_type": OrderType.MARKET, "protection": D("-0.5")}}, "price"),
    ("a buy of a tick", {"order": {"price": D("0.05"), "stop": None}, "market": {"band": None, "ltp": D("0.05")}}, None),
    ("a buy of less than a tick", {"order": {"price": D("0.04"), "stop": None}}, "price"),
    ("a stop order that cannot fill", {"order": {"order_type": OrderType.SL, "trigger_price": D("100.05")}}, "price"),
    ("a stop order at its trigger", {"order": {"order_type": OrderType.SL, "trigger_price": D(100)}}, None),
    # lot
    ("a lot", {"order": {"quantity": 65}, "market": CALL_MARKET}, None),
    ("a unit less", {"order": {"quantity": 64}, "market": CALL_MARKET}, "lot"),
    ("a unit more", {"order": {"quantity": 66}, "market": CALL_MARKET}, "lot"),
    # freeze: 1000 shares
    ("the freeze quantity", {"order": {"quantity": 1000, "price": D(10), "stop": D(9)}, "market": {"band": None, "ltp": D(10)}, "limits": {"freeze": Freeze.REFUSE}}, None),
    ("one more, refused by setting", {"order": {"quantity": 1001, "price": D(10), "stop": D(9)}, "market": {"band": None, "ltp": D(10)}, "limits": {"freeze": Freeze.REFUSE}}, "freeze"),
    ("one more, sliced", {"order": {"quantity": 1001, "price": D(10), "stop": D(9)}, "market": {"band": None, "ltp": D(10)}}, None),
    ("25 slices", {"order": {"quantity": 25_000, "price": D("0.10"), "stop": None}, "market": {"band": None, "ltp": D("0.1")}}, None),
    ("26 slices", {"order": {"quantity": 25_001, "price": D("0.10"), "stop": None}, "market": {"band": None, "ltp": D("0.1")}}, "freeze"),
    # band: 80 to 120
    ("at the top of the band", {"order": {"price": D(120), "stop": D(95)}}, None),
    ("a tick above", {"order": {"price": D("120.05"), "stop": D(95)}}, "band"),
    ("at the bottom", {"order": {"price": D(80), "stop": D(75)}}, None),
    ("a tick below", {"order": {"price": D("79.95"), "stop": D(75)}}, "band"),
    ("a trigger below", {"order": {"order_type": OrderType.SL, "price": D(100), "trigger_price": D(79)}}, "band"),
    ("no band, 20 % above the last price", {"order": {"price": D(120), "stop": D(95)}, "market": {"band": None}}, None),
    ("no band, a tick more", {"order": {"price": D("120.05"), "stop": D(95)}, "market": {"band": None}}, "band"),
    ("no band, a buy far below", {"order": {"price": D(20), "stop": D(15)}, "market": {"band": None}}, None),
    ("no band, a sale far below", {"order": {"side": Side.SELL, "price": D(79), "stop": D(105)}, "market": {"band": None}}, "band"),
    ("an option, 40 % above", {"order": {"quantity": 65, "price": D(140), "stop": D(95)}, "market": CALL_MARKET}, None),
    ("an option, a tick more", {"order": {"quantity": 65, "price": D("140.05"), "stop": D(95)}, "market": CALL_MARKET}, "band"),
    ("a cheap option, Rs 20 above", {"order": {"quantity": 65, "price": D(30), "stop": D(9)}, "market": CALL_MARKET | {"ltp": D(10)}}, None),
    ("a cheap option, a tick more", {"order": {"quantity": 65, "price": D("30.05"), "stop": D(9)}, "market": CALL_MARKET | {"ltp": D(10)}}, "band"),
    ("no price at all to compare with", {"market": {"band": None, "ltp": None}}, None),
    # duplicate
    ("holds it already", {"standing": {"own_units": Units(net=1)}}, "duplicate"),
    ("holds the other side", {"standing": {"own_units": Units(net=-1)}}, None),
    ("a buy waits", {"standing": {"own_units": Units(buying=1)}}, "duplicate"),
    ("a sale waits", {"standing": {"own_units": Units(selling=1)}}, None),
    ("somebody else holds it", {"standing": {"units": Units(net=1)}}, None),
    ("holds it, and may have more", {"standing": {"own_units": Units(net=1)}, "limits": {"duplicates": True}}, None),
    ("a person who holds it", {"order": {"origin": Origin.MANUAL}, "standing": {"own_units": Units(net=1)}}, None),
    # position: 2 % of Rs 10,00,000
    ("Rs 19,900", {"order": {"quantity": 199}}, None),
    ("Rs 20,000", {"order": {"quantity": 200}}, None),
    ("Rs 20,100", {"order": {"quantity": 201}}, "position"),
    ("with what is held Rs 20,000", {"order": {"quantity": 150}, "standing": {"units": Units(net=50)}}, None),
    ("with what is held Rs 20,100", {"order": {"quantity": 151}, "standing": {"units": Units(net=50)}}, "position"),
    ("with what waits Rs 20,100", {"order": {"quantity": 151}, "standing": {"units": Units(buying=50)}}, "position"),
    ("sales that wait make no room", {"order": {"quantity": 151}, "standing": {"units": Units(net=50, selling=50)}}, "position"),
    ("short, Rs 20,000", {"order": {"side": Side.SELL, "quantity": 199, "price": D("100.5"), "stop": D(105)}}, None),
    ("short, Rs 20,100.50", {"order": {"side": Side.SELL, "quantity": 200, "price": D("100.5"), "stop": D(105)}}, "position"),
    ("from long to short, within", {"order": {"side": Side.SELL, "quantity": 299, "stop": D(105)}, "standing": {"units": Units(net=100), "own_units": Units(net=100)}}, None),
    ("from long to short, beyond", {"order": {"side": Side.SELL, "quantity": 301, "stop": D(105)}, "standing": {"units": Units(net=100), "own_units": Units(net=100)}}, "position"),
    ("a bought option of Rs 19,500", {"order": {"quantity": 195}, "market": CALL_MARKET}, None),
    ("a bought option of Rs 26,000", {"order": {"quantity": 260}, "market": CALL_MARKET}, "position"),
    ("a written option", {"order": {"side": Side.SELL, "quantity": 65, "stop": D(105)}, "market": CALL_MARKET}, "position"),
    ("an index future", {"order": {"quantity": 65, "price": D(24000), "stop": D(23900)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}}, "position"),
    ("an index future, room for its margin", {"order": {"quantity": 65, "price": D(24000), "stop": D(23900)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}, "limits": {"position": D("0.1872")}}, None),
    ("an index future, a paisa of room less", {"order": {"quantity": 65, "price": D(24000), "stop": D(23900)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}, "limits": {"position": D("0.18719")}}, "position"),
    ("a future with the venue's margin", {"order": {"quantity": 65, "price": D(24000), "stop": D(23900)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}, "standing": {"margin": D(20_000)}}, None),
    ("a future with too much of it", {"order": {"quantity": 65, "price": D(24000), "stop": D(23900)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}, "standing": {"margin": D("20000.01")}}, "position"),
    ("gold, of which nobody tells the lot", {"order": {"quantity": 1}, "market": {"instrument": GOLD, "band": None}}, "position"),
    ("a thousand dollars", {"order": {"quantity": 1, "price": D("84.5"), "stop": D(84)}, "market": {"instrument": CURRENCY, "ltp": D("84.5"), "band": None}}, None),
    ("five thousand dollars", {"order": {"quantity": 5, "price": D("84.5"), "stop": D(84)}, "market": {"instrument": CURRENCY, "ltp": D("84.5"), "band": None}}, "position"),
    ("a limit above the market counts as the market", {"order": {"quantity": 200, "price": D(119)}}, None),
    ("a bid above the last price counts", {"order": {"quantity": 200, "price": D(119)}, "market": {"bid": D("100.05"), "ask": D(101)}}, "position"),
    # risk per trade: 2 % of Rs 10,00,000, with room for the position
    ("Rs 20,000 at risk", {"order": {"quantity": 400, "stop": D(50)}, "limits": {"position": D(1)}}, None),
    ("Rs 20,050 at risk", {"order": {"quantity": 401, "stop": D(50)}, "limits": {"position": D(1)}}, "trade_risk"),
    ("two ATR at risk", {"order": {"quantity": 400, "stop": None, "atr": D(25)}, "limits": {"position": D(1)}}, None),
    ("more than that", {"order": {"quantity": 400, "stop": None, "atr": D("25.01")}, "limits": {"position": D(1)}}, "trade_risk"),
    ("all at risk", {"order": {"quantity": 200, "stop": None}, "limits": {"position": D(1)}}, None),
    ("all and more", {"order": {"quantity": 201, "stop": None}, "limits": {"position": D(1)}}, "trade_risk"),
    ("a stop above a buy", {"order": {"stop": D("100.05")}}, "trade_risk"),
    ("a stop at the price", {"order": {"stop": D(100)}}, "trade_risk"),
    ("a stop below a short sale", {"order": {"side": Side.SELL, "stop": D(99)}}, "trade_risk"),
    ("a short signal with no end", {"order": {"side": Side.SELL, "stop": None}}, "trade_risk"),
    ("a person's short sale with no end", {"order": {"side": Side.SELL, "stop": None, "origin": Origin.MANUAL}}, None),
    # loss of the day: 5 %, Rs 50,000
    ("a loss of Rs 49,999.99", {"standing": {"tally": tally(day_pnl=D("-49999.99"))}}, None),
    ("a loss of Rs 50,000", {"standing": {"tally": tally(day_pnl=D(-50_000))}}, "day_loss"),
    ("the strategy's own loss", {"standing": {"own_tally": tally(day_pnl=D(-50_000))}}, "day_loss"),
    ("a profit", {"standing": {"tally": tally(day_pnl=D(50_000))}}, None),
    # drawdown: 20 %
    ("19.99 % down", {"standing": {"tally": tally(equity=D(960_120), peak_equity=D(1_200_000))}}, None),
    ("20 % down", {"standing": {"tally": tally(equity=D(960_000), peak_equity=D(1_200_000))}}, "drawdown"),
    ("the strategy 20 % down", {"standing": {"own_tally": tally(equity=D(800_000))}}, "drawdown"),
    # trades: 50
    ("the 50th", {"standing": {"tally": tally(trades=49)}}, None),
    ("the 51st", {"standing": {"tally": tally(trades=50)}}, "trades"),
    ("the strategy's 51st", {"standing": {"own_tally": tally(trades=50)}}, "trades"),
    # budget: entries may use 7 of 10 a minute, and wait 30 s
    ("a write that may go", {"standing": {"budget": Budget([(60.0, 10)], past_ms=[NOW_MS - 1] * 6)}}, None),
    ("a write that waits 30 s", {"standing": {"budget": Budget([(60.0, 10)], past_ms=[NOW_MS - 30_000] * 7)}}, None),
    ("a write that waits a moment longer", {"standing": {"budget": Budget([(60.0, 10)], past_ms=[NOW_MS - 29_999] * 7)}}, "budget"),
    ("writes of another clock than the market's", {"standing": {"now_ms": NOW_MS + 86_400_000, "budget": Budget([(60.0, 10)], past_ms=[NOW_MS + 86_340_000] * 7)}}, None),
    ("a write behind others", {"standing": {"budget": Budget([(60.0, 10)]), "queued_writes": 7}}, "budget"),
    # funds
    ("just enough", {"standing": {"funds": D(10_000)}}, None),
    ("a paisa short", {"standing": {"funds": D("9999.99")}}, "funds"),
    ("the venue wants more", {"standing": {"funds": D(10_000), "margin": D(10_001)}}, "funds"),
    ("the venue wants less", {"standing": {"funds": D(2_000), "margin": D(2_000)}}, None),
    ("nobody knows", {"standing": {"funds": None}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "rule"), [each[1:] for each in ENTRIES], ids=[each[0] for each in ENTRIES])
def test_an_entry(changes: Changes, rule: str | None) -> None:
    assert rule_that_refuses(changes) == rule


#: The same for orders that only shrink a position of 500 shares.
EXITS: list[tuple[str, Changes, str | None]] = [
    ("nothing is wrong", {}, None),
    ("of a mode that is gone", {"order": LIVE, "standing": {"ceiling": TradingMode.PAPER}}, "mode"),
    ("switched off", {"standing": {"switch": StrategyMode.OFF}}, None),
    ("live, not opted in, from anywhere", {"order": LIVE, "standing": {"venue_opted_in": False, "egress": "no"}}, None),
    ("halted", {"standing": {"halted": "ravi"}}, None),
    ("reconciling", {"standing": {"reconciling": True}}, None),
    ("unknown", {"market": {"instrument": None}}, "instrument"),
    ("closed", {"market": {"phase": Phase.CLOSED, "is_open": False}}, "session"),
    ("closed by the calendar, open by the feed", {"market": {"phase": Phase.CLOSED}}, None),
    ("open by the calendar, closed by the feed", {"market": {"is_open": False}}, None),
    ("after square-off", {"market": {"now_ms": CLOSES_MS - 1_000}}, None),
    ("a segment that is off", {"standing": {"capabilities": replace(ABLE, segments_off=frozenset({"NSE_EQ"}))}}, "venue"),
    ("shares that are held", {"order": {"product": Product.DELIVERY}}, None),
    ("market, a price of an hour", {"order": {"order_type": OrderType.MARKET}, "market": {"age_ms": 3_600_000}}, None),
    ("market, without protection", {"order": {"order_type": OrderType.MARKET, "protection": D(0)}}, None),
    ("market, without protection by setting", {"order": {"order_type": OrderType.MARKET}, "limits": {"protection": D("-0.5")}}, None),
    ("beyond the freeze quantity, by setting", {"order": {"quantity": 1001}, "standing": {"units": Units(net=2000)}, "limits": {"freeze": Freeze.REFUSE}}, None),
    ("far beyond it", {"order": {"quantity": 90_000}, "standing": {"units": Units(net=90_000)}}, None),
    ("below the band", {"order": {"price": D(50)}}, None),
    ("above the band", {"order": {"price": D(150)}}, "band"),
    ("no band, at any price", {"order": {"price": D(10)}, "market": {"band": None}}, None),
    ("all of it", {"order": {"quantity": 500}}, None),
    ("more than there is: an entry, which is too large", {"order": {"quantity": 701}}, "position"),
    ("a buy of what is long: an entry", {"order": {"side": Side.BUY}, "standing": {"halted": "ravi"}}, "halt"),
    ("nothing is held: an entry", {"standing": {"units": Units(), "halted": "ravi"}}, "halt"),
    ("a second exit of a signal, within", {"order": {"origin": Origin.SIGNAL}, "standing": {"units": Units(net=500, selling=400)}}, None),
    ("a second exit of a signal, beyond", {"order": {"origin": Origin.SIGNAL}, "standing": {"units": Units(net=500, selling=401)}}, "exits"),
    ("a second exit of a person, beyond", {"order": {"origin": Origin.MANUAL}, "standing": {"units": Units(net=500, selling=500)}}, "exits"),
    ("a stop beside another", {"standing": {"units": Units(net=500, selling=500)}}, None),
    ("a position far too large", {"order": {"quantity": 90_000}, "standing": {"units": Units(net=100_000)}}, None),
    ("losses", {"standing": {"tally": tally(day_pnl=D(-90_000), equity=D(1))}}, None),
    ("too many entries", {"standing": {"tally": tally(trades=99)}}, None),
    ("no writes left for entries", {"standing": {"budget": Budget([(60.0, 10)], past_ms=[NOW_MS] * 7)}}, None),
    ("no money", {"standing": {"funds": D(0), "margin": D(99_999)}}, None),
    ("gold, of which nobody tells the lot", {"order": {"quantity": 1}, "market": {"instrument": GOLD, "band": None}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "rule"), [each[1:] for each in EXITS], ids=[each[0] for each in EXITS])
def test_an_exit(changes: Changes, rule: str | None) -> None:
    changes = changes | {"order": EXIT | changes.get("order", {}), "standing": HELD | changes.get("standing", {})}
    assert rule_that_refuses(changes) == rule


def test_every_rule_refuses_something_here() -> None:
    refusing = {rule for _, _, rule in [*ENTRIES, *EXITS] if rule}
    assert refusing == {row.name for row in RULES}


def test_no_rule_that_limits_risk_is_for_exits() -> None:
    form = {"mode", "instrument", "session", "venue", "product", "price", "lot", "freeze", "band", "exits"}
    assert {row.name for row in RULES if row.exits} == form


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": {"quantity": 312}}, "a position of Rs 31,200 would be more than 2 % of the capital of Rs 10,00,000"),
        (
            {"order": {"quantity": 65, "price": D(24000)}, "market": {"instrument": FUTURE, "ltp": D(24000), "band": None}},
            "a position with a margin of about Rs 1,87,200 would be more than 2 % of the capital of Rs 10,00,000",
        ),
        ({"standing": {"halted": "ravi: news"}}, "trading is halted (ravi: news): only what reduces risk passes"),
        (
            {"standing": {"tally": tally(day_pnl=D("-51234.5"))}},
            "the loss of the day, Rs 51,234.50, has reached 5 % of the capital of Rs 10,00,000",
        ),
        ({"order": {"quantity": 64}, "market": CALL_MARKET}, "64 units are no whole lots of 65"),
        ({"order": {"price": D(130)}}, "the exchange takes prices from 80 to 120 today, not 130"),
        ({"standing": {"funds": D(9_000)}}, "Rs 10,000 is needed (value), Rs 9,000 is available"),
    ],
)  # fmt: skip
def test_a_refusal_says_in_plain_words_what_and_how_much(changes: Changes, words: str) -> None:
    answer = check(*asked(changes))
    assert isinstance(answer, Refused)
    assert answer.reason == words
    assert answer.checks[-1].verdict is Verdict.REFUSED
    assert [each.rule for each in answer.checks] == [row.name for row in RULES][: len(answer.checks)]


def test_an_approval_lists_every_rule_with_what_it_saw() -> None:
    answer = check(*asked({}))
    assert isinstance(answer, Approved)
    assert [each.rule for each in answer.checks] == [row.name for row in RULES]
    values = {each.rule: each.values for each in answer.checks}
    assert values["position"] == {"value": "10000", "limit": "20000", "basis": "value"}
    assert values["trade_risk"] == {"risk": "500", "limit": "20000", "how": "stop at 95"}
    assert (answer.exposure, answer.estimated, answer.slices) == (D(10_000), False, (100,))


def test_an_unknown_band_is_written_down_as_not_known() -> None:
    answer = check(*asked({"market": {"band": None}}))
    found = {each.rule: each for each in answer.checks}["band"]
    assert (found.verdict, found.values["source"]) == (Verdict.UNKNOWN, "last price")


def test_a_claim_to_reduce_that_the_position_does_not_bear_out_is_written_down() -> None:
    answer = check(*asked({"order": EXIT | {"stop": D(105)}, "standing": {"units": Units(net=99)}}))
    assert (answer.checks[0].rule, answer.checks[0].verdict) == ("reduces", Verdict.CHANGED)
    assert isinstance(answer, Approved)
    assert not answer.reduces


def test_margins_are_estimated_by_what_a_contract_is_written_on() -> None:
    def exposure(order: dict[str, Any], of: dict[str, Any]) -> Decimal:
        found = check(*asked({"order": order, "market": of | {"band": None}, "limits": {"position": D(1)}}))
        assert isinstance(found, Approved)
        assert found.estimated
        return found.exposure

    future = {"instrument": FUTURE, "ltp": D(24000)}
    assert exposure({"quantity": 65, "price": D(24000), "stop": D(23900)}, future) == D(187_200)
    share = {"instrument": STOCK_FUTURE, "ltp": D(1000)}
    assert exposure({"quantity": 10, "price": D(1000), "stop": D(990)}, share) == D(2_500)
    written = {"side": Side.SELL, "quantity": 65, "price": D(100), "stop": D(150)}
    assert exposure(written, CALL_MARKET) == 65 * (D(24000) * D("0.12") + 100)
    today = replace(CALL, expiry=date(2026, 11, 20))
    assert exposure(written, {"instrument": today, "underlying_ltp": None}) == 65 * (D(24000) * D("0.14") + 100)


def test_a_strategys_own_limits_hold_beside_those_of_the_account() -> None:
    own = Caps(position=D("0.10"), trade_risk=D("0.05"), day_loss=D("0.01"), drawdown=D("0.05"), trades=3)
    its = replace(LIMITS, own=own, share=D("0.25"))  # Rs 2,50,000, of which Rs 25,000 in a position

    def rule(quantity: int, **more: Any) -> str | None:
        answer = check(proposal(quantity=quantity), market(), standing(**more), its)
        return answer.rule if isinstance(answer, Refused) else None

    assert rule(250) is None
    assert rule(251) == "position"
    assert rule(100, own_tally=tally(trades=3)) == "trades"
    assert rule(100, tally=tally(trades=3)) is None
    assert rule(100, own_tally=tally(day_pnl=D(-2_500))) == "day_loss"
    assert rule(100, tally=tally(day_pnl=D(-2_500))) is None
    assert rule(100, tally=tally(day_pnl=D(-50_000))) == "day_loss"
    assert rule(100, own_tally=tally(equity=D(950_000))) == "drawdown"


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (tally(day_pnl=D("-49999.99")), None),
        (tally(day_pnl=D(-50_000)), "the loss of the day, Rs 50,000, has reached 5 % of the capital of Rs 10,00,000"),
        (tally(equity=D("800000.01")), None),
        (tally(equity=D(800_000)), "the equity, Rs 8,00,000, is 20 % or more below its highest, Rs 10,00,000"),
        (tally(equity=D(-5), peak_equity=D(0)), "the equity, -Rs 5, is 20 % or more below its highest, Rs 0"),
        (tally(equity=D(0), peak_equity=D(0)), None),
    ],
)
def test_what_halts_an_account(of: Tally, why: str | None) -> None:
    assert breach(standing(tally=of), LIMITS) == why
