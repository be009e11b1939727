"""How a worker lives: settings, logs, servers, metrics, heartbeat; then its job, until a signal asks it to finish."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvloop

from bus import clock, embedded, lag, lease, log, metrics
from bus.connection import Bus
from bus.embedded import Servers
from bus.inbox import Writer
from bus.lease import Lease
from bus.settings import Settings, load
from bus.wait import pause
from schemas import streams
from schemas.errors import Misconfigured, Unavailable

__all__ = ["Job", "Main", "Worker", "main", "pause", "serve", "together", "until_done"]

_HEARTBEAT_S: Final = 2.0
_WITH_POSTGRES: Final = ("gateway", "gtt")

logger = structlog.get_logger("life")

Job = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker is handed at its start."""

    name: str
    settings: Settings
    bus: Bus
    servers: Servers
    metrics_port: int

    @property
    def metrics_url(self) -> str:
        host = self.settings.teji_metrics_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.metrics_port}/metrics"

    def writer(self, held: Lease | None) -> Writer:
        """Commits under a lease, trimming by the retention that the settings give."""
        minute_ms = 60_000
        keep = dict(streams.RETENTION_MS)
        keep["ticks"] = self.settings.teji_keep_ticks_min * minute_ms
        keep["candles"] = keep["chain"] = self.settings.teji_keep_bars_h * 60 * minute_ms
        return Writer(self.bus, held, keep, limits_bytes={"ticks": self.settings.teji_keep_ticks_mb << 20})


Main = Callable[[Worker, asyncio.Event], Awaitable[None]]


async def serve(*jobs: Job) -> None:
    """Run `jobs` side by side until they return, a signal asks them to, or one fails.

    A signal only sets `stop`, which a job reads between two commits; a failure cancels the rest.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_returning(job(stop)))


async def _returning(job: Awaitable[None]) -> None:
    await job


def main(name: str, run: Main, **overrides: Any) -> int:
    """Run a worker as this process; its exit code. A person's mistake is one sentence, not a traceback."""
    _die_with_the_supervisor()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while the servers start: the same as Ctrl-C
    failed = False
    try:
        settings = load(**overrides)
        log.configure(name, settings.teji_log, settings.teji_log_level, settings.secrets)
        with (
            embedded.servers(settings, postgres=name in _WITH_POSTGRES) as servers,
            metrics.served(settings.teji_metrics_host, settings.teji_metrics_port) as port,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_live(name, run, settings, servers, port))
    except* Misconfigured as group:
        print(f"teji {name}: {_first(group)}", file=sys.stderr)
        failed = True
    except* KeyboardInterrupt:
        logger.info("stopped before it had started")
    return int(failed)


def _first(group: BaseExceptionGroup[Misconfigured]) -> BaseException:
    """The error itself, from however deep the task groups have wrapped it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _live(name: str, run: Main, settings: Settings, servers: Servers, port: int) -> None:
    async with Bus.open(servers.redis_url) as bus:
        worker = Worker(name, settings, bus, servers, port)
        await serve(
            lambda stop: _after_redis(worker, run, stop),
            lambda stop: _heartbeat(worker, stop),
            lambda stop: lag.watch(bus, stop),
        )


async def _after_redis(worker: Worker, run: Main, stop: asyncio.Event) -> None:
    """The worker's own job; when it ends, the others do."""
    try:
        if version := await _redis_version(worker.bus, stop):
            logger.info("started", pid=os.getpid(), redis=version, metrics=worker.metrics_url)
            await run(worker, stop)
            logger.info("stopped")
    finally:
        stop.set()


async def _redis_version(bus: Bus, stop: asyncio.Event) -> str | None:
    """As soon as Redis answers; None when asked to stop before that."""
    while not stop.is_set():
        try:
            return await bus.check()
        except Unavailable as error:
            logger.warning("waiting", reason=str(error))
            await pause(stop, 1.0)
    return None


async def _heartbeat(worker: Worker, stop: asyncio.Event) -> None:
    """Also takes the name off the list, so that the last word is not an announcement that was under way."""
    details = {"pid": os.getpid(), "started": clock.now_ms(), "metrics": worker.metrics_url}
    try:
        while not stop.is_set():
            with contextlib.suppress(Unavailable):
                await lease.announce(worker.bus, worker.name, details)
            await pause(stop, _HEARTBEAT_S)
    finally:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_S):
                await lease.withdraw(worker.bus, worker.name)


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs side by side. The first error cancels the others and is raised as itself, not in a group."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_done(job: Coroutine[Any, Any, None], *beside: Coroutine[Any, Any, None]) -> None:
    """Run `job` with others beside it, which end with it. The first error of any of them ends all."""

    async def ends_them() -> None:
        await job
        raise _Done

    with contextlib.suppress(_Done):
        await together(ends_them(), *beside)


class _Done(Exception):
    """The job has ended; no error."""


def _die_with_the_supervisor() -> None:
    """Under `teji up` a killed supervisor takes its workers along (Linux; elsewhere they notice nothing and go on)."""
    if sys.platform == "linux" and os.environ.get("TEJI_SUPERVISED"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
