"""Orders, GTTs and books at Upstox, on the vendor's SDK: `brokers.venue.Venue` for live trading.

A write is tried once. What came of it is exactly one of the venue protocol's four endings, see `sdk.py`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Final

from brokers.upstox.auth import TokenStore
from brokers.upstox.quotes import Quoted
from brokers.venue import (
    Capabilities,
    Funds,
    NewGtt,
    NewOrder,
    NotSent,
    OrderChange,
    Update,
    VenueGtt,
    VenueHolding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from bus.settings import Settings
from schemas.errors import Unavailable
from schemas.orders import Product

NAME: Final = "upstox"

#: The venue's own limits of all order writes together. Ours may be set lower, never higher.
BUDGET: Final = ((1.0, 10), (60.0, 500), (1800.0, 2000))


def capabilities(settings: Settings) -> Capabilities:
    ours = dict(settings.order_budget)
    return Capabilities(
        venue=NAME,
        market_orders=False,
        stop_orders=True,
        ioc=True,
        modify=True,
        gtt=True,
        gtt_exit_only=False,
        gtt_trailing_share=Decimal("0.10"),
        tag_max=40,
        push_orders=True,
        margin_check=True,
        segments_off=frozenset({"MCX_FO"}),
        products=frozenset(Product),
        budget=tuple((window_s, min(limit, ours.get(window_s, limit))) for window_s, limit in BUDGET),
    )


class UpstoxOrders:
    """One per process. Open it; the token is looked up at every call, so a fresh login needs no restart."""

    def __init__(self, settings: Settings, tokens: TokenStore) -> None:
        self._settings = settings
        self._tokens = tokens
        self._capabilities = capabilities(settings)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, tokens: TokenStore) -> AsyncIterator["UpstoxOrders"]:
        yield cls(settings, tokens)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def place(self, order: NewOrder) -> str:
        raise NotSent("not connected")

    async def modify(self, change: OrderChange) -> None:
        raise NotSent("not connected")

    async def cancel(self, venue_order_id: str) -> None:
        raise NotSent("not connected")

    async def orders(self) -> Sequence[VenueOrder]:
        raise Unavailable("not connected")

    async def tagged(self, tag: str) -> Sequence[VenueOrder]:
        raise Unavailable("not connected")

    async def trades(self) -> Sequence[VenueTrade]:
        raise Unavailable("not connected")

    async def positions(self) -> Sequence[VenuePosition]:
        raise Unavailable("not connected")

    async def holdings(self) -> Sequence[VenueHolding]:
        raise Unavailable("not connected")

    async def funds(self) -> Funds:
        raise Unavailable("not connected")

    async def margin(self, orders: Sequence[NewOrder]) -> Decimal:
        raise Unavailable("not connected")

    async def place_gtt(self, gtt: NewGtt) -> str:
        raise NotSent("not connected")

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None:
        raise NotSent("not connected")

    async def cancel_gtt(self, venue_gtt_id: str) -> None:
        raise NotSent("not connected")

    async def gtts(self) -> Sequence[VenueGtt]:
        raise Unavailable("not connected")

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Quoted]:
        """Circuit limits, last price and depth, by key, for the risk check. What the venue does not know is missing."""
        raise Unavailable("not connected")

    def updates(self) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
        raise Unavailable("not connected")
