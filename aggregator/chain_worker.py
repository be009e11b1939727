"""The shell of the chain: reads panels, folds them, commits the chains that leave together with the fold's memory.

It runs beside the aggregator of its shard, under the same lease, with a group and a memory of its own.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final

import structlog

from aggregator.chain import ChainBuilder, Made
from aggregator.chain_memory import DayBefore
from bus import clock, metrics
from bus.connection import Bus
from bus.inbox import Entry, Inbox, Missed, Output, Value, Writer, order
from bus.settings import Calendar
from market import black76, sessions
from schemas import panel, streams
from schemas.errors import Misconfigured, Rejected
from schemas.events import Event, EventKind
from schemas.panel import Panel
from schemas.terms import Terms
from schemas.ticks import SessionClass

log = structlog.get_logger("chain")

NAME: Final = "chain"
_READ_ENTRIES_MAX: Final = 64
_READ_BLOCK_MS: Final = 500
_COMMIT_S: Final = 1.0  # without chains to publish, the memory is committed this often
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000
_EPOCH: Final = date(1970, 1, 1)


def day_before(calendar: Calendar) -> DayBefore:
    """The trading day before a date and when it ended. Nobody knows it for a date that the calendar does not cover."""

    def by_the_exchange(segment: str, on: date) -> tuple[date, int] | None:
        try:
            last = sessions.previous_trading_day(segment, on)
            return last, sessions.continuous(segment, SessionClass.ORDINARY, last)[-1][1]
        except (Misconfigured, Rejected) as error:
            log.error("no trading day before", segment=segment, on=on.isoformat(), reason=str(error))
            return None

    def always(_: str, on: date) -> tuple[date, int]:
        return on - timedelta(days=1), (on - _EPOCH).days * _DAY_MS - _IST_MS

    return always if calendar is Calendar.ALWAYS else by_the_exchange


def warm() -> None:
    """Load the compiled option model, or compile it."""
    black76.warm()


class ChainShard:
    def __init__(self, bus: Bus, writer: Writer, number: int, builder: ChainBuilder) -> None:
        self._bus = bus
        self._writer = writer
        self._number = number
        self._builder = builder
        self._stream = streams.panel(number)
        self._committed_s = 0.0

    async def run(self, over: asyncio.Event) -> None:
        opened = Inbox.open(
            self._writer, group=NAME, consumer=NAME, inputs=[self._stream], state_key=streams.state(NAME, self._number)
        )
        async with opened as inbox:
            outputs = await self._restore(inbox)
            while not over.is_set():
                outputs += await self._step(inbox)
                await self._commit(inbox, outputs)
            if inbox.uncommitted or outputs:
                await inbox.commit(outputs, snapshot=self._builder.snapshot(), now_s=clock.monotonic_s())

    async def _restore(self, inbox: Inbox) -> list[Output]:
        if inbox.snapshot is None:
            return []
        try:
            self._builder.restore(inbox.snapshot)
        except ValueError as error:
            return [_event(EventKind.ALERT, f"the chain starts without its memory: {error}", {})]
        for one in self._builder.pending():
            await self._look_up(one)
        return []

    async def _step(self, inbox: Inbox) -> list[Output]:
        """Read and fold. What is due is asked for only once everything that came before was folded."""
        waits = self._builder.next_due_ms is not None
        now_ms = await self._bus.now_ms() if waits else 0
        batch = await inbox.read(count=_READ_ENTRIES_MAX, block_ms=_READ_BLOCK_MS)
        outputs = [self._missed(missed) for missed in batch.missed]
        for entry in batch.entries:
            outputs += await self._fold(inbox, entry)
        if waits and not batch:
            outputs += await self._outputs(self._builder.due(now_ms))
        return outputs

    async def _fold(self, inbox: Inbox, entry: Entry) -> list[Output]:
        try:
            one = panel.unpack(entry.fields)
            await self._look_up(one)
            late = self._builder.late
            outputs = await self._outputs(self._builder.add(one, order(entry.id)[0]))
            metrics.LATE_PANELS.inc(self._builder.late - late)
        except (ValueError, Rejected) as error:
            return [inbox.reject(entry, str(error))]
        return outputs

    async def _look_up(self, one: Panel) -> None:
        """Terms of the instruments that are new to us, on a new date of all."""
        wanted = self._builder.wanted(one)
        if wanted:
            (found,) = await self._bus.packet(("HMGET", streams.terms(one.shard), *wanted))
            self._builder.learn(
                {
                    key: Terms.model_validate_json(body) if body else None
                    for key, body in zip(wanted, found, strict=True)
                }
            )

    async def _outputs(self, leaving: Iterable[Made]) -> list[Output]:
        """Chains take milliseconds each: between them the bars of this shard have their turn."""
        outputs = []
        for made in leaving:
            metrics.CHAINS.labels("revised" if made.rev else "first").inc()
            outputs.append(self._chain(made))
            await asyncio.sleep(0)
        return outputs

    def _chain(self, made: Made) -> Output:
        fields: dict[str, Value] = {
            "underlying": made.underlying,
            "expiry": made.expiry.isoformat(),
            "ts": made.ts,
            "data": made.data,
        }
        return Output(streams.chain(self._number), fields)

    def _missed(self, missed: Missed) -> Output:
        metrics.MISSED_GAPS.labels(missed.stream).inc()
        data = {"stream": missed.stream, "after": missed.after, "last": missed.last}
        return _event(EventKind.GAP, "panels were trimmed before the chain read them", data)

    async def _commit(self, inbox: Inbox, outputs: list[Output]) -> None:
        """At once when something leaves; else now and then, so that a restart has little to fold again."""
        now_s = clock.monotonic_s()
        if not outputs and (not inbox.uncommitted or now_s - self._committed_s < _COMMIT_S):
            return
        await inbox.commit(outputs, snapshot=self._builder.snapshot(), now_s=now_s)
        outputs.clear()
        self._committed_s = now_s


def _event(kind: EventKind, message: str, data: Mapping[str, object]) -> Output:
    event = Event(kind=kind, ts=clock.now_ms(), worker=NAME, message=message, data=dict(data))
    return Output(streams.EVENTS, {"kind": kind.value, "data": event.model_dump_json()})
