"""Has the feed carry what is traded (gtt/desk/following.py says what): commands to ingest, alerts to people."""

from typing import Final

from bus import clock
from bus.inbox import Output
from bus.settings import Settings
from gtt.desk import checking, following
from gtt.desk.desk import Desk
from gtt.publisher import Publisher
from gtt.publishing import NAME
from market.sessions import Phase
from schemas import streams
from schemas.commands import FeedSubscribe

_EVERY_S: Final = 1.0


class Follower:
    def __init__(self, settings: Settings, desk: Desk, publisher: Publisher) -> None:
        self._here = desk.here
        self._here.following.mode = settings.teji_feed_mode
        self._publisher = publisher
        self._looked_s = float("-inf")

    def look(self, now_ms: int) -> None:
        """A few times a second; at the whole book once a second, or where an entry waits."""
        here, now_s = self._here, clock.monotonic_s()
        if now_s - self._looked_s < _EVERY_S and not here.following.waiting:
            return
        self._looked_s = now_s
        wanted = {key for key in following.needed(here.book, here.venues) if here.scene.instrument(key) is not None}
        asks, told = here.following.due(now_ms, wanted, self._ts_of, self._is_open)
        for ask in asks:
            command = FeedSubscribe(instruments=list(ask.keys), mode=ask.mode)
            fields = {"id": ask.command_id, "kind": command.kind, "by": NAME, "data": command.model_dump_json()}
            self._publisher.tell(Output(streams.COMMANDS, fields))
        for one in told:
            here.alert(one.message, instrument=one.key)

    def _ts_of(self, key: str) -> int:
        quote = self._here.scene.quote(key)
        return 0 if quote is None or quote.ltp is None else quote.ts_ms

    def _is_open(self, key: str) -> bool:
        phase, _ = checking.phase_of(self._here, key, self._here.scene.instrument(key))
        return phase is Phase.CONTINUOUS
