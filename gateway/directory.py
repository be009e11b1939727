"""Which instruments there are: the venue's list, fetched anew every day, and what the feed has spoken of."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from bus import clock
from bus.connection import Bus
from bus.life import pause
from market.instruments import Universe
from schemas import streams
from schemas.errors import Misconfigured, Rejected, Unavailable
from schemas.keys import InstrumentKey

log = structlog.get_logger("gateway")

Fetch = Callable[[], Awaitable[Universe]]

_REFRESH_S: Final = 3600.0  # the list itself is kept on disk for the day: asking again costs a look at a file
_RETRY_FIRST_S: Final = 1.0
_RETRY_LAST_S: Final = 60.0

_KEY: Final[TypeAdapter[str]] = TypeAdapter(InstrumentKey)


def well_formed(key: str) -> bool:
    try:
        return _KEY.validate_python(key) == key
    except ValidationError:
        return False


class Directory:
    """`universe` is None until the first list has come; until then any well-formed key is believed."""

    def __init__(self, bus: Bus, shards: int) -> None:
        self.universe: Universe | None = None
        self.loaded_ms = 0
        self.why_not = "not loaded yet"
        self.changed = asyncio.Event()  # set at each new list; who acts on it clears it
        self._bus = bus
        self._shards = shards

    def load(self, universe: Universe) -> None:
        self.universe = universe
        self.loaded_ms = clock.now_ms()
        self.why_not = ""
        self.changed.set()

    async def keep_fresh(self, fetch: Fetch, stop: asyncio.Event) -> None:
        retry_s = _RETRY_FIRST_S
        while not stop.is_set():
            try:
                universe = await fetch()
                await asyncio.to_thread(universe.prepare_search)
                self.load(universe)
                retry_s = _RETRY_FIRST_S
                wait_s = _REFRESH_S
            except (Unavailable, Rejected, Misconfigured) as error:
                self.why_not = str(error)
                log.warning("no instrument list", reason=str(error), retry_s=retry_s)
                wait_s, retry_s = retry_s, min(_RETRY_LAST_S, retry_s * 2)
            await pause(stop, wait_s)

    async def loaded(self) -> Universe:
        if self.universe is None:
            raise Unavailable(f"the list of instruments is not there: {self.why_not}")
        return self.universe

    def is_underlying(self, name: str) -> bool:
        """Whether the list has options on it: of currencies the venue names the underlying by a symbol, not a key."""
        return self.universe is not None and bool(self.universe.expiries(name))

    async def unknown(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that neither the venue's list nor the feed knows."""
        unlisted = [key for key in keys if self.universe is None or key not in self.universe]
        doubtful = [key for key in unlisted if well_formed(key)]
        hopeless = set(unlisted) - set(doubtful)
        if self.universe is not None and doubtful:
            hopeless |= await self._unregistered(doubtful)
        return [key for key in unlisted if key in hopeless]

    async def _unregistered(self, keys: list[str]) -> set[str]:
        registry = [streams.instruments(streams.shard_of(key, self._shards)) for key in keys]
        wanted = [("HGET", at, str(streams.instrument_id(key))) for at, key in zip(registry, keys, strict=True)]
        try:
            found = await self._bus.packet(*wanted)
        except Unavailable:
            return set()  # nobody can say: believe it
        return {key for key, name in zip(keys, found, strict=True) if name is None}
