"""An order that every rule lets pass, and instruments to try the rules on."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from brokers.venue import Capabilities
from gtt.risk.limits import Limits, of_settings
from gtt.risk.risk import Market, Origin, Proposal, Standing, Tally
from market.instruments import Instrument
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode
from tests.conftest import settings_in

D = Decimal
NOW_MS = 1_795_150_800_000  # 2026-11-20 10:30 IST, a Friday
ON = date(2026, 11, 20)
CLOSES_MS = NOW_MS + 5 * 3_600_000
CAPITAL = D(1_000_000)

SHARE = Instrument(
    key="NSE_EQ|INE000A01012",
    segment="NSE_EQ",
    exchange="NSE",
    name="ALPHA LTD",
    trading_symbol="ALPHA",
    instrument_type="EQ",
    lot_size=1,
    tick_size=0.05,
    freeze_quantity=1000,
)
INDEX = Instrument(
    key="NSE_INDEX|Nifty 50",
    segment="NSE_INDEX",
    exchange="NSE",
    name="Nifty 50",
    trading_symbol="NIFTY",
    instrument_type="INDEX",
    lot_size=0,
    tick_size=0.0,
)
CALL = Instrument(
    key="NSE_FO|61755",
    segment="NSE_FO",
    exchange="NSE",
    name="NIFTY",
    trading_symbol="NIFTY 24000 CE 23 NOV 26",
    instrument_type="CE",
    lot_size=65,
    tick_size=0.05,
    freeze_quantity=1800,
    expiry=date(2026, 11, 23),
    strike=24000.0,
    underlying_key="NSE_INDEX|Nifty 50",
)
FUTURE = replace(CALL, key="NSE_FO|61800", trading_symbol="NIFTY FUT NOV 26", instrument_type="FUT", strike=None)
STOCK_FUTURE = replace(FUTURE, key="NSE_FO|61801", underlying_key="NSE_EQ|INE000A01012", lot_size=10)
CURRENCY = replace(
    FUTURE,
    key="NCD_FO|1",
    segment="NCD_FO",
    underlying_key=None,
    underlying_symbol="USDINR",
    lot_size=1,
    tick_size=0.0025,
)
GOLD = replace(FUTURE, key="MCX_FO|1", segment="MCX_FO", underlying_key=None, underlying_symbol="GOLD", lot_size=1)

ABLE = Capabilities(
    venue="paper",
    market_orders=False,
    stop_orders=True,
    ioc=True,
    modify=True,
    gtt=False,
    gtt_exit_only=False,
    gtt_trailing_share=D("0.1"),
    tag_max=40,
    push_orders=True,
    margin_check=False,
    segments_off=frozenset(),
    products=frozenset(Product),
    budget=(),
)


def limits(**more: Any) -> Limits:
    """The settings' own; what belongs to `own` and `account` is set in both."""
    base = of_settings(settings_in(Path("unused")))
    caps = {
        name: more.pop(name) for name in ("position", "trade_risk", "day_loss", "drawdown", "trades") if name in more
    }
    return replace(base, account=replace(base.account, **caps), own=replace(base.own, **caps), **more)


LIMITS = limits()


def proposal(**more: Any) -> Proposal:
    """Buys 100 shares at 100: 1 % of the capital."""
    start: dict[str, Any] = {
        "intent_id": "command:1",
        "instrument": SHARE.key,
        "side": Side.BUY,
        "quantity": 100,
        "product": Product.INTRADAY,
        "order_type": OrderType.LIMIT,
        "mode": TradingMode.PAPER,
        "origin": Origin.SIGNAL,
        "price": D(100),
        "strategy": "orb",
        "stop": D(95),
    }
    return Proposal(**(start | more))


def market(**more: Any) -> Market:
    start: dict[str, Any] = {
        "now_ms": NOW_MS,
        "instrument": SHARE,
        "ltp": D(100),
        "bid": D("99.95"),
        "ask": D("100.05"),
        "band": (D(80), D(120)),
        "age_ms": 0,
        "closes_ms": CLOSES_MS,
    }
    return Market(**(start | more))


def standing(**more: Any) -> Standing:
    start: dict[str, Any] = {
        "capabilities": ABLE,
        "ceiling": TradingMode.LIVE,
        "capital": CAPITAL,
        "tally": Tally(equity=CAPITAL, peak_equity=CAPITAL),
        "own_tally": Tally(equity=CAPITAL, peak_equity=CAPITAL),
        "switch": StrategyMode.LIVE,
        "venue_opted_in": True,
        "funds": D(500_000),
    }
    return Standing(**(start | more))
