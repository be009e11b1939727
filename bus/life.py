"""How a worker lives: settings, logs, servers, metrics, heartbeat; then its job, until a signal asks it to finish."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
import uvloop

from bus import clock, embedded, lease, log, metrics
from bus.connection import Bus
from bus.embedded import Servers
from bus.inbox import Writer
from bus.lease import Lease
from bus.settings import Settings, load
from schemas import streams
from schemas.errors import Misconfigured, Unavailable

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
        return f"http://{self.settings.teji_metrics_host}:{self.metrics_port}/metrics"

    def writer(self, held: Lease | None) -> Writer:
        """Commits under a lease, trimming by the retention that the settings give."""
        minute_ms = 60_000
        keep = dict(streams.RETENTION_MS)
        keep["ticks"] = self.settings.teji_keep_ticks_min * minute_ms
        keep["candles"] = keep["chain"] = self.settings.teji_keep_bars_h * 60 * minute_ms
        return Writer(self.bus, held, keep)


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
    try:
        settings = load(**overrides)
        log.configure(name, settings.teji_log, settings.teji_log_level)
        with (
            embedded.servers(settings, postgres=name == "gateway") as servers,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_live(name, run, settings, servers))
    except* Misconfigured as group:
        print(f"teji {name}: {_first(group)}", file=sys.stderr)
        failed = True
    else:
        failed = False
    return int(failed)


def _first(group: BaseExceptionGroup[Misconfigured]) -> BaseException:
    """The error itself, from however deep the task groups have wrapped it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _live(name: str, run: Main, settings: Settings, servers: Servers) -> None:
    port = metrics.serve(settings.teji_metrics_host, settings.teji_metrics_port)
    async with Bus.open(servers.redis_url) as bus:
        worker = Worker(name, settings, bus, servers, port)
        await serve(lambda stop: _after_redis(worker, run, stop), lambda stop: _heartbeat(worker, stop))


async def _after_redis(worker: Worker, run: Main, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            version = await worker.bus.check()
            break
        except Unavailable as error:
            logger.warning("waiting", reason=str(error))
            await pause(stop, 1.0)
    else:
        return
    logger.info("started", pid=os.getpid(), redis=version, metrics=worker.metrics_url)
    try:
        await run(worker, stop)
    finally:
        stop.set()
        with contextlib.suppress(Unavailable):
            await lease.withdraw(worker.bus, worker.name)
    logger.info("stopped")


async def _heartbeat(worker: Worker, stop: asyncio.Event) -> None:
    details = {
        "pid": os.getpid(),
        "started": clock.now_ms(),
        "metrics": worker.metrics_url,
    }
    while not stop.is_set():
        with contextlib.suppress(Unavailable):
            await lease.announce(worker.bus, worker.name, details)
        await pause(stop, 2.0)


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs side by side. The first error cancels the others and is raised as itself, not in a group."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_done(job: Coroutine[Any, Any, None], *helpers: Coroutine[Any, Any, None]) -> None:
    """Run `job` with helpers beside it, which end with it. The first error of any of them ends all."""

    async def ends_them() -> None:
        await job
        raise _Done

    with contextlib.suppress(_Done):
        await together(ends_them(), *helpers)


class _Done(Exception):
    """The job has ended; no error."""


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `seconds`, or less when asked to stop; says whether it was."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


def _die_with_the_supervisor() -> None:
    """Under `teji up` a killed supervisor takes its workers along (Linux; elsewhere they notice nothing and go on)."""
    if sys.platform == "linux" and os.environ.get("TEJI_SUPERVISED"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
