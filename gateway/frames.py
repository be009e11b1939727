"""What the SSE feeds say: stream entries become events, and the state that a newcomer is told first is kept. Pure.

The bytes of an event are made here, by hand: sse-starlette's encoder takes 2.6 us for a candle because it has to split
any text into lines, and ours, whose JSON has none, takes 0.3 us. Data that does hold line breaks is still split.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import date
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import orjson

from gateway.index import BarIndex
from gateway.positions import WHOLE, Position
from schemas import streams
from schemas.events import EventKind, FeedStatus
from schemas.quotes import encode
from schemas.ticks import TICK, TickBatch, unpack

Fields = Mapping[bytes, bytes]
#: What a reader asked for: instruments or strategies; None for everything.
Wanted = Collection[str] | None

_BREAKS: Final = re.compile(rb"\r\n|\n|\r")


class Frame(NamedTuple):
    """One event, all but its `id`."""

    key: str  # what filters look at
    body: bytes
    part: int = WHOLE  # its place among the events of its entry


class Shown(NamedTuple):
    """An event of a snapshot. Without a position it carries no `id`."""

    body: bytes
    position: Position | None = None


def body(name: str, data: bytes) -> bytes:
    """The lines of an event after its `id`, and the empty one that ends it."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_BREAKS.split(data))
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


class Codec(Protocol):
    """Turns the entries of one feed's streams into events."""

    def remember(self, position: Position, fields: Fields, /) -> None:
        """Keep what a snapshot will need. Raises ValueError for an entry that is not one of this feed's."""

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        """The events of an entry that somebody wants. Raises ValueError as `remember` does."""

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        """What a newcomer is told before what is new."""


def field(fields: Fields, name: bytes) -> bytes:
    try:
        return fields[name]
    except KeyError:
        raise ValueError(f"an entry without its field {name.decode()!r}") from None


def parsed(data: bytes) -> dict[str, Any]:
    value = orjson.loads(data)  # its error is a ValueError
    if not isinstance(value, dict):
        raise ValueError("data that is no JSON object")
    return value


# Ticks


class Ticks:
    """`ticks:{k}`: one `tick` per record, in the shape of a quote."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._rows: dict[int, int] = {}  # instrument id -> its row in _last
        self._last = np.zeros(256, TICK)
        self._loaded: dict[str, tuple[int, bytes]] = {}  # quotes from Redis: key -> (rx, JSON)

    def load(self, key: str, quote: bytes) -> None:
        """A quote that was stored before this reader's first entry."""
        self._loaded[key] = (int(parsed(quote)["rx"]), quote)

    def _id(self, key: str) -> int:
        number = self._ids.get(key)
        if number is None:
            number = self._ids[key] = streams.instrument_id(key)
            self._keys[number] = key
        return number

    def _unpacked(self, fields: Fields) -> tuple[TickBatch, list[int]]:
        """The batch and its instruments' ids, record by record, all of which have names afterwards."""
        batch = unpack(fields)
        numbers = batch.rec["id"].tolist()
        if not {self._id(key) for key in batch.keys}.issuperset(numbers):
            raise ValueError("records of instruments that the entry does not name")
        return batch, numbers

    def remember(self, _: Position, fields: Fields, /) -> None:
        batch, numbers = self._unpacked(fields)
        latest = dict(zip(numbers, range(len(numbers)), strict=True))
        for number in latest:
            if number not in self._rows:
                self._rows[number] = len(self._rows)
        if len(self._rows) > len(self._last):
            self._last = np.concatenate([self._last, np.zeros(len(self._rows), TICK)])
        self._last[[self._rows[number] for number in latest]] = batch.rec[list(latest.values())]

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        batch, numbers = self._unpacked(fields)
        last = len(numbers)
        keys = [self._keys[number] for number in numbers]
        places = [place for place, key in enumerate(keys) if wanted is None or key in wanted]
        mine = [keys[place] for place in places]
        return [
            Frame(key, body("tick", quote), WHOLE if place + 1 == last else place + 1)
            for place, key, quote in zip(places, mine, encode(mine, batch.rec[places]), strict=True)
        ]

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        seen = {self._keys[number]: row for number, row in self._rows.items()}
        keys = sorted(seen.keys() | self._loaded.keys() if wanted is None else wanted)
        mine = [key for key in keys if key in seen]
        quotes = dict(zip(mine, encode(mine, self._last[[seen[key] for key in mine]]), strict=True))
        for key in keys:
            rx, quote = self._loaded.get(key, (-1, b""))
            if rx >= 0 and (key not in seen or rx > int(self._last["rx"][seen[key]])):
                quotes[key] = quote
        return [Shown(body("tick", quotes[key])) for key in keys if key in quotes]


# Candles and chains


class Newest(NamedTuple):
    entry_ms: int
    ts: int
    data: bytes


class Chains:
    """The newest chain of each underlying and expiry."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Newest] = {}

    def remember(self, position: Position, fields: Fields) -> None:
        pair = (field(fields, b"underlying").decode(), field(fields, b"expiry").decode())
        date.fromisoformat(pair[1])  # its error is a ValueError
        ts, data = int(field(fields, b"ts")), field(fields, b"data")
        known = self._newest.get(pair)
        if known is None or ts >= known.ts:  # an older minute may be told again, in a new revision
            self._newest[pair] = Newest(position.ms, ts, data)

    def forget_before(self, ms: int) -> None:
        for pair in [pair for pair, chain in self._newest.items() if chain.entry_ms < ms]:
            del self._newest[pair]

    def find(self, underlying: str) -> dict[str, Newest]:
        """By expiry."""
        return {expiry: chain for (of, expiry), chain in self._newest.items() if of == underlying}

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        chains = sorted(pair for pair in self._newest if wanted is None or pair[0] in wanted)
        return [Shown(body("chain", self._newest[pair].data)) for pair in chains]


class Candles:
    """`candles:{k}` and `chain:{k}`: one `candle` or `chain` per entry; a newcomer is told the newest of each."""

    def __init__(self, index: BarIndex) -> None:
        self.chains = Chains()
        self._index = index
        self._newest: dict[str, tuple[int, bytes]] = {}  # instrument -> ts and bar

    def forget_before(self, ms: int) -> int:
        """Drop what came in entries older than `ms`: trimming has taken them."""
        dropped = self._index.forget_before(ms)
        for instrument in [key for key in self._newest if key not in self._index]:
            del self._newest[instrument]
        self.chains.forget_before(ms)
        return dropped

    def remember(self, position: Position, fields: Fields) -> None:
        if b"underlying" in fields:
            self.chains.remember(position, fields)
            return
        data = field(fields, b"data")
        instrument, ts = field(fields, b"instrument").decode(), int(field(fields, b"ts"))
        newest = self._index.add(instrument, ts, position, rev_of(data))
        if newest:
            self._newest[instrument] = (ts, data)

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        name, of = ("chain", b"underlying") if b"underlying" in fields else ("candle", b"instrument")
        key = field(fields, of).decode()
        return [Frame(key, body(name, field(fields, b"data")))] if wanted is None or key in wanted else []

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        bars = self._newest if wanted is None else {k: self._newest[k] for k in wanted if k in self._newest}
        shown = [
            Shown(body("candle", data)) for _, (_, data) in sorted(bars.items(), key=lambda bar: (bar[1][0], bar[0]))
        ]
        return shown + self.chains.snapshot(wanted)


class LongBars:
    """`intervals:{k}` and `chain:{k}`: bars of more than a minute, and chains as for one.

    A reader wants one interval, of all instruments or of some: `5m`, or `5m NSE_FO|61755`. A key has its segment in
    front, so neither can be the other, nor the name of an underlying, which is what a chain goes by (or, for those who
    want all, ALL_CHAINS). Each event has both names; no reader asks for both.
    """

    ALL_CHAINS: Final = "chain"

    def __init__(self) -> None:
        self._chains = Chains()
        self._newest: dict[str, dict[str, Newest]] = {}  # interval -> instrument -> bar

    @classmethod
    def wanted(cls, interval: str, instruments: frozenset[str] | None) -> frozenset[str]:
        if instruments is None:
            return frozenset((interval, cls.ALL_CHAINS))
        return instruments | {f"{interval} {key}" for key in instruments}

    def forget_before(self, ms: int) -> None:
        self._chains.forget_before(ms)
        for bars in self._newest.values():
            for key in [key for key, bar in bars.items() if bar.entry_ms < ms]:
                del bars[key]

    def remember(self, position: Position, fields: Fields) -> None:
        if b"underlying" in fields:
            self._chains.remember(position, fields)
            return
        interval, instrument = field(fields, b"interval").decode(), field(fields, b"instrument").decode()
        ts, data = int(field(fields, b"ts")), field(fields, b"data")
        known = self._newest.setdefault(interval, {}).get(instrument)
        if known is None or ts >= known.ts:
            self._newest[interval][instrument] = Newest(position.ms, ts, data)

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        if b"underlying" in fields:
            names, name = (field(fields, b"underlying").decode(), self.ALL_CHAINS), "chain"
        else:
            interval, instrument = field(fields, b"interval").decode(), field(fields, b"instrument").decode()
            names, name = (f"{interval} {instrument}", interval), "candle"
        asked = names[:1] if wanted is None else [key for key in names if key in wanted]
        event = body(name, field(fields, b"data")) if asked else b""
        return [Frame(key, event) for key in asked]

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        found = {
            (bar.ts, instrument): bar.data
            for interval, bars in self._newest.items()
            for instrument, bar in bars.items()
            if wanted is None or interval in wanted or f"{interval} {instrument}" in wanted
        }
        chains = None if wanted is None or self.ALL_CHAINS in wanted else wanted
        return [Shown(body("candle", data)) for _, data in sorted(found.items())] + self._chains.snapshot(chains)


_REV: Final = re.compile(rb'"rev":\s?(\d{1,9})\s*(?:,\s*"model":\s?(?:null|\{[^{}]*\})\s*)?\}\s*\Z')


def rev_of(bar: bytes) -> int:
    """The revision of a bar's JSON. In what the aggregator writes only its model may stand behind: no need to parse."""
    found = _REV.search(bar, max(0, bar.rfind(b'"rev"')))
    return int(found[1]) if found else int(parsed(bar).get("rev", 0))


_FIRST_REV: Final = re.compile(rb'"rev":\s?(\d{1,9})\b')


def rev_in(chain: bytes) -> int:
    """The revision of a chain's JSON; nothing inside of a chain has one of its own."""
    found = _FIRST_REV.search(chain)
    return int(found[1]) if found else 0


# Signals, events

_SHOWN: Final = 20
_KEPT: Final = 500


class Log:
    """A stream that is read from its end: a newcomer is told the last twenty entries, each under its own `id`."""

    def __init__(self) -> None:
        self._tail: deque[tuple[Position, Frame]] = deque(maxlen=_KEPT)

    def _frame(self, fields: Fields) -> Frame:
        raise NotImplementedError

    def remember(self, position: Position, fields: Fields) -> None:
        self._tail.append((position, self._frame(fields)))

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        frame = self._frame(fields)
        return [frame] if wanted is None or frame.key in wanted else []

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        fitting = (pair for pair in reversed(self._tail) if wanted is None or pair[1].key in wanted)
        return [Shown(frame.body, position) for position, frame in islice(fitting, _SHOWN)][::-1]


class Signals(Log):
    """`signals`: filtered by strategy."""

    def _frame(self, fields: Fields) -> Frame:
        return Frame(field(fields, b"strategy").decode(), body("signal", field(fields, b"data")))


class Events(Log):
    """`events`: a newcomer is also told the last state of each shard's feed, however long ago that was."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds: dict[int, tuple[Position, dict[str, Any]]] = {}  # shard -> its last feed event
        self.replies: dict[str, list[Callable[[dict[str, Any]], None]]] = {}  # command -> who waits for its reply

    def remember(self, position: Position, fields: Fields) -> None:
        super().remember(position, fields)
        kind = field(fields, b"kind").decode()
        if kind not in (EventKind.FEED, EventKind.REPLY):
            return
        event = parsed(fields[b"data"])
        data = event.get("data")
        if not isinstance(data, dict):
            raise ValueError(f"a {kind} event without data")
        if kind == EventKind.FEED:
            FeedStatus.model_validate(data)  # its error is a ValueError
            self.feeds[data["shard"]] = (position, event)
        else:
            for answered in list(self.replies.get(str(data.get("command")), ())):
                answered(event)

    def _frame(self, fields: Fields) -> Frame:
        return Frame(field(fields, b"kind").decode(), body("event", field(fields, b"data")))

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        tail = super().snapshot(wanted)
        first = tail[0].position if tail else None
        older = [pair for pair in self.feeds.values() if first is None or pair[0] < first]
        older.sort(key=lambda pair: pair[0])
        return [Shown(body("event", orjson.dumps(event))) for _, event in older] + tail
