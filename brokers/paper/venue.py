"""The paper venue: `brokers.venue.Venue` without an exchange. A shell around `brokers.paper.book`."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Final, Self

from brokers.venue import (
    Capabilities,
    Funds,
    NewGtt,
    NewOrder,
    OrderChange,
    Update,
    VenueGtt,
    VenueHolding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from bus.postgres import Pool
from bus.settings import Settings
from market.instruments import Instrument
from schemas.orders import Product, TradingMode
from schemas.ticks import TickBatch

#: What Upstox has no orders by API for; and their quantities count lots.
_SEGMENTS_OFF: Final = frozenset({"MCX_FO", "NSE_COM"})


class PaperVenue:
    """One account (paper, shadow) on one database. Made by `open`; only one may be open at a time."""

    def __init__(
        self,
        settings: Settings,
        account: TradingMode,
        pool: Pool,
        instruments: Callable[[str], Instrument | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._account = account
        self._pool = pool
        self._instruments = instruments
        self._now_ms = now_ms

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        account: TradingMode,
        pool: Pool,
        instruments: Callable[[str], Instrument | None],
        now_ms: Callable[[], int],
    ) -> AsyncIterator[Self]:
        """The venue with its book as it was left. The tables are there (bus.postgres.migrate)."""
        yield cls(settings, account, pool, instruments, now_ms)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            venue=self._account.value,
            market_orders=False,
            stop_orders=True,
            ioc=True,
            modify=True,
            gtt=False,
            gtt_exit_only=False,
            gtt_trailing_share=Decimal(0),
            tag_max=40,
            push_orders=True,
            margin_check=True,
            segments_off=_SEGMENTS_OFF,
            products=frozenset(Product),
            budget=self._settings.order_budget,
        )

    def feed(self, batch: TickBatch) -> None:
        """Every batch of ticks, marks too. What it fills is told by `updates`, once it is stored."""
        raise NotImplementedError

    async def place(self, order: NewOrder) -> str:
        raise NotImplementedError

    async def modify(self, change: OrderChange) -> None:
        raise NotImplementedError

    async def cancel(self, venue_order_id: str) -> None:
        raise NotImplementedError

    async def orders(self) -> Sequence[VenueOrder]:
        raise NotImplementedError

    async def tagged(self, tag: str) -> Sequence[VenueOrder]:
        raise NotImplementedError

    async def trades(self) -> Sequence[VenueTrade]:
        raise NotImplementedError

    async def positions(self) -> Sequence[VenuePosition]:
        raise NotImplementedError

    async def holdings(self) -> Sequence[VenueHolding]:
        raise NotImplementedError

    async def funds(self) -> Funds:
        raise NotImplementedError

    async def margin(self, orders: Sequence[NewOrder]) -> Decimal:
        raise NotImplementedError

    async def place_gtt(self, gtt: NewGtt) -> str:
        raise NotImplementedError

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None:
        raise NotImplementedError

    async def cancel_gtt(self, venue_gtt_id: str) -> None:
        raise NotImplementedError

    async def gtts(self) -> Sequence[VenueGtt]:
        raise NotImplementedError

    def updates(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Update]]:
        raise NotImplementedError
