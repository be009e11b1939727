"""Performs the desk's effects at the venues, side by side, each with a deadline. What came of one is an input again."""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol, Self, TypeVar

import structlog

from brokers import venue
from brokers.venue import Venue, VenueGtt, VenueOrder, VenueTrade
from bus import clock, metrics
from gtt.book.facts import What
from gtt.desk.effects import (
    Ask,
    Asked,
    AskGtts,
    AskMargin,
    AskTrades,
    Books,
    Down,
    Effect,
    Gone,
    Look,
    Nothing,
    Outcome,
    Took,
    Write,
)
from schemas.errors import Rejected, Unavailable
from schemas.orders import TradingMode

log = structlog.get_logger("venue")

_READ_S: Final = 10.0
_QUESTIONS_AT_ONCE: Final = 4  # about orders whose answer was lost, of one account: reads have limits, too
_MARGIN_S: Final = 1.0  # an entry waits for it
_GRACE_S: Final = 1.0  # a venue's own deadline comes first

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """By two clocks: one that nobody puts back, and one that goes on while the machine sleeps."""

    monotonic_s: float
    ms: int

    @classmethod
    def now(cls) -> Self:
        return cls(clock.monotonic_s(), clock.now_ms())

    def age_s(self) -> float:
        return max(clock.monotonic_s() - self.monotonic_s, (clock.now_ms() - self.ms) / 1000)


class Inputs(Protocol):
    """Where what comes back goes: the shell, or a test."""

    def called(self, write: Write, outcome: Outcome) -> None: ...

    def asked(self, answer: Asked) -> None: ...

    def compared(self, books: Books) -> None: ...

    def not_compared(self, mode: TradingMode, reason: str) -> None: ...

    def trades(self, mode: TradingMode, told: list[VenueTrade] | None) -> None: ...

    def gtts(self, mode: TradingMode, told: list[VenueGtt] | None, asked_ts: int) -> None: ...

    def margin(self, intent_id: str, needed: Decimal | None) -> None: ...

    def failed(self, bug: BaseException) -> None: ...


class Calls:
    """Writes that were handed over are carried through; `settled` waits for them.

    One that cannot leave within `leave_s` of its decision does not leave at all (docs/decisions/0014): by then another
    process may have taken over, asked, and sent it again.
    """

    def __init__(
        self, venues: Mapping[TradingMode, Venue], timeout_s: float, inputs: Inputs, *, leave_s: float
    ) -> None:
        self._venues = venues
        self._timeout_s = timeout_s
        self._leave_s = leave_s
        self._inputs = inputs
        self._questions = {mode: asyncio.Semaphore(_QUESTIONS_AT_ONCE) for mode in venues}
        self._tasks: set[asyncio.Task[None]] = set()

    def perform(self, effects: Sequence[Effect], decided: Moment) -> None:
        """`decided`: not later than they were written down."""
        for effect in effects:
            if isinstance(effect, Write):
                self.start(self._write(effect, decided))
            elif isinstance(effect, Ask):
                self.start(self._ask(effect))
            elif isinstance(effect, Look):
                self.start(self._look(effect.mode))
            elif isinstance(effect, AskTrades):
                self.start(self._trades(effect.mode))
            elif isinstance(effect, AskGtts):
                self.start(self._gtts(effect.mode))
            elif isinstance(effect, AskMargin):
                self.start(self._margin(effect))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._inputs.failed(bug)

    async def settled(self, seconds: float) -> None:
        """Wait for what is under way, but not for longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Writes

    async def _write(self, write: Write, decided: Moment) -> None:
        began_s = clock.monotonic_s()
        outcome = await self._outcome(write, decided)
        took_s = clock.monotonic_s() - began_s
        result = type(outcome).__name__.lower()
        metrics.ORDER_CALLS.labels(write.mode.value, write.what.value, result).inc()
        metrics.ORDER_CALL_S.labels(write.mode.value, write.what.value).observe(took_s)
        if not isinstance(outcome, Took):
            log.warning("no order", what=write.what.value, order=write.order_id or write.gtt_id, why=str(outcome))
        else:
            outcome = Took(outcome.venue_id, int(took_s * 1000))
        self._inputs.called(write, outcome)

    async def _outcome(self, write: Write, decided: Moment) -> Outcome:
        if decided.age_s() > self._leave_s:
            return Nothing(f"it could not leave within {self._leave_s:g} s: decided anew", 0.0)
        if write.not_after_ts and clock.now_ms() > write.not_after_ts:
            return Nothing("it took too long until it could leave", 0.0)
        if write.tick_ns:
            metrics.TICK_TO_REQUEST_S.observe(max(0.0, (clock.now_ns() - write.tick_ns) / 1e9))
        venue.LEAVE_BY_S.set(decided.monotonic_s + self._leave_s)
        try:
            async with asyncio.timeout(self._timeout_s + _GRACE_S):
                return Took(await self._call(write))
        except venue.Refused as error:
            return Down(error.code, error.message)
        except venue.NotSent as error:
            return Nothing(str(error), error.again_s)
        except Rejected as error:  # a request that cannot even be written
            return Down("", str(error))
        except (Unavailable, TimeoutError) as error:
            return Gone(str(error) or f"no answer within {self._timeout_s:g} s")

    async def _call(self, write: Write) -> str:
        at = self._venues[write.mode]
        if write.what is What.PLACE and write.order is not None:
            return await at.place(write.order)
        if write.what is What.MODIFY and write.change is not None:
            await at.modify(write.change)
        elif write.what is What.CANCEL:
            await at.cancel(write.venue_id)
        elif write.what is What.PLACE_GTT and write.gtt is not None:
            return await at.place_gtt(write.gtt)
        elif write.what is What.MODIFY_GTT and write.gtt is not None:
            await at.modify_gtt(write.venue_id, write.gtt)
        elif write.what is What.CANCEL_GTT:
            await at.cancel_gtt(write.venue_id)
        return ""

    # Reads

    async def _ask(self, effect: Ask) -> None:
        at = self._venues[effect.mode]
        tagged: Sequence[VenueOrder] | None = ()
        async with self._questions[effect.mode]:
            asked_ts = clock.now_ms()
            if effect.tag and at.capabilities.tag_max:
                tagged, book = await asyncio.gather(_read(at.tagged(effect.order_id)), _read(at.orders()))
            else:
                book = await _read(at.orders())
        self._inputs.asked(Asked(effect.mode, effect.order_id, asked_ts, tagged, book))

    async def _look(self, mode: TradingMode) -> None:
        """Orders before trades before positions: what is told later may know more, never less."""
        at, asked_ts = self._venues[mode], clock.now_ms()
        try:
            async with asyncio.timeout(3 * _READ_S):
                positions_before = await at.positions()
                orders, trades = await at.orders(), await at.trades()
                positions = await at.positions()
                gtts = await at.gtts() if at.capabilities.gtt else None
                funds, holdings = await at.funds(), await at.holdings()
        except (Unavailable, Rejected, TimeoutError) as error:
            self._inputs.not_compared(mode, str(error) or "no answer in time")
            return
        if _units(positions_before) != _units(positions):
            self._inputs.not_compared(mode, "positions changed while they were read")
            return
        self._inputs.compared(Books(mode, asked_ts, orders, trades, positions, gtts, funds, holdings))

    async def _trades(self, mode: TradingMode) -> None:
        told: Sequence[VenueTrade] | None = await _read(self._venues[mode].trades())
        self._inputs.trades(mode, None if told is None else list(told))

    async def _margin(self, effect: AskMargin) -> None:
        """What an entry needs; soon, or not at all."""
        needed = await _read(self._venues[effect.mode].margin([effect.order]), _MARGIN_S)
        self._inputs.margin(effect.intent_id, needed)

    async def _gtts(self, mode: TradingMode) -> None:
        asked_ts = clock.now_ms()
        told: Sequence[VenueGtt] | None = await _read(self._venues[mode].gtts())
        self._inputs.gtts(mode, None if told is None else list(told), asked_ts)


async def _read(question: Awaitable[T], seconds: float = _READ_S) -> T | None:
    """None: there was no answer."""
    try:
        async with asyncio.timeout(seconds):
            return await question
    except (Unavailable, Rejected, TimeoutError) as error:
        log.warning("no answer", reason=str(error))
        return None


def _units(positions: Sequence[venue.VenuePosition]) -> dict[tuple[str, str], int]:
    return {(each.instrument, each.product.value): each.quantity for each in positions}
