"""The shell: puts the parts together, serves HTTP on one socket and keeps the cold store, until asked to stop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import uvicorn

from brokers.upstox import instruments as upstox_instruments
from bus import clock, postgres
from bus.life import Worker, pause, together
from bus.settings import Calendar, Settings
from gateway import app
from gateway.chains import Chains
from gateway.cold import Store, store_instruments
from gateway.context import Gateway
from gateway.directory import Directory, Fetch
from gateway.frames import Candles, Codec, Events, LongBars, Signals, Ticks
from gateway.history import History
from gateway.hub import Feed
from gateway.index import BarIndex
from gateway.journal import Journal
from gateway.longer import Longer
from gateway.orderframes import Orders
from gateway.positions import of_entry
from gateway.sse import Path, Streams
from gateway.tail import Tail
from gateway.tasks import end
from schemas import streams
from schemas.errors import Misconfigured, Unavailable

log = structlog.get_logger("gateway")

_RETRY_S: Final = 1.0
_FORGET_S: Final = 300.0
_LOG_TAIL: Final = 500  # entries of a log that are read at the start
_EVENTS_TAIL: Final = 4_000  # far enough back to find the last state of each shard's feed


async def run(
    worker: Worker, stop: asyncio.Event, *, listener: socket.socket | None = None, fetch: Fetch | None = None
) -> None:
    """Until `stop`. A caller may bring the socket it has bound, and another source of instruments."""
    with listener or listen(worker.settings) as bound:
        async with opened(worker) as gateway, asyncio.TaskGroup() as group:
            running = [group.create_task(job) for job in _endless(gateway)]
            group.create_task(gateway.directory.keep_fresh(fetch or _fetcher(worker.settings), stop))
            group.create_task(keep_cold(worker, gateway, stop))
            group.create_task(serve(gateway, bound, stop))
            host, port = bound.getsockname()[:2]
            log.info("listening", url=f"http://{host}:{port}")
            await stop.wait()
            await gateway.streams.close()
            await end(running)


def _endless(gateway: Gateway) -> Iterator[Coroutine[Any, Any, None]]:
    for tail in gateway.tails.values():
        yield tail.run()
    yield gateway.streams.beat()
    yield _forget_trimmed(gateway)


async def _forget_trimmed(gateway: Gateway) -> None:
    """What trimming took from the streams leaves the memory too."""
    while True:
        await asyncio.sleep(_FORGET_S)
        with contextlib.suppress(Unavailable):
            names = [streams.trimmed(streams.candles(shard)) for shard in range(gateway.settings.teji_shards)]
            marks = [await gateway.bus.get(name) for name in names]
            gone_ms = min((of_entry(mark).ms if mark else 0) for mark in marks)
            gateway.candles.forget_before(gone_ms)
            gateway.long_bars.forget_before(gone_ms)


@asynccontextmanager
async def opened(worker: Worker) -> AsyncIterator[Gateway]:
    """The parts, connected to one another."""
    settings, bus = worker.settings, worker.bus
    index, events, migrated = BarIndex(), Events(), asyncio.Event()
    candles, longer = Candles(index), LongBars()
    tails = _tails(worker, candles, longer, events)
    directory = Directory(bus, settings.teji_shards)
    paths = {
        "live": Path(tails["live"], "instruments", count=8, state=True),
        "candles": Path(tails["candles"], "instruments", count=500, longer=tails["intervals"]),
        "orders": Path(tails["orders"], "instruments", count=500, private=True),
        "signals": Path(tails["signals"], "strategies", count=500, private=True),
        "events": Path(tails["events"], "", count=500),
    }
    async with postgres.open_pool(worker.servers.postgres_url) as pool:
        history = History(
            bus, pool, index, counted=tails["candles"].ready, migrated=migrated, shards=settings.teji_shards
        )
        yield Gateway(
            settings=settings,
            bus=bus,
            pool=pool,
            writer=worker.writer(None),
            directory=directory,
            history=history,
            chains=Chains(pool, candles.chains, counted=tails["candles"].ready, migrated=migrated),
            journal=Journal(pool, migrated),
            longer=Longer(history, directory, always_open=settings.teji_calendar is Calendar.ALWAYS),
            tails=tails,
            streams=Streams(
                paths, directory, settings.teji_sse_heartbeat_s, settings.teji_sse_buffer_kb, settings.teji_host
            ),
            candles=candles,
            long_bars=longer,
            events=events,
            migrated=migrated,
            started_ms=clock.now_ms(),
        )


def _tails(worker: Worker, candles: Candles, longer: LongBars, events: Events) -> dict[str, Tail]:
    shards = range(worker.settings.teji_shards)

    def tail(
        name: str, inputs: list[str], codec: Codec, count: int, from_last: int | None, wanted: bool = True
    ) -> Tail:
        return Tail(worker.bus, Feed(name, inputs, codec), count=count, from_last=from_last, wanted=wanted)

    ticks = [streams.ticks(shard) for shard in shards]
    # Chains with the bars of any interval, so that a position says the same in each of these feeds.
    bars = [stream for shard in shards for stream in (streams.candles(shard), streams.chain(shard))]
    long = [stream for shard in shards for stream in (streams.intervals(shard), streams.chain(shard))]
    return {
        "live": tail("live", ticks, Ticks(), 64, 1, wanted=False),
        "candles": tail("candles", bars, candles, 2_000, None),
        "intervals": tail("intervals", long, longer, 2_000, None, wanted=False),
        "orders": tail("orders", [streams.ORDERS], Orders(), 500, _LOG_TAIL),
        "signals": tail("signals", [streams.SIGNALS], Signals(), 500, _LOG_TAIL),
        "events": tail("events", [streams.EVENTS], events, 500, _EVENTS_TAIL),
    }


def _fetcher(settings: Settings) -> Fetch:
    return lambda: upstox_instruments.fetch(settings)


async def keep_cold(worker: Worker, gateway: Gateway, stop: asyncio.Event) -> None:
    """The cold store: its schema first, then bars and events, and the instruments whenever their list is new."""
    await together(
        _migrate(gateway, stop),
        Store(worker, gateway.pool, gateway.migrated).run(stop),
        _keep_instruments(gateway, stop),
    )


async def _migrate(gateway: Gateway, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            applied = await postgres.migrate(gateway.pool)
        except Unavailable as error:
            log.warning("waiting", reason=str(error))
            await pause(stop, _RETRY_S)
        else:
            if applied:
                log.info("schema updated", migrations=applied)
            gateway.migrated.set()
            return


async def _keep_instruments(gateway: Gateway, stop: asyncio.Event) -> None:
    while not stop.is_set():
        universe = gateway.directory.universe
        if universe is not None and gateway.migrated.is_set() and gateway.directory.changed.is_set():
            gateway.directory.changed.clear()
            try:
                log.info("instruments stored", changed=await store_instruments(gateway.pool, universe))
            except Unavailable as error:
                gateway.directory.changed.set()
                log.warning("waiting", reason=str(error))
        await pause(stop, _RETRY_S)


# HTTP


def listen(settings: Settings) -> socket.socket:
    """Our own socket: bound before anything else happens, so that a taken port is one sentence."""
    host, port = settings.teji_host, settings.teji_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Misconfigured(f"{host!r} is no address of this machine ({error.strerror}): set TEJI_HOST.") from None
    # Its protocol by name: asyncio looks at it before it switches off Nagle's algorithm, which costs 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise Misconfigured(
            f"The gateway cannot listen on {host}:{port} ({error.strerror}): set TEJI_PORT to a free port."
        ) from None
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """Signals are the worker's; this server is told to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(gateway: Gateway, listener: socket.socket, stop: asyncio.Event) -> None:
    config = uvicorn.Config(
        app.create(gateway),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=2048,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
