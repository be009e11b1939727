"""Orders, GTTs and books at Upstox, on the vendor's SDK: `brokers.venue.Venue` for live trading.

A write is tried once. What came of it is exactly one of the venue protocol's four endings, see `sdk.py` and
`outcome.py`. Nobody waits here for a turn to write: the order worker keeps the budget of writes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from functools import partial
from typing import Any, Final

import structlog

from brokers.upstox import bodies, egress, outcome, parse, quotes
from brokers.upstox.auth import TokenStore
from brokers.upstox.egress import Egress
from brokers.upstox.quotes import Quoted
from brokers.upstox.rest import READ_BUDGET, Budget, NeedsLogin, Rest, Throttled, VenueError, http_client
from brokers.upstox.sdk import Answer, Failure, Sdk
from brokers.upstox.updates import Updates
from brokers.venue import (
    Capabilities,
    Funds,
    Lost,
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
from bus import clock
from bus.settings import Settings
from schemas.money import ZERO
from schemas.orders import Product

log = structlog.get_logger("orders")

NAME: Final = "upstox"

_VERSION: Final = "2.0"  # the older calls want one as a header; it is in their paths as well
_BELIEVED_S: Final = 10.0

#: The venue's own limits of all order writes together. Ours may be set lower, never higher.
BUDGET: Final = ((1.0, 10), (60.0, 500), (1800.0, 2000))
_REGISTERED_A_SECOND: Final = 50  # for an algo that the exchange has registered


def capabilities(settings: Settings) -> Capabilities:
    ours, theirs = dict(settings.order_budget), dict(BUDGET)
    if settings.teji_algo_name:
        theirs[1.0] = _REGISTERED_A_SECOND
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
        budget=tuple((window_s, min(limit, ours.get(window_s, limit))) for window_s, limit in theirs.items()),
    )


class UpstoxOrders:
    """One per process. Open it; the token is looked up at every call, so a fresh login needs no restart."""

    def __init__(self, settings: Settings, tokens: TokenStore) -> None:
        self._settings = settings
        self._tokens = tokens
        self._capabilities = capabilities(settings)
        self._budget = Budget(READ_BUDGET, clock.monotonic_s)
        self._turn = asyncio.Lock()
        self._sdk = Sdk(settings)
        self._believed: dict[str, float] = {}  # tokens that a profile was shown for, and when
        self._doubting: asyncio.Task[None] | None = None
        self._http: Rest | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, tokens: TokenStore) -> AsyncIterator["UpstoxOrders"]:
        venue = cls(settings, tokens)
        async with http_client() as client:
            # Beside the SDK, for what it cannot do: the stream with GTTs, whose types it has no words for.
            venue._http = Rest(client, settings.upstox_api_url, tokens.current, venue._budget)
            try:
                yield venue
            finally:
                await venue._close()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    # Orders

    async def place(self, order: NewOrder) -> str:
        body = bodies.place(order)
        return _first(await self._write(lambda: self._sdk.orders_v3.place_order(body)), "order_ids", "order_id")

    async def modify(self, change: OrderChange) -> None:
        body = bodies.modify(change)
        await self._write(lambda: self._sdk.orders_v3.modify_order(body))

    async def cancel(self, venue_order_id: str) -> None:
        await self._write(lambda: self._sdk.orders_v3.cancel_order(venue_order_id))

    async def orders(self) -> Sequence[VenueOrder]:
        return _readable(await self._read(lambda: self._sdk.orders.get_order_book(_VERSION)), "the order book")

    async def tagged(self, tag: str) -> Sequence[VenueOrder]:
        try:
            data = await self._read(lambda: self._sdk.orders.get_order_details(_VERSION, tag=tag))
        except outcome.Denied as error:
            if error.code in outcome.NONE_THERE:
                return []
            raise
        return parse.last_states([each for each in _readable(data, "the history of a tag") if each.tag == tag])

    async def trades(self) -> Sequence[VenueTrade]:
        return parse.listed(
            await self._read(lambda: self._sdk.orders.get_trade_history(_VERSION)), "trades", parse.trade
        )

    # The account

    async def positions(self) -> Sequence[VenuePosition]:
        data = await self._read(lambda: self._sdk.portfolio.get_positions(_VERSION))
        return parse.listed(data, "positions", parse.position)

    async def holdings(self) -> Sequence[VenueHolding]:
        data = await self._read(lambda: self._sdk.portfolio.get_holdings(_VERSION))
        return parse.listed(data, "holdings", parse.holding)

    async def funds(self) -> Funds:
        return parse.funds(await self._read(self._sdk.user.get_user_fund_margin_v3))

    async def margin(self, orders: Sequence[NewOrder]) -> Decimal:
        needed = ZERO
        for question in bodies.margins(orders):
            needed += parse.margin(await self._read(partial(self._sdk.charges.post_margin, question)))
        return needed

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Quoted]:
        """Circuit limits, last price and depth, by key, for the risk check. What the venue does not know is missing."""
        with _unavailable():
            return await quotes.bands(self._rest(), keys)

    async def egress(self) -> Egress:
        """Whether orders leave from an address that is registered. Raises Unavailable where nobody can say."""
        with _unavailable():
            return await egress.check(self._rest(), self._settings)

    # GTTs

    async def place_gtt(self, gtt: NewGtt) -> str:
        body = bodies.place_gtt(gtt)
        data = await self._write(lambda: self._sdk.orders_v3.place_gtt_order(body))
        return _first(data, "gtt_order_ids", "gtt_order_id")

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None:
        body = bodies.modify_gtt(venue_gtt_id, gtt)
        await self._write(lambda: self._sdk.orders_v3.modify_gtt_order(body))

    async def cancel_gtt(self, venue_gtt_id: str) -> None:
        body = bodies.cancel_gtt(venue_gtt_id)
        await self._write(lambda: self._sdk.orders_v3.cancel_gtt_order(body))

    async def gtts(self) -> Sequence[VenueGtt]:
        return parse.listed(await self._read(self._sdk.orders_v3.get_gtt_order_details), "GTTs", parse.gtt)

    # What the venue tells by itself

    def updates(self) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
        return Updates(self._rest(), self._tokens, self._settings).open()

    # How calls are made

    async def _write(self, request: Callable[[], Any]) -> Any:
        token = self._tokens.current()
        if token is None:
            raise outcome.NoLogin("no access token")
        end = await self._sdk.call(request, token=token, writes=True)
        self._doubt(end, token)
        return outcome.of_write(end)

    async def _read(self, request: Callable[[], Any]) -> Any:
        async with self._turn:
            wait_s = self._budget.wait_s()
            if wait_s > self._settings.teji_order_timeout_s:
                raise Throttled(f"our budget of calls is used up for {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
            self._budget.spend()
        token = self._tokens.current()
        if token is None:
            raise NeedsLogin("no access token")
        end = await self._sdk.call(request, token=token, writes=False)
        self._doubt(end, token)
        return outcome.of_read(end)

    def _doubt(self, end: Answer | Failure, token: str) -> None:
        """401 is also said of good tokens on order calls. Only one that is no good for the profile either is given up:
        after that nothing is asked with it until there is another login. Nobody waits for this."""
        if not isinstance(end, Answer) or end.status != 401 or (self._doubting and not self._doubting.done()):
            return
        if clock.monotonic_s() - self._believed.get(token, -_BELIEVED_S) >= _BELIEVED_S:
            self._doubting = asyncio.create_task(self._look_at(token))

    async def _look_at(self, token: str) -> None:
        shown = await self._sdk.call(lambda: self._sdk.user.get_profile(_VERSION), token=token, writes=False)
        if isinstance(shown, Answer) and shown.status == 401:
            log.warning("the venue refuses the access token: a login is needed")
            self._tokens.refuse(token)
        elif isinstance(shown, Answer) and shown.status == 200:
            self._believed = {token: clock.monotonic_s()}

    async def _close(self) -> None:
        if self._doubting:
            self._doubting.cancel()
            await asyncio.gather(self._doubting, return_exceptions=True)
        self._sdk.close()

    def _rest(self) -> Rest:
        if self._http is None:
            raise RuntimeError("not open: use `async with UpstoxOrders.open(...)`")
        return self._http


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """A question that the venue turns down has no answer: the protocol knows no more of reads."""
    try:
        yield
    except VenueError as error:
        raise outcome.Denied(error.status, error.code, str(error).partition(": ")[2]) from None


def _first(data: Any, *names: str) -> str:
    """The id that a write has led to. Without one nobody knows."""
    for name in names:
        told = data.get(name) if isinstance(data, dict) else None
        if isinstance(told, list):
            told = told[0] if told else None
        if isinstance(told, str | int) and told:
            return str(told)
    raise Lost("the venue took the request and told no id")


def _readable(data: Any, what: str) -> list[VenueOrder]:
    found, passed_over = parse.orders(data)
    if passed_over:
        log.warning("orders of others that cannot be read", where=what, count=passed_over)
    return found
