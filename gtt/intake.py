"""Reads `commands` and `signals`, in order, and knows how far they are decided: no entry is passed over, none decided
twice. One that is to wait a moment (the books are being compared) holds back the place, not what comes behind it.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from pydantic import ValidationError

from bus import clock, metrics
from bus.connection import Bus
from bus.inbox import Output, order
from bus.reader import Reader
from bus.wait import pause
from gtt.desk.desk import Desk
from gtt.publisher import Publisher
from gtt.publishing import NAME
from schemas import streams
from schemas.commands import COMMAND, ORDER_COMMAND, OrderCommand
from schemas.errors import Unavailable
from schemas.events import Event, EventKind
from schemas.replies import Decision
from schemas.signals import Signal

log = structlog.get_logger("intake")

_COUNT: Final = 200
_BLOCK_MS: Final = 500
_RETRY_S: Final = 0.2
_AGAIN_S: Final = 0.05
_WAITING_FACTS_MAX: Final = 2_000  # while the journal is away, no more is decided ahead
_OURS: Final = ("order.", "gtt.", "position.", "strategy.")
_STREAMS: Final = (streams.COMMANDS, streams.SIGNALS)


class Poisoned(Unavailable):
    """The desk has a bug, and this entry meets it. What was decided since the last write is dropped: the session begins
    again from the journal, and sets the entry aside, so that exits go on."""

    def __init__(self, stream: str, entry_id: str, why: str) -> None:
        super().__init__(f"{stream} {entry_id}: {why}")
        self.entry = (stream, entry_id)
        self.why = why


@dataclass(slots=True)
class _Place:
    read: str  # up to here entries have been read
    waiting: dict[str, dict[bytes, bytes]] = field(default_factory=dict)  # and these are not decided yet
    before: dict[str, str] = field(default_factory=dict)  # id of the entry before each of those

    @property
    def decided(self) -> str:
        first = next(iter(self.waiting), None)
        return self.read if first is None else self.before[first]


class Intake:
    def __init__(self, bus: Bus, desk: Desk, publisher: Publisher, wake: asyncio.Event, places: dict[str, str]) -> None:
        self.poison: dict[tuple[str, str], str] = {}  # entries to be set aside, and why
        self._reader = Reader(bus)
        self._desk = desk
        self._publisher = publisher
        self._wake = wake
        self._places = {stream: _Place(places.get(stream, "0-0")) for stream in _STREAMS}

    def decided(self) -> dict[str, str]:
        return {stream: place.decided for stream, place in self._places.items()}

    async def run(self, over: asyncio.Event) -> None:
        try:
            while not over.is_set():
                try:
                    await self._read()
                except Poisoned:
                    raise
                except Unavailable as error:
                    log.warning("waiting", reason=str(error))
                    await pause(over, _RETRY_S)
        finally:
            await self._reader.close()

    async def _read(self) -> None:
        if self._desk.here.ledger.waiting > _WAITING_FACTS_MAX:
            await asyncio.sleep(_AGAIN_S)
            return
        held_back = any(place.waiting for place in self._places.values())
        places = {stream: place.read for stream, place in self._places.items()}
        block_ms = int(_AGAIN_S * 1000) if held_back else _BLOCK_MS
        for read in await self._reader.read(places, count=_COUNT, block_ms=block_ms, marks=True):
            place = self._places[read.stream]
            if read.mark is not None and order(read.mark.decode()) > order(place.read) and place.read != "0-0":
                self._missed(read.stream, place.read, read.mark.decode())
            for raw_id, fields in read.entries:
                entry_id = raw_id.decode()
                place.waiting[entry_id], place.before[entry_id] = fields, place.read
                place.read = entry_id
            metrics.READ_ENTRIES.labels(NAME).inc(len(read.entries))
        self.decide()
        self._wake.set()

    def decide(self) -> None:
        """Everything that waits, in order; also when something that it waited for is known."""
        for stream, place in self._places.items():
            for entry_id in list(place.waiting):
                if self._one(stream, entry_id, place.waiting[entry_id]):
                    del place.waiting[entry_id], place.before[entry_id]

    def _missed(self, stream: str, after: str, last: str) -> None:
        metrics.MISSED_GAPS.labels(stream).inc()
        message = f"entries of {stream} were trimmed before the order worker read them"
        self._event(EventKind.GAP, message, {"stream": stream, "after": after, "last": last})

    def _one(self, stream: str, entry_id: str, fields: dict[bytes, bytes]) -> bool:
        """Whether it is decided, or nobody's."""
        kind = fields.get(b"kind", b"").decode(errors="replace")
        if stream == streams.COMMANDS and not kind.startswith(_OURS):
            if kind.startswith("feed."):
                self._heard(kind, fields)
            return True
        try:
            if why := self.poison.get((stream, entry_id)):
                raise ValueError(why)
            read = _signal(fields) if stream == streams.SIGNALS else _command(kind, fields)
        except (ValidationError, ValueError, KeyError) as error:
            self._reject(stream, entry_id, fields, _words(error))
            return True
        try:
            return self._decide(read, order(entry_id)[0])
        except Exception as bug:
            log.exception("an entry that the desk fails on", stream=stream, entry=entry_id)
            raise Poisoned(stream, entry_id, f"the order worker fails on it: {type(bug).__name__}: {bug}") from bug

    def _decide(self, read: "Signal | _Command", entry_ms: int) -> bool:
        if isinstance(read, Signal):
            return self._desk.signal(clock.now_ms(), read, entry_ms)
        return self._desk.command(clock.now_ms(), read.command_id, read.by, read.command, entry_ms)

    def _heard(self, kind: str, fields: dict[bytes, bytes]) -> None:
        """What somebody asks of the feed. It is ingest that refuses what is wrong."""
        with contextlib.suppress(ValidationError, orjson.JSONDecodeError, TypeError):
            body = orjson.loads(fields.get(b"data", b"{}"))
            self._desk.here.following.heard(COMMAND.validate_python({**body, "kind": kind}))

    def _reject(self, stream: str, entry_id: str, fields: dict[bytes, bytes], why: str) -> None:
        """Nobody understands it: set aside, and answered where somebody may wait."""
        metrics.DEAD_ENTRIES.labels(stream).inc()
        about = {b"entry": entry_id, b"why": why, b"worker": NAME}
        self._publisher.tell(Output(streams.dead(stream), {**fields, **about}))
        if stream == streams.COMMANDS and (command := fields.get(b"id")):
            said = Decision(command=command.decode(errors="replace"), ok=False, rule="form", reason=why)
            self._event(EventKind.REPLY, why, said.model_dump(mode="json"))

    def _event(self, kind: EventKind, message: str, data: dict[str, Any]) -> None:
        event = Event(kind=kind, ts=clock.now_ms(), worker=NAME, message=message, data=data)
        fields = {"kind": kind.value, "data": event.model_dump_json()}
        self._publisher.tell(Output(streams.EVENTS, fields))


@dataclass(frozen=True, slots=True)
class _Command:
    command_id: str
    by: str
    command: OrderCommand


def _signal(fields: dict[bytes, bytes]) -> Signal:
    return Signal.model_validate_json(fields[b"data"])


def _command(kind: str, fields: dict[bytes, bytes]) -> _Command:
    body = orjson.loads(fields.get(b"data", b"{}"))
    command = ORDER_COMMAND.validate_python({**body, "kind": kind} if isinstance(body, dict) else body)
    return _Command(fields[b"id"].decode(), fields.get(b"by", b"").decode(errors="replace"), command)


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
    return f"no field {error}" if isinstance(error, KeyError) else str(error)
