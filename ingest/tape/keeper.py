"""The tape of this process: whether there is one, by the settings or because somebody asked; and its upkeep."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import structlog

from bus import clock
from bus.settings import Settings
from bus.wait import pause
from ingest.collector import Collector
from ingest.tape.reader import prune
from ingest.tape.recorder import News, Recorder
from schemas.version import VERSION

log = structlog.get_logger("tape")

_TEND_S: Final = 1.0
_PRUNE_S: Final = 60.0
_GB: Final = 1_000_000_000

#: What a replay needs to know of the settings.
RECORDED: Final = {
    *("teji_venue", "teji_shards", "teji_calendar", "teji_grace_ms", "teji_rate"),
    *("teji_instruments", "teji_feed_mode"),
}


class Keeper:
    """`session` is the trading date by venue time, as far as anybody knows it."""

    def __init__(self, settings: Settings, collector: Collector, instance: str, session: Callable[[], date]) -> None:
        self.root = settings.home / "tape"
        about = {
            "version": VERSION,
            "instance": instance,
            "started_ns": clock.now_ns(),
            "settings": settings.model_dump(mode="json", include=RECORDED),
        }
        self.recorder = Recorder(collector, self.root, about)
        self._settings = settings
        self._instance = instance
        self._session = session
        self._until_s = float("-inf")  # somebody wants it until then

    @property
    def news(self) -> list[News]:
        return self.recorder.news

    def begin(self) -> None:
        """As the settings want it, before anything else begins."""
        if self._settings.teji_tape:
            self._record()

    def _record(self) -> None:
        if not self.recorder.on:
            self.recorder.begin(self._session(), self._name())

    def _name(self) -> str:
        return f"{clock.now_ms()}-{self._instance}"

    def ask(self, seconds: float) -> dict[str, Any]:
        """Somebody wants a tape for so long from now; 0: not any more. What is to be said of it."""
        self._until_s = clock.monotonic_s() + seconds if seconds else float("-inf")
        if seconds:
            self._record()
        self._end_if_over()
        return self.about()

    def about(self) -> dict[str, Any]:
        recorder = self.recorder
        frames, raw_bytes, stored_bytes = recorder.written
        return {
            "recording": recorder.on,
            "always": self._settings.teji_tape,
            "instance": self._instance,
            "tape": str(recorder.folder or ""),
            "frames": frames,
            "raw_bytes": raw_bytes,
            "stored_bytes": stored_bytes,
            "losing": recorder.losing,
        }

    def _end_if_over(self) -> None:
        if not self._settings.teji_tape and clock.monotonic_s() >= self._until_s:
            self.recorder.end()

    async def keep(self, stop: asyncio.Event) -> None:
        """Until it is cancelled: the last frames come after `stop`."""
        pruned_s = float("-inf")
        try:
            while True:
                self._end_if_over()
                self.recorder.tend(clock.monotonic_s(), self._session(), self._name())
                if self.recorder.on and clock.monotonic_s() - pruned_s >= _PRUNE_S:
                    pruned_s = clock.monotonic_s()
                    await self._prune()
                await (pause(stop, _TEND_S) if not stop.is_set() else asyncio.sleep(_TEND_S))
        finally:
            self.recorder.end()
            await asyncio.to_thread(self.recorder.join)

    async def _prune(self) -> None:
        keep_days, max_bytes = self._settings.teji_tape_keep_days, int(self._settings.teji_tape_max_gb * _GB)
        try:
            freed = await asyncio.to_thread(prune, self.root, self._session(), keep_days, max_bytes)
        except OSError as error:
            log.warning("old tapes cannot be cleared away", reason=str(error))
            return
        if freed:
            log.info("old tapes are cleared away", bytes=freed)
