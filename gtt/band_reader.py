"""Reads the exchange's price limits in the background, under the budget of reads: no order waits for its turn there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

import structlog

from brokers.upstox import quotes
from brokers.upstox.auth import TokenStore
from brokers.upstox.outcome import Denied
from brokers.upstox.rest import READ_BUDGET, Budget, Rest, http_client
from brokers.venue import Venue
from bus import clock
from bus.settings import Settings
from bus.wait import pause
from gtt.desk import following
from gtt.desk.here import Here
from schemas.errors import Rejected, Unavailable

log = structlog.get_logger("bands")

_LOOK_S: Final = 0.05
_BOOK_S: Final = 1.0
_READ_S: Final = 5.0
_QUESTIONS_MAX: Final = 40  # until those that are left count as not known


class Limited(Protocol):
    @property
    def lower(self) -> Decimal | None: ...

    @property
    def upper(self) -> Decimal | None: ...


@runtime_checkable
class Quoting(Protocol):
    """Who tells the price limits of the day."""

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Limited]: ...


class _Quotes:
    """Where no venue does (paper): the vendor's own quotes."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def quoted(self, keys: Sequence[str]) -> Mapping[str, Limited]:
        return await quotes.bands(self._rest, keys)


@contextlib.asynccontextmanager
async def open_quotes(settings: Settings, venues: Iterable[Venue]) -> AsyncIterator[Quoting]:
    telling = next((venue for venue in venues if isinstance(venue, Quoting)), None)
    if telling is not None:
        yield telling
        return
    async with http_client() as client:
        budget = Budget(READ_BUDGET, clock.monotonic_s)
        yield _Quotes(Rest(client, settings.upstox_api_url, TokenStore(settings).current, budget))


class BandReader:
    """`told` is called when there are new ones."""

    def __init__(self, source: Quoting, here: Here, told: Callable[[], None]) -> None:
        self._source = source
        self._here = here
        self._told = told
        self._booked_s = float("-inf")
        self._questions = 0

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            if keys := self._due():
                self._questions = 0
                await self._ask(keys)
                self._told()
            await pause(over, _LOOK_S)

    def _due(self) -> list[str]:
        here, now_s = self._here, clock.monotonic_s()
        if not here.scene.listed:
            return []
        traded: set[str] = set()
        if now_s - self._booked_s >= _BOOK_S:
            self._booked_s = now_s
            traded = following.needed(here.book, here.venues)
        keys = here.bands.due(clock.now_ms(), here.today, traded)
        return [key for key in keys if (found := here.scene.instrument(key)) is not None and not found.is_index]

    async def _ask(self, keys: list[str]) -> None:
        """One instrument that the venue does not know may be why it turns a whole question down: ask in halves."""
        on = self._here.today
        self._questions += 1
        try:
            async with asyncio.timeout(_READ_S):
                quoted = await self._source.quoted(keys)
        except (Rejected, Denied) as error:
            if len(keys) > 1 and self._questions < _QUESTIONS_MAX:
                await self._ask(keys[: len(keys) // 2])
                await self._ask(keys[len(keys) // 2 :])
                return
            log.warning("no price limits", instruments=len(keys), first=keys[0], reason=str(error))
            self._here.bands.told(keys, {}, on, clock.now_ms())
        except (Unavailable, TimeoutError) as error:
            log.warning("no price limits", instruments=len(keys), reason=str(error) or "no answer in time")
            self._here.bands.failed(keys, clock.now_ms())
        else:
            found = {
                key: (each.lower, each.upper)
                for key, each in quoted.items()
                if each.lower is not None and each.upper is not None
            }
            self._here.bands.told(keys, found, on, clock.now_ms())
