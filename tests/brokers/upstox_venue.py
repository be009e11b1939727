"""Our side of the simulated exchange: a logged-in `UpstoxOrders`, and orders to place with it."""

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from brokers.upstox.auth import TokenStore
from brokers.upstox.orders import UpstoxOrders
from brokers.venue import NewGtt, NewOrder
from bus.settings import Settings
from schemas.gtt import GttType, Leg, RuleState, RuleStatus, TriggerType
from schemas.orders import OrderType, Product, Side, Validity
from sim.exchange import Exchange
from tests.conftest import settings_in
from tests.sim.simtools import RELIANCE, served


def settings_at(exchange: Exchange, home: Path, **more: Any) -> Settings:
    urls = dict.fromkeys(("upstox_api_url", "upstox_order_url"), exchange.url)
    return settings_in(home, **{**urls, "teji_feed_ping_s": 0.2, **more})


@contextlib.asynccontextmanager
async def trading(home: Path, **more: Any) -> AsyncIterator[tuple[UpstoxOrders, Exchange]]:
    """A venue whose clock stands still until it is moved."""
    async with served(**more) as exchange:
        settings = settings_at(exchange, home)
        log_in(exchange, settings)
        async with UpstoxOrders.open(settings, TokenStore(settings)) as venue:
            yield venue, exchange


def log_in(exchange: Exchange, settings: Settings) -> str:
    token = exchange.auth.token(exchange.now_ms())
    TokenStore(settings).save(token)
    return token


def new_order(**more: Any) -> NewOrder:
    """Ten shares, far below the market: it waits."""
    given: dict[str, Any] = {
        "order_id": "tj0000000000000001", "instrument": RELIANCE, "side": Side.BUY, "quantity": 10,
        "product": Product.INTRADAY, "order_type": OrderType.LIMIT, "price": Decimal(1400),
        "trigger_price": Decimal(0), "validity": Validity.DAY, **more,
    }  # fmt: skip
    return NewOrder(**given)


def market_order(**more: Any) -> NewOrder:
    return new_order(order_type=OrderType.MARKET, price=Decimal(0), **more)


def new_gtt(*rules: RuleState, **more: Any) -> NewGtt:
    given: dict[str, Any] = {
        "gtt_id": "GTT-tj1", "type": GttType.MULTIPLE if len(rules) > 1 else GttType.SINGLE, "instrument": RELIANCE,
        "side": Side.BUY, "quantity": 10, "product": Product.INTRADAY, "rules": rules, **more,
    }  # fmt: skip
    return NewGtt(**given)


def rule(leg: Leg, price: str, trigger: TriggerType = TriggerType.IMMEDIATE, **more: Any) -> RuleState:
    side = Side.BUY if leg is Leg.ENTRY else Side.SELL
    return RuleState(
        strategy=leg, status=RuleStatus.SCHEDULED, trigger_type=trigger, trigger_price=Decimal(price),
        transaction_type=side, **more,
    )  # fmt: skip
