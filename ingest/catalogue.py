"""The instruments of the day: read at the start, renewed every morning, waited for where the venue has none."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Final

import structlog

from brokers.upstox import instruments
from bus.settings import Settings
from bus.wait import pause
from ingest import names, terms
from market import sessions
from market.instruments import Instrument, Universe
from schemas.errors import Misconfigured, Unavailable

log = structlog.get_logger("instruments")

_RETRY_S: Final = 1.0
_RETRY_MAX_S: Final = 60.0
_LOOK_S: Final = 30.0


class Catalogue:
    """`now_ms` is venue time as far as anybody knows it. `edition` is None until there is a list."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self.edition: date | None = None
        self.why_not = "the instrument file has not been read yet"
        self._settings = settings
        self._now_ms = now_ms
        self._universe = Universe(())
        self._resolved: list[str] = []
        self._underlyings: frozenset[str] = frozenset()

    def get(self, key: str) -> Instrument | None:
        return self._universe.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._universe

    @property
    def resolved(self) -> list[str]:
        """What TEJI_INSTRUMENTS means today."""
        return self._resolved

    def terms(self, keys: Iterable[str]) -> Mapping[str, str]:
        """What `terms:{k}` says of these today."""
        return terms.fields(map(self._universe.get, keys), self._underlyings)

    async def keep(self, changed: Callable[[], None], stop: asyncio.Event) -> None:
        """Have the list of the day; `changed` hears of each new one."""
        retry_s = _RETRY_S
        while not stop.is_set():
            wait_s = _LOOK_S
            if self.edition != (wanted := instruments.edition(self._now_ms())):
                try:
                    self._adopt(await instruments.fetch(self._settings, self._now_ms()), wanted)
                    retry_s = _RETRY_S
                    changed()
                except Unavailable as error:
                    self.why_not = str(error)
                    log.warning("no instrument file", reason=self.why_not)
                    changed()
                    wait_s, retry_s = retry_s, min(2 * retry_s, _RETRY_MAX_S)
            await pause(stop, wait_s)

    def _adopt(self, universe: Universe, edition: date) -> None:
        on = sessions.trading_date(self._now_ms())
        try:
            resolved = names.resolve(self._settings.teji_instruments, universe, on)
        except Misconfigured as error:
            if self.edition is None:
                raise
            log.error("the instruments stay those of yesterday", reason=str(error))  # a contract that has expired
            resolved = [key for key in self._resolved if key in universe]
        self._universe, self._resolved, self.edition = universe, resolved, edition
        self._underlyings = frozenset(universe.underlyings())
        log.info("instruments", listed=len(universe), asked_for=len(resolved), edition=edition.isoformat())
