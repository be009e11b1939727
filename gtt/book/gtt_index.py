"""Which GTTs there is something to do about, so that thousands that only wait cost nothing. Pure.

Told of each change of a GTT; nothing in it is written down.
"""

from collections import Counter
from heapq import heappop, heappush

from gtt.engine.machine import due_ts, ends_us
from gtt.engine.state import GttState
from schemas.gtt import Engine


class GttIndex:
    def __init__(self) -> None:
        self._live: dict[str, dict[str, Engine]] = {}  # by instrument; the oldest first
        self.engines: Counter[Engine] = Counter()  # of those
        self._called: dict[str, None] = {}
        self._due: list[tuple[int, str]] = []  # heaps; what is out of date in them is passed over when its time comes
        self._ends: list[tuple[int, str]] = []
        self._times: dict[str, tuple[int, int]] = {}  # as they are in the heaps

    def note(self, gtt_id: str, state: GttState, *, called: bool) -> None:
        """As it stands. `called`: something is asked of the venue, or about to be."""
        if called:
            self._called[gtt_id] = None
        else:
            self._called.pop(gtt_id, None)
        if not state.gtt.live:
            self._over(gtt_id, state.gtt.instrument)
            return
        there = self._live.setdefault(state.gtt.instrument, {})
        if gtt_id not in there:
            there[gtt_id] = state.gtt.engine
            self.engines[state.gtt.engine] += 1
        before, now = self._times.get(gtt_id, (0, 0)), (due_ts(state), ends_us(state))
        self._times[gtt_id] = now
        for heap, was, time in ((self._due, before[0], now[0]), (self._ends, before[1], now[1])):
            if time and time != was:
                heappush(heap, (time, gtt_id))

    def forget(self, gtt_id: str, instrument: str) -> None:
        self._called.pop(gtt_id, None)
        self._over(gtt_id, instrument)

    def _over(self, gtt_id: str, instrument: str) -> None:
        self._times.pop(gtt_id, None)
        if (there := self._live.get(instrument)) is not None:
            if (engine := there.pop(gtt_id, None)) is not None:
                self.engines[engine] -= 1
            if not there:
                del self._live[instrument]

    def live(self, instrument: str | None = None) -> list[str]:
        """Of which something may still happen: of an instrument, or all."""
        if instrument is not None:
            return list(self._live.get(instrument, ()))
        return [gtt_id for there in self._live.values() for gtt_id in there]

    def instruments(self) -> list[str]:
        """Those with a live GTT."""
        return list(self._live)

    def called(self) -> list[str]:
        return list(self._called)

    def due(self, now_ms: int) -> list[str]:
        """Those that want a `Timer`. They are not named again before they are noted again."""
        return self._reached(self._due, 0, now_ms)

    def ended(self, market_us: int) -> list[str]:
        """Those that want an `Expire`, by the market's clock. The same."""
        return self._reached(self._ends, 1, market_us)

    def _reached(self, heap: list[tuple[int, str]], which: int, now: int) -> list[str]:
        found = []
        while heap and heap[0][0] <= now:
            time, gtt_id = heappop(heap)
            times = self._times.get(gtt_id)
            if times is not None and times[which] == time:
                self._times[gtt_id] = (0, times[1]) if which == 0 else (times[0], 0)
                found.append(gtt_id)
        return found
