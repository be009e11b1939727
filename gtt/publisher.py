"""Tells Redis what is in the journal: entries, hashes, and how far inputs are decided, in one commit that happens once.

While Redis is away things gather, and are told when it is back; the journal goes on meanwhile.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from bus import clock
from bus.connection import Bus
from bus.inbox import Output, Published, Writer
from bus.wait import pause
from gtt import publishing
from gtt.book.touched import Touched
from gtt.desk.here import Here
from gtt.publishing import NAME, Telling
from schemas import streams
from schemas.errors import Unavailable

log = structlog.get_logger("publisher")

_EVERY_S: Final = 1.0  # positions at moving prices, accounts, the places of the tick streams
_RETRY_S: Final = 0.2
_ENTRIES_MAX: Final = 500  # in one commit
_EXTRA_MAX: Final = 10_000
SHARD: Final = 0


class Known:
    """The state key: how far the journal is told, and how far inputs are decided."""

    def __init__(self, body: bytes | None) -> None:
        held: dict[str, Any] = orjson.loads(body) if body else {}
        self.n = int(held.get("n", 0))
        self.places: dict[str, str] = dict(held.get("places", {}))

    @staticmethod
    def dump(n: int, places: dict[str, str]) -> bytes:
        return orjson.dumps({"n": n, "places": places})


@dataclass(frozen=True, slots=True)
class _Commit:
    number: int
    outputs: list[Output]
    hashes: publishing.Hashes
    n: int
    places: dict[str, str]
    gone: dict[str, list[str]]


class Publisher:
    def __init__(self, bus: Bus, writer: Writer, here: Here, known: Known) -> None:
        self.due = asyncio.Event()
        self.told = known.n  # facts up to this one are told
        self._bus = bus
        self._writer = writer
        self._here = here
        self._n = known.n
        self._places = dict(known.places)
        self._told_places = dict(known.places)
        self._unsure: _Commit | None = None
        self._slow = {streams.ticks(shard) for shard in range(here.settings.teji_shards)}
        self._moved_on = False  # something else than ticks is decided further
        self._touched: list[tuple[int, Touched]] = []
        self._extra: list[Output] = []
        self._turn = asyncio.Lock()
        self._number = 0
        self._told_s = 0.0
        self._prices: dict[str, Any] = {}

    async def open(self) -> None:
        """Where the last owner was; the hashes anew, in one commit, and without what is no more."""
        published = Published.load(await self._bus.get(streams.sequence(NAME, SHARD)))
        self._number = published.number
        fresh = publishing.everything(self._here)
        await self._write([], fresh, self.told, self._told_places)
        await self._sweep({key: set(fields) for key, fields in fresh.items()})

    async def _sweep(self, kept: dict[str, set[str]]) -> None:
        for key, fields in kept.items():
            (names,) = await self._bus.packet(("HKEYS", key))
            old = [name for name in names if name.decode() not in fields]
            if old:
                await self._bus.packet(("HDEL", key, *old))

    # What is handed over

    def add(self, n: int, touched: list[tuple[int, Touched]], places: dict[str, str]) -> None:
        """In the journal up to `n`, with what was captured of it, and inputs decided up to `places`. How far ticks are
        looked at is told once a second, with the accounts."""
        self._n = max(self._n, n)
        self._touched += touched
        self._moved_on |= any(self._places.get(at) != place and at not in self._slow for at, place in places.items())
        self._places |= places
        if touched or self._moved_on:
            self.due.set()

    def tell(self, output: Output) -> None:
        """Something beside the journal, e.g. an entry that nobody understands."""
        if len(self._extra) < _EXTRA_MAX:
            self._extra.append(output)
        self.due.set()

    # Writing

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await pause(self.due, _EVERY_S / 4)
            self.due.clear()
            try:
                await self.publish()
            except Unavailable as error:
                log.warning("waiting", reason=str(error))
                await pause(over, _RETRY_S)
                self.due.set()

    async def publish(self) -> None:
        """Everything that waits; and once a second what moves by itself. One at a time: a commit has its number."""
        async with self._turn:
            await self._publish()

    async def _publish(self) -> None:
        await self._carry_through()
        now_s = clock.monotonic_s()
        regular = now_s - self._told_s >= _EVERY_S
        if regular:
            self._told_s = now_s
        while self._touched or self._extra or self._moved_on or regular:
            self._moved_on = False
            touched = publishing.latest(self._touched)
            now, self._touched = touched[:_ENTRIES_MAX], touched[_ENTRIES_MAX:]
            extra, self._extra = self._extra[:_ENTRIES_MAX], self._extra[_ENTRIES_MAX:]
            telling = Telling(self._here)
            for n, one in now:
                telling.add(n, one)
            if regular:
                self._moved(telling)
            regular = False
            whole = not self._touched  # else the rest comes with the next commit: until then we are where we were
            n, places = (self._n, dict(self._places)) if whole else (self.told, self._told_places)
            await self._write([*telling.outputs, *extra], telling.hashes, n, places, telling.gone)

    async def _write(
        self,
        outputs: list[Output],
        hashes: publishing.Hashes,
        n: int,
        places: dict[str, str],
        gone: dict[str, list[str]] | None = None,
    ) -> None:
        self._unsure = _Commit(self._number + 1, outputs, hashes, n, places, gone or {})
        await self._carry_through()

    async def _carry_through(self) -> None:
        """The commit that was begun, under its number: so it happens once, however often it is tried."""
        commit = self._unsure
        if commit is None:
            return
        await self._writer.write(
            commit.outputs,
            now_s=clock.monotonic_s(),
            hashes={key: fields for key, fields in commit.hashes.items() if fields},
            state=(streams.state(NAME, SHARD), Known.dump(commit.n, commit.places)),
            sequence=(streams.sequence(NAME, SHARD), commit.number),
        )
        for key, names in commit.gone.items():
            await self._bus.packet(("HDEL", key, *names))
        self._number, self.told, self._told_places = commit.number, commit.n, commit.places
        self._unsure = None

    def _moved(self, telling: Telling) -> None:
        """Positions whose price is another one, and how the accounts stand."""
        for mode in self._here.venues:
            for key, position in self._here.book.account(mode).positions.items():
                name, price = f"{mode.value}|{key}", self._here.price(position.instrument)
                if position.quantity and self._prices.get(name) != price:
                    self._prices[name] = price
                    if (shown := publishing.position_of(self._here, name)) is not None:
                        telling.position(f"{self._n}.{self._here.now_ms}", name, shown)
        telling.accounts(self._here.book.halted)
