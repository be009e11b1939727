"""The SSE endpoints: bare ASGI, because a middleware around `send` would cost every client its share of every event.

The life of a connection: parse the request (a problem, if need be) - headers and `retry:` - a snapshot, or what the
stream holds behind `Last-Event-ID` - then live: the feed hands over bytes, one task here writes them. When the feed
lets the connection go because it does not keep up, it catches up from the stream and joins again. On the feed of ticks
nobody is served by minutes-old prices: there it is told by a `gap` event and gets a new snapshot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from bus import clock, metrics
from gateway.directory import Directory
from gateway.frames import LongBars
from gateway.hosts import refuse_foreign
from gateway.hub import Cursor, Feed, Join, gap_event
from gateway.positions import BadPosition, Vector, parse
from gateway.problems import Problem
from gateway.tail import Tail
from gateway.tasks import end
from schemas.errors import Unavailable
from schemas.intervals import Interval

PREFIX: Final = "/api/v1/stream/"

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_RETRY: Final = b"retry: 1000\n\n"
_HEARTBEAT: Final = b": heartbeat\n\n"
_FILTER_MAX: Final = 5_000
_SLICE_BYTES: Final = 64 << 10
_REDIS_PAUSE_S: Final = 0.2
#: A connection that takes nothing for this long is closed; what it missed it finds by its Last-Event-ID.
_STALLED_S: Final = 30.0
_CLOSE_S: Final = 1.0
_END_S: Final = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Path:
    """One SSE path: the query parameter that filters it, and whether its snapshot makes up for what was not told."""

    tail: Tail
    filter: str  # "" where there is none
    count: int  # entries read at a time by one who comes from behind
    state: bool = False
    longer: Tail | None = None  # of bars: those of other intervals than a minute
    private: bool = False  # of accounts: told under the gateway's own address only


class Connection:
    """A hub sink: whole events wait here, up to a bound, for the one task that writes them.

    While that task has nothing to do, and the server is one whose transport we can reach, events go to the transport
    at once: no task is woken, and the bytes, framed as a chunk, are the same for everybody. That is worth a factor of
    three with a thousand clients. What the transport has not sent yet counts towards the bound.
    """

    def __init__(self, limit_bytes: int, transport: asyncio.WriteTransport | None) -> None:
        self._limit_bytes = limit_bytes
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0
        self._idle = False
        self._wake = asyncio.Event()
        self._left: Vector | None = None

    def deliver(self, data: bytes, chunk: bytes, /) -> bool:
        if self._idle and self._transport is not None:
            waiting = self._transport.get_write_buffer_size()
            if waiting and waiting + len(chunk) > self._limit_bytes:
                return False
            if not self._transport.is_closing():
                self._transport.write(chunk)
            return True
        if self._size and self._size + len(data) > self._limit_bytes:
            return False
        self._parts.append(data)
        self._size += len(data)
        self._wake.set()
        return True

    def let_go(self, position: Vector) -> None:
        self._left = position
        self._wake.set()

    async def take(self) -> bytes | Vector:
        """What waits; once all is taken and the feed has let go: up to where it came."""
        while not self._parts:
            if self._left is not None:
                left, self._left = self._left, None
                return left
            self._wake.clear()
            self._idle = True
            try:
                await self._wake.wait()
            finally:
                self._idle = False
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return data


def transport_of(scope: Scope, send: Send) -> asyncio.WriteTransport | None:
    """The transport under `send`, where the server is uvicorn and the response goes out in chunks; else None.

    Private to uvicorn, so looked at with care: what is missing means the plain way, which does the same.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    needed = ("write", "is_closing", "get_write_buffer_size", "abort")
    if scope.get("http_version") != "1.1" or not all(callable(getattr(transport, name, None)) for name in needed):
        return None
    return cast(asyncio.WriteTransport, transport)


class Streams:
    """The ASGI application behind `/api/v1/stream/`."""

    def __init__(
        self, paths: Mapping[str, Path], directory: Directory, heartbeat_s: float, buffer_kb: int, host: str = ""
    ) -> None:
        """`host`: the name or address that the gateway binds to."""
        self._paths = paths
        self._host = host
        self._directory = directory
        self._heartbeat_s = heartbeat_s
        self._limit_bytes = buffer_kb << 10
        self._closing = asyncio.Event()
        self._open: dict[Connection, asyncio.Task[None]] = {}

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def _feeds(self) -> list[Feed]:
        tails = [tail for path in self._paths.values() for tail in (path.tail, path.longer) if tail is not None]
        return [tail.feed for tail in tails]

    async def beat(self) -> None:
        """Send the comment that keeps quiet connections alive, to everybody, until cancelled."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            for feed in self._feeds:
                feed.comment(list(self._open), _HEARTBEAT)

    async def close(self) -> None:
        """End every response; a client that reconnects resumes where it stood."""
        self._closing.set()
        joined = {sink for feed in self._feeds for sink in feed.close()}
        serving = list(self._open.values())
        for connection, task in self._open.items():
            if connection not in joined:  # it waits for Redis, or reads from it: nothing is half told
                task.cancel()
        if serving:
            _, stalled = await asyncio.wait(serving, timeout=_CLOSE_S)
            await end(stalled)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path, wanted, vector = await self._parse(Request(scope))
        except Problem as problem:
            await problem.response(scope["path"])(scope, receive, send)
            return
        transport = transport_of(scope, send)
        connection = Connection(self._limit_bytes, transport)
        session = _Session(path, connection, wanted, send, self._heartbeat_s, self._closing)
        serving = asyncio.create_task(session.run(vector))
        gone = asyncio.create_task(_gone(receive))
        self._open[connection] = serving
        metrics.SSE_CLIENTS.labels(path.tail.feed.name).inc()
        try:
            await asyncio.wait({serving, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end((serving, gone))
            path.tail.feed.leave(connection)
            del self._open[connection]
            metrics.SSE_CLIENTS.labels(path.tail.feed.name).dec()
        ending = None if serving.cancelled() else serving.exception()
        if ending is not None and not isinstance(ending, TimeoutError):
            raise ending
        if isinstance(ending, TimeoutError):
            metrics.SSE_LET_GO.labels(path.tail.feed.name).inc()
        await _end(send, transport)

    async def _parse(self, request: Request) -> tuple[Path, frozenset[str] | None, Vector | None]:
        path = self._paths.get(request.url.path.removeprefix(PREFIX))
        if path is None:
            raise Problem(404, f"there is no stream here; there are {', '.join(self._paths)}", kind="not-found")
        if request.method != "GET":
            raise Problem(405, "a stream is read with GET", headers={"Allow": "GET"})
        if path.private:
            refuse_foreign(request.headers.get("host", ""), self._host)
        query = parse_qs(request.url.query, keep_blank_values=True, max_num_fields=100)
        wanted = self._filter(path, query)
        if wanted is not None and path.filter == "instruments":
            await self._refuse_unknown(wanted)
        path, wanted = self._of_interval(path, query, wanted)
        vector = _resume(request, query, path.tail.feed)
        if self._closing.is_set():
            raise Problem(503, "the gateway is stopping", kind="unavailable", headers={"Retry-After": "2"})
        path.tail.want()
        return path, wanted, vector

    def _of_interval(
        self, path: Path, query: Mapping[str, list[str]], wanted: frozenset[str] | None
    ) -> tuple[Path, frozenset[str] | None]:
        """The path of bars of the interval that is asked for, and the filter as its feed has it."""
        text = query.get("interval", [Interval.M1.value])[-1]
        if path.longer is None or text == Interval.M1:
            return path, wanted
        if text not in list(Interval):
            raise Problem.field(422, "query.interval", f"{text[:20]!r} is none of {', '.join(Interval)}")
        return Path(path.longer, path.filter, path.count), LongBars.wanted(text, wanted)

    def _filter(self, path: Path, query: Mapping[str, list[str]]) -> frozenset[str] | None:
        if not path.filter or path.filter not in query:
            return None
        field = f"query.{path.filter}"
        names = frozenset(part.strip() for text in query[path.filter] for part in text.split(",")) - {""}
        if not names:
            raise Problem.field(422, field, f"{path.filter} is there but names none; leave it out for all")
        if len(names) > _FILTER_MAX:
            raise Problem.field(422, field, f"{len(names)} names, {_FILTER_MAX} are the most")
        return names

    async def _refuse_unknown(self, wanted: frozenset[str]) -> None:
        unknown = await self._directory.unknown(sorted(wanted))
        if unknown:
            message = f"there is no instrument {', '.join(unknown[:10])}"
            raise Problem.field(404, "query.instruments", message, kind="unknown-instrument")


def _resume(request: Request, query: Mapping[str, list[str]], feed: Feed) -> Vector | None:
    """The browser's header counts before the page's parameter: it is the newer of the two."""
    for field, text in (
        ("header.last-event-id", request.headers.get("last-event-id", "")),
        ("query.last_event_id", query.get("last_event_id", [""])[-1]),
    ):
        if text:
            try:
                return parse(text, len(feed.streams))
            except BadPosition as error:
                raise Problem.field(
                    400, field, f"not a position in this stream: {error}", kind="bad-position"
                ) from None
    return None


async def _end(send: Send, transport: asyncio.WriteTransport | None) -> None:
    """Complete the response; where the client takes nothing, not even that, drop the connection."""
    try:
        async with asyncio.timeout(_END_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError:
        if transport is not None:
            transport.abort()
            await asyncio.sleep(0)  # the server learns of it


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Session:
    """One client's response, from its first byte to its last."""

    def __init__(
        self,
        path: Path,
        connection: Connection,
        wanted: frozenset[str] | None,
        send: Send,
        heartbeat_s: float,
        closing: asyncio.Event,
    ) -> None:
        self._path = path
        self._tail = path.tail
        self._feed = path.tail.feed
        self._connection = connection
        self._wanted = wanted
        self._send = send
        self._heartbeat_s = heartbeat_s
        self._closing = closing

    async def run(self, vector: Vector | None) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._write(_RETRY)
        await self._patiently(self._tail.ready.wait)
        if vector is not None:
            vector = await self._not_ahead(vector)
        while not self._closing.is_set():
            if vector is None:
                await self._write(self._feed.join_fresh(self._connection, self._wanted))
            else:
                await self._catch_up(vector)
            vector = await self._relay()
            if not self._closing.is_set():
                metrics.SSE_LET_GO.labels(self._feed.name).inc()
            if self._path.state and not self._closing.is_set():
                await self._tell_slow(vector)
                vector = None

    async def _relay(self) -> Vector:
        while True:
            taken = await self._connection.take()
            if isinstance(taken, tuple):
                return taken
            await self._write(taken)

    async def _catch_up(self, vector: Vector) -> None:
        """Tell what the streams hold behind `vector`, then join the feed."""
        cursor = Cursor(self._feed.streams, self._feed.codec, vector, self._wanted)
        while not self._closing.is_set():
            state, data = self._feed.join(self._connection, self._wanted, cursor.vector)
            if state is Join.BEHIND:
                data = await self._patiently(lambda: self._tail.after(cursor, self._path.count))
            elif state is Join.AHEAD:
                await self._patiently(self._tail.moved)
            if data:
                await self._write(data)
            if state is Join.JOINED:
                return

    async def _not_ahead(self, vector: Vector) -> Vector:
        """A position that these streams have not come to is from another Redis: say so and go on from their end."""
        if all(at <= head for at, head in zip(vector, self._feed.vector, strict=True)):
            return vector
        ends = await self._patiently(self._tail.ends)
        for stream, at, last in zip(self._feed.streams, vector, ends, strict=True):
            if at > last:
                await self._write(gap_event(stream, at, last, "unknown position"))
        return tuple(min(at, last) for at, last in zip(vector, ends, strict=True))

    async def _tell_slow(self, left: Vector) -> None:
        """The client did not keep up with the ticks. What it lacks it will not get: a snapshot follows instead."""
        for stream, at, head in zip(self._feed.streams, left, self._feed.vector, strict=True):
            if at < head:
                await self._write(gap_event(stream, at, head, "slow"))

    async def _patiently(self, action: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds, however long Redis is away, and keep the connection alive meanwhile."""
        due = clock.monotonic_s() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout(max(0.0, due - clock.monotonic_s())):
                    while True:
                        try:
                            return await action()
                        except Unavailable:
                            await asyncio.sleep(_REDIS_PAUSE_S)
            except TimeoutError:
                await self._write(_HEARTBEAT)
                due = clock.monotonic_s() + self._heartbeat_s

    async def _write(self, data: bytes) -> None:
        """Write in slices, each when the one before has found room."""
        for start in range(0, len(data), _SLICE_BYTES):
            body = data[start : start + _SLICE_BYTES]
            async with asyncio.timeout(_STALLED_S):
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
