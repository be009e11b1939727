"""One owned shard: publishes its outbox, says how the feed is, obeys commands."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from pydantic import ValidationError

from bus import clock
from bus.connection import Bus
from bus.inbox import Entry, Inbox, Output, Writer
from bus.wait import pause
from ingest.desired import Desired, apply
from schemas import streams, ticks
from schemas.commands import COMMAND
from schemas.errors import Rejected, Unavailable
from schemas.events import Event, EventKind, FeedState
from schemas.ticks import FeedMark

if TYPE_CHECKING:
    from ingest.worker import Ingest

log = structlog.get_logger("ingest")

NAME: Final = "ingest"
_QUIET_S: Final = 1.0  # an entry at least this often, if only a heartbeat
_QUOTES_S: Final = 1.0
_STATUS_S: Final = 5.0


class Shard:
    def __init__(self, ingest: "Ingest", bus: Bus, writer: Writer, inbox: Inbox, number: int) -> None:
        self.due = asyncio.Event()  # something to publish
        self.status_due = True
        self.number = number
        self._ingest = ingest
        self._bus = bus
        self._writer = writer
        self._inbox = inbox
        self._box = ingest.collector.outboxes[number]
        self._wish = Desired()
        self._told: dict[str, Any] = {}

    async def begin(self, continues: bool) -> None:
        """Take up the shard's wish. Unless we only continue after a break, what came before us has a hole to mark."""
        saved = Desired.load(self._inbox.snapshot) if self._inbox.snapshot else None
        names = self._ingest.settings.teji_instruments
        self._wish = saved if saved and saved.settings == names else self._ingest.initial(self.number)
        if not continues and (last := await self._bus.last_entry(streams.ticks(self.number))):
            covered_to = int(last[1][b"ts"])
            self._box.put(self._entry(ticks.pack_mark(covered_to, clock.now_ns(), feed=FeedMark.DOWN)))
            if saved:
                self._ingest.covered(saved.carried, min(covered_to, saved.filled_to or covered_to))
        await self._carry()

    async def _carry(self) -> None:
        keys = self._wish.carried
        registry = self._ingest.collector.registry(self.number, keys)
        await self._writer.write(
            now_s=clock.monotonic_s(),
            hashes={streams.instruments(self.number): registry} if registry else None,
            state=(streams.state(NAME, self.number), self._wish.dump()),
        )
        self._ingest.feed.want(self.number, keys)
        self.status_due = True

    def _entry(self, fields: Mapping[Any, Any]) -> Output:
        return Output(streams.ticks(self.number), fields)

    # Publishing

    async def publish(self, over: asyncio.Event) -> None:
        """Whatever has gathered while the last publication was under way goes with the next one."""
        quotes_s = quiet_s = clock.monotonic_s()
        while not over.is_set():
            await pause(self.due, _QUIET_S / 4)
            self.due.clear()
            self._ingest.collector.flush()
            now_s = clock.monotonic_s()
            if now_s - quiet_s >= _QUIET_S and not self._box:
                self._beat(now_s)
            self._report(now_s)
            while self._box and not over.is_set():
                await self._write()
                quiet_s = clock.monotonic_s()
            if now_s - quotes_s >= _QUOTES_S:
                quotes_s = now_s
                await self._write_quotes()
        await self._finish()

    async def _finish(self) -> None:
        """No more frames; what has arrived is still published."""
        self._ingest.feed.want(self.number, {})
        await asyncio.sleep(0)  # the sockets close here, and mark the end of what they covered
        self._ingest.collector.flush()
        while self._box:
            await self._write()

    async def _write(self) -> None:
        write = self._box.take()
        sequence = (streams.sequence(NAME, self.number), write.number)
        try:
            await self._writer.write(write.outputs, now_s=clock.monotonic_s(), sequence=sequence)
        except Unavailable:
            self._box.flowing = False
            self._ingest.collector.weigh()
            self._ingest.feed.relieve()  # frames gather in memory now
            raise
        self._box.done()
        self._ingest.collector.weigh()
        if not self._ingest.collector.congested:
            self._ingest.feed.relieve()

    def _beat(self, now_s: float) -> None:
        state, _ = self._ingest.feed.state()
        up = self._wish.enabled and state is FeedState.LIVE
        self._ingest.collector.beat(self.number, up, now_s, clock.now_ns())

    async def _write_quotes(self) -> None:
        """Once a second: the quotes that have changed, and how far the bars are known to lack nothing."""
        quotes = self._ingest.collector.quotes(self.number)
        if filled_to := self._ingest.backfill.filled_to():
            self._wish = replace(self._wish, filled_to=filled_to)
        await self._writer.write(
            now_s=clock.monotonic_s(),
            hashes={streams.quotes(self.number): quotes} if quotes else None,
            state=(streams.state(NAME, self.number), self._wish.dump()),
        )
        self._ingest.collector.quotes_written(self.number)

    def _report(self, now_s: float) -> None:
        """The feed's state, when it changes; and the holes that an overflow left."""
        while self._ingest.collector.gaps:
            gap = self._ingest.collector.gaps.pop()
            message = f"{gap['frames']} frames were dropped: Redis was away for longer than the buffer lasts"
            self._box.put(self._event(EventKind.GAP, message, gap))
        if not self.status_due and now_s - float(self._told.get("at_s", 0.0)) < _STATUS_S:
            return
        self.status_due = False
        status = self._ingest.status(self._wish, self.number)
        data = status.model_dump(mode="json")
        if data != self._told.get("data"):
            text = f"feed {status.state.value}: {status.seen} of {status.desired} instruments seen"
            self._box.put(self._event(EventKind.FEED, f"{text}. {status.reason}".strip(" ."), data))
            log.info("feed", state=status.state.value, seen=status.seen, desired=status.desired, reason=status.reason)
        self._told = {"at_s": now_s, "data": data}

    def _event(self, kind: EventKind, message: str, data: dict[str, Any]) -> Output:
        event = Event(kind=kind, ts=clock.now_ms(), worker=NAME, message=message, data=data)
        return Output(streams.EVENTS, {"kind": kind.value, "data": event.model_dump_json()})

    # Commands

    async def obey(self, over: asyncio.Event) -> None:
        while not over.is_set():
            batch = await self._inbox.read(count=100, block_ms=500)
            if not batch:
                continue
            outputs = [output for entry in batch.entries for output in self._one(entry)]
            await self._inbox.commit(outputs, snapshot=self._wish.dump(), now_s=clock.monotonic_s())
            await self._carry()

    def _one(self, entry: Entry) -> list[Output]:
        """Apply one command; the reply is an event that names it."""
        kind = entry.fields.get(b"kind", b"").decode()
        if not kind.startswith("feed."):
            return []  # another worker's
        command_id = entry.fields.get(b"id", b"").decode()
        try:
            body = orjson.loads(entry.fields.get(b"data", b"{}"))
            command = COMMAND.validate_python({**body, "kind": kind})
            self._wish, answer = apply(
                self._wish, command, mine=lambda key: self._ingest.owns(self.number, key), known=self._ingest.knows
            )
        except Rejected as refusal:
            return [self._reply(command_id, str(refusal), {"ok": False})]
        except (ValidationError, orjson.JSONDecodeError) as error:
            why = str(error).splitlines()[0]
            return [self._inbox.reject(entry, why), self._reply(command_id, why, {"ok": False})]
        return [self._reply(command_id, f"{kind} done", {"ok": True, **answer})]

    def _reply(self, command_id: str, message: str, data: dict[str, Any]) -> Output:
        return self._event(EventKind.REPLY, message, {"command": command_id, "shard": self.number, **data})
