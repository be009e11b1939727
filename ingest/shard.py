"""One owned shard: publishes its outbox, says how the feed is, obeys commands."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from pydantic import ValidationError

from bus import clock
from bus.connection import Bus
from bus.inbox import Entry, Inbox, Output, Published, Writer
from bus.life import until_done
from bus.settings import FeedPlan
from bus.wait import pause
from ingest import quotes
from ingest.desired import Desired, apply
from ingest.health import Found
from ingest.mending import mend
from ingest.status import Reporter
from ingest.tape.shards import ShardTape
from schemas import streams, ticks
from schemas.commands import COMMAND, TAPE_RECORD, FeedBackfill, FeedSubscribe, Mode, TapeRecord
from schemas.errors import Rejected
from schemas.events import Event, EventKind, FeedState
from schemas.ticks import FeedMark

if TYPE_CHECKING:
    from ingest.worker import Ingest

log = structlog.get_logger("ingest")

NAME: Final = "ingest"
_QUIET_S: Final = 1.0  # an entry at least this often, if only a heartbeat
_STATE_S: Final = 5.0
_TURNS: Final = 4  # of the loop, until what was written is on its way


class Shard:
    """`due` is set when there may be something to publish."""

    def __init__(self, ingest: "Ingest", bus: Bus, writer: Writer, inbox: Inbox, number: int) -> None:
        self.due = asyncio.Event()
        self.reporter = Reporter()
        self.number = number
        self._ingest = ingest
        self._collector = ingest.collector
        self._bus = bus
        self._writer = writer
        self._inbox = inbox
        self._box = ingest.collector.outbox(number)
        self._wish = Desired()
        self._base: Mapping[str, Mode] = {}  # what the settings mean, of this shard
        self._edition: date | None = None  # of the instruments, at that time
        self._covered_to = 0  # where the stream breaks off
        self._found: Found | None = None  # of what is missing, what was written down last
        self._quiet_s = self._state_s = clock.monotonic_s()
        self._tape = ShardTape(ingest.tape.recorder, bus, number)

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over. Raises Unavailable or LeaseLost; nothing is lost."""
        await self._begin()
        await until_done(self._publish(over), self._obey(over))
        await self._finish()

    async def _begin(self) -> None:
        """Go on where we were interrupted; or where somebody else was, with a mark: there is a hole."""
        saved = Desired.load(self._inbox.snapshot) if self._inbox.snapshot else None
        mine = self._ingest.wishes.get(self.number)
        ours = mine is not None and (saved is None or saved.publisher == self._bus.instance)
        self._take_up(saved, mine if ours else None)
        stream = streams.ticks(self.number)
        published = Published.load(await self._bus.get(streams.sequence(NAME, self.number)))
        last = await self._bus.last_entry(stream)
        self._collector.flush()
        whole = self._box.resume(published, ours, clock.monotonic_s())
        lost = await mend(self._bus, self._writer, self._box, stream, published.newest)
        if not whole:
            told = int(last[1][b"ts"]) if last else 0
            self._afresh(published, max(told, self._wish.filled_to) if lost else told)
        if self._ingest.catalogue.edition is None:
            await self._save({})
        else:
            await self._adopt()

    def _take_up(self, saved: Desired | None, mine: Desired | None) -> None:
        """Redis may know less than we do (it was restarted), or more (the reply to a commit got lost)."""
        wish = max(
            (each for each in (saved, mine) if each is not None), key=lambda each: each.changes, default=Desired()
        )
        if wish.settings != self._ingest.asked:
            wish = Desired(self._ingest.asked)
        filled_to, final_to = (saved.filled_to, saved.final_to) if saved else (0, 0)
        self._wish = replace(wish, filled_to=filled_to, final_to=final_to, publisher=self._bus.instance)

    def _afresh(self, published: Published, covered_to: int) -> None:
        """As if the shard had never been ours: what waits is dropped, what is followed starts anew."""
        self._ingest.let_go(self.number)
        self._box = self._collector.outbox(self.number)
        self._box.resume(published, False, clock.monotonic_s())
        self._covered_to = covered_to
        if covered_to:
            mark = ticks.pack_mark(covered_to, clock.now_ns(), feed=FeedMark.DOWN)
            self._box.put(Output(streams.ticks(self.number), mark))

    async def _adopt(self) -> None:
        """The instruments are known, or are others than before."""
        catalogue, mode = self._ingest.catalogue, self._ingest.settings.teji_feed_mode
        self._edition = catalogue.edition
        self._base = {key: mode for key in catalogue.resolved if self._ingest.owns(self.number, key)}
        self._wish = self._wish.pruned(lambda key: key in catalogue and self._ingest.owns(self.number, key))
        await self._carry()

    async def _carry(self) -> None:
        """Write down what is wanted, then ask the feed for it."""
        keys = self._wish.carried(self._base)
        await self._save(self._collector.registry(self.number, keys), self._ingest.catalogue.terms(keys))
        if self._covered_to:
            self._ingest.backfill.ended(keys, min(self._covered_to, self._wish.filled_to or self._covered_to))
            self._ingest.backfill.resumed(keys, self._wish.final_to)
            self._covered_to = 0
        self._ingest.feed.want(self.number, keys)
        self.reporter.news()

    async def _save(self, registry: Mapping[Any, str], terms: Mapping[Any, str] | None = None) -> None:
        self._ingest.wishes[self.number] = self._wish
        hashes = {streams.instruments(self.number): registry, streams.terms(self.number): terms or {}}
        self._ingest.tape.recorder.hashes(self.number, hashes)
        await self._writer.write(
            now_s=clock.monotonic_s(),
            hashes={key: fields for key, fields in hashes.items() if fields},
            state=(streams.state(NAME, self.number), self._wish.dump()),
        )

    # Publishing

    async def _publish(self, over: asyncio.Event) -> None:
        """Whatever has gathered while the last publication was under way goes with the next one."""
        while not over.is_set():
            if not self._box:
                await pause(self.due, _QUIET_S / 4)
            self.due.clear()
            self._collector.flush()
            now_s = clock.monotonic_s()
            if now_s - self._quiet_s >= _QUIET_S and not self._box:
                self._beat(now_s)
            self._report(now_s)
            while self._box and not over.is_set():
                await self._write()
                self._quiet_s = clock.monotonic_s()
            if self._tape.wants_cut and not self._box:
                await self._tape.cut()
            while await self._write_quotes() and not self.due.is_set():
                pass  # as long as no frame waits for it
            await self._write_missing()
            if now_s - self._state_s >= _STATE_S:
                await self._write_filled_to(now_s)

    async def _finish(self) -> None:
        """No more frames; what has arrived is still published."""
        history = self._ingest.backfill.filled_to(), self._ingest.backfill.final_to()  # while we still know
        self._ingest.feed.want(self.number, {})
        await self._ingest.feed.settled()
        self._collector.flush()
        while self._box:
            await self._write()
        while await self._write_quotes():
            pass
        await self._save_filled_to(*history)

    async def _write(self) -> None:
        write = self._box.take()
        self._tape.taken(write)
        sequence = (streams.sequence(NAME, self.number), write.number)
        self._relieve(_TURNS)
        ids = await self._writer.write(write.outputs, now_s=clock.monotonic_s(), sequence=sequence)
        self._box.done(clock.monotonic_s(), ids)
        await self._tape.wrote(write, ids)
        self._collector.weigh()

    def _relieve(self, turns: int) -> None:
        """Read on, but only once the next write has left: then Redis works while we decode, and neither waits."""
        if turns:
            asyncio.get_running_loop().call_soon(self._relieve, turns - 1)
        elif not self._collector.congested:
            self._ingest.feed.relieve()

    def _beat(self, now_s: float) -> None:
        keys = self._wish.carried(self._base)
        up = bool(keys) and self._ingest.feed.state(keys)[0] is FeedState.LIVE
        self._collector.beat(self.number, up, now_s, clock.now_ns())

    async def _write_quotes(self) -> bool:
        """Some of those that have changed; says whether there were any."""
        states = self._collector.quotes.due(self.number, clock.monotonic_s())
        if states:
            hashes = {streams.quotes(self.number): quotes.encoded(states)}
            await self._writer.write(now_s=clock.monotonic_s(), hashes=hashes)
            self._collector.quotes.written(self.number, states)
        return bool(states)

    async def _write_missing(self) -> None:
        """The instruments that the feed says nothing about, when those are others than before."""
        if self._ingest.feed.found is self._found:
            return
        missing = self._ingest.missing(self._wish.carried(self._base))
        fields = {name: orjson.dumps(value) for name, value in missing}
        await self._writer.write(now_s=clock.monotonic_s(), hashes={streams.missing(self.number): fields})
        self._found = self._ingest.feed.found

    async def _write_filled_to(self, now_s: float) -> None:
        """How far the bars are known to lack nothing. Not while something waits: it may be what history has told."""
        if self._box:
            return
        self._state_s = now_s
        await self._save_filled_to(self._ingest.backfill.filled_to(), self._ingest.backfill.final_to())

    async def _save_filled_to(self, filled_to: int, final_to: int) -> None:
        if filled_to:
            self._wish = replace(self._wish, filled_to=filled_to, final_to=final_to)
            await self._save({})

    def _report(self, now_s: float) -> None:
        """The feed's state, when it changes; and the holes that an overflow left."""
        while self._collector.gaps:
            gap = self._collector.gaps.pop(0)
            message = f"{gap['frames']} frames were dropped: Redis was away for longer than the buffer lasts"
            self._box.put(self._event(EventKind.GAP, message, gap))
        while self._ingest.tape.news:
            news = self._ingest.tape.news.pop(0)
            self._box.put(self._event(news.kind, news.message, news.data))
        if self.reporter.is_due(now_s):
            status = self._ingest.status(self.number, self._wish, self._base)
            if self.reporter.has_news(status, now_s):
                text = f"feed {status.state.value}: {status.seen} of {status.desired} instruments seen"
                message = f"{text}. {status.reason}".strip(" .")
                self._box.put(self._event(EventKind.FEED, message, status.model_dump(mode="json")))
                log.info(
                    "feed", state=status.state.value, seen=status.seen, desired=status.desired, reason=status.reason
                )

    def _event(self, kind: EventKind, message: str, data: dict[str, Any]) -> Output:
        event = Event(kind=kind, ts=clock.now_ms(), worker=NAME, message=message, data=data)
        return Output(streams.EVENTS, {"kind": kind.value, "data": event.model_dump_json()})

    # Commands

    async def _obey(self, over: asyncio.Event) -> None:
        while not over.is_set():
            if self._edition != self._ingest.catalogue.edition:
                await self._adopt()
            if self._edition is None:  # nobody knows yet which instruments there are
                await pause(over, 0.1)
                continue
            batch = await self._inbox.read(count=100, block_ms=500)
            if batch:
                before = self._wish
                outputs = [output for entry in batch.entries for output in self._one(entry)]
                await self._inbox.commit(outputs, snapshot=self._wish.dump(), now_s=clock.monotonic_s())
                if self._wish is not before:
                    await self._carry()

    def _one(self, entry: Entry) -> list[Output]:
        """Apply one command; the reply is an event that names it."""
        kind = entry.fields.get(b"kind", b"").decode(errors="replace")
        if not kind.startswith("feed.") and kind != TAPE_RECORD:
            return []  # another worker's
        command_id = entry.fields.get(b"id", b"").decode(errors="replace")
        try:
            body = orjson.loads(entry.fields.get(b"data", b"{}"))
            if kind == TAPE_RECORD:
                told = self._ingest.tape.ask(TapeRecord.model_validate(body).seconds)
                return [self._reply(command_id, f"{kind} done", {"ok": True, **told})]
            command = COMMAND.validate_python({**body, "kind": kind} if isinstance(body, dict) else body)
            if isinstance(command, FeedSubscribe):
                self._refuse_mode(command.mode)
            self._wish, answer = apply(
                self._wish,
                self._base,
                command,
                mine=lambda key: self._ingest.owns(self.number, key),
                known=self._ingest.catalogue.__contains__,
            )
            if isinstance(command, FeedBackfill):
                answer = {"asked_for": self._fill(command)}
        except Rejected as refusal:
            return [self._reply(command_id, str(refusal), {"ok": False})]
        except (ValidationError, orjson.JSONDecodeError) as error:
            why = _first_line(error)
            return [self._inbox.reject(entry, why), self._reply(command_id, why, {"ok": False})]
        return [self._reply(command_id, f"{kind} done", {"ok": True, **answer})]

    def _refuse_mode(self, mode: Mode) -> None:
        """The venue would pass over it in silence."""
        if mode is Mode.FULL_D30 and self._ingest.settings.teji_feed_plan is not FeedPlan.PLUS:
            raise Rejected("full_d30 needs the Plus plan: set TEJI_FEED_PLAN=plus if the account has it")

    def _fill(self, command: FeedBackfill) -> int:
        """Ask history; the number of instruments that it is asked about."""
        if not self._ingest.settings.teji_backfill:
            raise Rejected("history is switched off: set TEJI_BACKFILL=true")
        keys = [key for key in command.instruments if self._ingest.owns(self.number, key)]
        if not command.instruments and command.shard in (None, self.number):
            keys = list(self._wish.carried(self._base))
        return self._ingest.backfill.ask(keys, command.from_ms, command.to_ms)

    def _reply(self, command_id: str, message: str, data: dict[str, Any]) -> Output:
        return self._event(EventKind.REPLY, message, {"command": command_id, "shard": self.number, **data})


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
    return str(error)
