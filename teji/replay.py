"""`teji replay`: a tape through the whole pipeline again, and whether the same comes out."""

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bus import clock, embedded, log, postgres
from bus.connection import Bus
from bus.settings import Settings, load
from ingest.tape import reader
from ingest.tape.format import AHEAD, Record
from ingest.tape.player import Ahead, Player, Publish
from ingest.tape.reader import Hole
from schemas.errors import Misconfigured, Unavailable
from teji.comparing import Comparison, Verdict
from teji.playing import FAMILIES, Digest, Item, Stage, StillBus

_IST: Final = timedelta(hours=5, minutes=30)
_LIST_WIDTH: Final = 200


class WrongUsage(Exception):
    """The message says what can be said instead."""


@dataclass(frozen=True, slots=True)
class Options:
    path: Path
    speed: float | None  # None: as fast as it goes
    verify: bool = False
    as_json: bool = False
    redis_url: str = ""  # empty: a scratch one
    skip_damaged: bool = False


def chosen(path: Path, speed: str, *, verify: bool, as_json: bool, redis_url: str, skip_damaged: bool) -> Options:
    """What a person typed. Raises WrongUsage."""
    times: float | None = None
    if speed != "max":
        try:
            times = float(speed)
        except ValueError:
            raise WrongUsage(f"--speed is a number, such as 20, or max; not {speed!r}") from None
        if not 0 < times < float("inf"):
            raise WrongUsage("--speed is a number above 0, or max")
    return Options(path, times, verify, as_json, redis_url, skip_damaged)


@dataclass(slots=True)
class Result:
    tape: str
    frames: int = 0
    entries: int = 0
    from_ns: int = 0
    to_ns: int = 0
    seconds: float = 0.0
    whole: bool = False  # it was closed in order
    interrupted: bool = False
    missing: list[str] = field(default_factory=list)  # what of it could not be read
    gaps: list[dict[str, Any]] = field(default_factory=list)  # what was not recorded
    digest: Digest = field(default_factory=Digest)
    verdict: Verdict | None = None

    @property
    def code(self) -> int:
        return int(self.interrupted or not self.is_right)

    @property
    def is_right(self) -> bool:
        """What could be compared is equal; it is no proof where bars came out and there was nothing to compare."""
        if self.verdict is None:
            return True
        return self.verdict.equal and bool(self.verdict.compared or not sum(self.digest.counts.values()))


def main(options: Options) -> int:
    settings = load()
    log.configure("replay", settings.teji_log, "WARNING", settings.secrets)
    result = asyncio.run(replay(settings, options))
    _show_json(result) if options.as_json else _show(result)
    return result.code


async def replay(settings: Settings, options: Options) -> Result:
    """Play it. `settings` say where the live system is, which is only read, and only for `--verify`."""
    path = found(settings, options.path)
    segments = reader.segments_of(path)
    told = reader.about(segments[0])
    result = Result(str(path))
    with tempfile.TemporaryDirectory(prefix="teji-replay-") as folder, _scratch(told, options, Path(folder)) as scratch:
        playing, url = scratch
        async with Bus.open(url) as opened:
            bus = StillBus(opened.redis, "replay")
            await _is_empty(bus, options)
            async with _compared(settings, options, Path(folder), playing) as comparison:
                await _play(segments, options, result, playing, url, bus, comparison)
    return result


def found(settings: Settings, path: Path) -> Path:
    """A tape by its folder, one of its segments, or its name below the tapes of this home."""
    below = settings.home / "tape" / path
    return below if not path.exists() and below.exists() else path


@contextlib.contextmanager
def _scratch(told: dict[str, Any], options: Options, folder: Path) -> Iterator[tuple[Settings, str]]:
    """The settings that the tape was recorded with, and a Redis for the replay."""
    kept = {name: value for name, value in told["settings"].items() if name in Settings.model_fields}
    given = {**kept, "_env_file": None, "teji_home": folder, "redis_url": options.redis_url, "teji_lease_s": 10.0}
    settings = load(**{**given, "teji_instruments": tuple(kept.get("teji_instruments", ()))})
    with embedded.servers(settings, postgres=False) as servers:
        yield settings, servers.redis_url


async def _is_empty(bus: Bus, options: Options) -> None:
    if options.redis_url:
        await bus.check()
        (size,) = await bus.packet(("DBSIZE",))
        if size:
            raise Misconfigured(
                f"The Redis that --redis names holds {size} keys, and a replay would flood what is there: name an "
                "empty one (another database of the same server will do), or leave --redis out for a scratch one."
            )


@contextlib.asynccontextmanager
async def _compared(
    settings: Settings, options: Options, folder: Path, playing: Settings
) -> AsyncIterator[Comparison | None]:
    """With what the live system has published."""
    if not options.verify:
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        servers = stack.enter_context(embedded.servers(settings, postgres=False))
        bus = await stack.enter_async_context(Bus.open(servers.redis_url))
        await bus.check()

        async def find_pool() -> postgres.Pool | None:
            url = stack.enter_context(embedded.servers(settings)).postgres_url
            pool = await stack.enter_async_context(postgres.open_pool(url))
            return pool if await _has_bars(pool) else None

        comparison = Comparison(bus, find_pool, folder, playing.teji_shards, playing.teji_grace_ms)
        stack.callback(comparison.close)
        yield comparison


async def _has_bars(pool: postgres.Pool) -> bool:
    try:
        async with postgres.connection(pool, 5.0) as connection:
            return bool(await connection.fetchval("SELECT to_regclass('bars') IS NOT NULL"))
    except Unavailable:
        return False


async def _play(
    segments: list[Path],
    options: Options,
    result: Result,
    settings: Settings,
    url: str,
    bus: StillBus,
    comparison: Comparison | None,
) -> None:
    ahead = Ahead.of(reader.records(segments, kinds=AHEAD, skip_damaged=options.skip_damaged))
    player = Player(settings.teji_shards, ahead, only_committed=options.verify)
    result.whole, result.gaps = ahead.whole, ahead.gaps

    async def came(item: Item) -> None:
        result.digest.add(item)
        if comparison is not None:
            await comparison.came(item)

    async def begun(step: Any) -> None:
        if comparison is not None:
            await comparison.begun(step)

    async def over(shard: int, why: str) -> None:
        if comparison is not None:
            await comparison.over(shard, why)

    stage = Stage(url, bus, settings, begun=begun, came=came, over=over)
    began_s = clock.monotonic_s()
    try:
        await _run(segments, options, result, player, stage, comparison)
    finally:
        await stage.stop()
    await stage.collect()
    result.seconds = clock.monotonic_s() - began_s
    result.frames, result.entries = player.frames, stage.entries
    result.from_ns, result.to_ns = player.from_ns, player.to_ns
    if comparison is not None:
        await comparison.finish()
        result.verdict = comparison.verdict


async def _run(
    segments: list[Path],
    options: Options,
    result: Result,
    player: Player,
    stage: Stage,
    comparison: Comparison | None,
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    pace = Pace(options.speed)

    async def take(steps: Any) -> None:
        for step in steps:
            if comparison is not None and isinstance(step, Publish):
                comparison.published(step)
            await stage.take(step)

    with _progress(segments, options) as advance:
        for record in reader.records(segments, skip_damaged=options.skip_damaged, progress=advance):
            if isinstance(record, Hole):
                result.missing.append(f"{record.path.name}: {record.why}")
            elif (wait_s := pace.wait_s(record, clock.monotonic_s())) > 0:
                await take(player.gathered())
                await stage.collect()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_s)
            if stop.is_set():
                result.interrupted = True
                return
            await take(player.play(record))
        await take(player.finish())
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


class Pace:
    """When each record is due, at so many times the speed at which it was recorded."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    def wait_s(self, record: Record, now_s: float) -> float:
        """How long to wait for this one; those without a time are due at once."""
        if self._speed is None or not record.rx_ns:
            return 0.0
        if self._first is None:
            self._first = record.rx_ns, now_s
        first_ns, first_s = self._first
        return (record.rx_ns - first_ns) / 1e9 / self._speed - (now_s - first_s)


# What a person sees


@contextlib.contextmanager
def _progress(segments: list[Path], options: Options) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    total = sum(path.stat().st_size for one in segments for path in (one, one.with_suffix(".tail")) if path.exists())
    off = options.as_json or not console.is_terminal
    with Progress(*columns, console=console, disable=off, transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda size: bar.advance(task, size)


def list_tapes(as_json: bool) -> None:
    tapes = reader.tapes(load().home / "tape")
    if as_json:
        print(json.dumps([_about(one) for one in tapes], indent=2))
        return
    if not tapes:
        print("There are no tapes. TEJI_TAPE=true records everything, `teji record` for a while.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("session", "from", "to", "frames", "MB", "ratio", "", "tape"):
        table.add_column(column, justify="right" if column in ("frames", "MB", "ratio") else "left")
    for one in tapes:
        state = "recording" if one.recording else "" if one.whole else "ends in the middle"
        ratio = f"{one.raw_bytes / one.stored_bytes:.1f}" if one.raw_bytes else ""
        mb = f"{one.stored_bytes / 1e6:.1f}"
        table.add_row(
            one.session, _time(one.from_ns), _time(one.to_ns), f"{one.frames:,}", mb, ratio, state, str(one.folder)
        )
    width = max(Console().width, _LIST_WIDTH)  # a path that is cut off is of no use
    Console(width=width, soft_wrap=True, highlight=False).print(table)


def _about(one: reader.Found) -> dict[str, Any]:
    names = ("session", "segments", "frames", "raw_bytes", "stored_bytes", "from_ns", "to_ns", "whole", "recording")
    return {"tape": str(one.folder), **{name: getattr(one, name) for name in names}}


def _time(ns: int) -> str:
    return (datetime.fromtimestamp(ns / 1e9, UTC) + _IST).strftime("%H:%M:%S") if ns else ""


def _show_json(result: Result) -> None:
    verdict = result.verdict
    told: dict[str, Any] = {
        name: getattr(result, name)
        for name in ("tape", "frames", "entries", "from_ns", "to_ns", "whole", "interrupted", "missing", "gaps")
    }
    told |= {"seconds": round(result.seconds, 3), **result.digest.counts, "hash": result.digest.text, "verify": None}
    if verdict is not None:
        told["verify"] = {
            "equal": result.is_right,
            "compared": verdict.replay.counts,
            "live": verdict.live.text,
            "replay": verdict.replay.text,
            "different": verdict.different,
            "differences": [one.text() for one in verdict.differences],
            "notes": verdict.notes,
        }
    print(json.dumps(told))


def _show(result: Result) -> None:
    counts = ", ".join(f"{count:,} {_NAMES[family]}" for family, count in result.digest.counts.items())
    print(f"{result.tape}: {_time(result.from_ns)} to {_time(result.to_ns)} IST, {result.frames:,} frames")
    print(f"replayed in {result.seconds:.1f} s: {result.entries:,} entries, {counts}")
    for gap in result.gaps:
        seconds = (gap["to_ns"] - gap["from_ns"]) / 1e9
        print(f"not recorded: {gap['frames']:,} frames of {seconds:.1f} s from {_time(gap['from_ns'])}: {gap['why']}")
    for one in result.missing:
        print(f"not readable: {one}")
    if not result.whole:
        print("the tape ends in the middle: whoever recorded it was killed, or still records")
    print(f"sha256 {result.digest.text}")
    if result.interrupted:
        print("Interrupted.")
    elif result.verdict is not None:
        _show_verdict(result.verdict, came=bool(sum(result.digest.counts.values())))


_NAMES: Final = {"candles": "bars", "chain": "chains"}


def _show_verdict(verdict: Verdict, *, came: bool) -> None:
    compared = ", ".join(f"{count:,} {_NAMES[family]}" for family, count in verdict.replay.counts.items())
    print(f"\ncompared with what was published: {compared}")
    for note in verdict.notes:
        print(f"  {note}")
    print(f"  live   {verdict.live.text}\n  replay {verdict.replay.text}")
    if not came and verdict.equal:
        print("Nothing came out, and nothing was published.")
    elif not verdict.compared:
        print("There was nothing to compare.")
    elif verdict.equal:
        print("Equal, byte for byte.")
    else:
        print(f"Different: {verdict.different:,}. The first:")
        for one in verdict.differences:
            print(f"  {one.text()}")


assert _NAMES.keys() == FAMILIES.keys(), "each kind that is compared has a name"
