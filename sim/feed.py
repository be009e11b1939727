"""The market data websocket.

The server speaks first: market_info, then an initial_feed for every subscription it accepts, then live_feed frames with
what changed. It acknowledges nothing. Requests are JSON in binary frames; text is ignored.

Each connection owns one sender. It has an outbox for what must arrive (status, snapshots; bounded) and a set of rows
that changed. While a slow client blocks the sender, the set collects and the frame sent next has the latest state of
each of them: memory stays bounded, and states in between are lost, as they are at the venue.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from proto import feed_pb2 as pb
from sim.auth import Claims
from sim.faults import Faults, among
from sim.hours import MINUTE_MS, Hours
from sim.market import Update
from sim.settings import Mode, SimSettings
from sim.status import market_info
from sim.subscriptions import Subscriptions, Usage
from sim.wire import LIVE, Encoder, Versions

log = logging.getLogger("sim.feed")

_OUTBOX_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame as it left; `ts_ms` is venue time."""

    connection: int
    ts_ms: int
    data: bytes


class Connection:
    """One client of the feed."""

    def __init__(self, number: int, socket: WebSocket, claims: Claims, subscriptions: Subscriptions) -> None:
        self.number = number
        self.socket = socket
        self.claims = claims
        self.subscriptions = subscriptions
        self.rows: dict[int, Mode] = {}
        self.changed: set[int] = set()
        self.sent: Versions = {}
        self.outbox: deque[bytes] = deque()
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.held: bytes | None = None  # a frame that lets the next one pass
        self.frozen = False
        self.slow = False
        self.gone = False  # nothing can be sent any more
        self.closing: tuple[int, str] | None = None

    def post(self, frame: bytes) -> None:
        self.outbox.append(frame)
        self._stir()

    def touch(self, rows: set[int]) -> None:
        """These rows changed; those that the client follows will be sent."""
        hit = rows & self.rows.keys()
        if hit:
            self.changed |= hit
            self._stir()

    def close(self, code: int, reason: str = "") -> None:
        self.closing = (code, reason)
        self._stir()

    def by_mode(self, rows: set[int]) -> dict[Mode, list[int]]:
        found: dict[Mode, list[int]] = {}
        for row in sorted(rows):
            if row in self.rows:
                found.setdefault(self.rows[row], []).append(row)
        return found

    def end(self) -> None:
        """Nobody shall wait for this connection again."""
        self.gone = True
        self.idle.set()

    def _stir(self) -> None:
        if not self.gone:
            self.idle.clear()
            self.wake.set()


class Hub:
    """All connections of the feed."""

    def __init__(self, settings: SimSettings, hours: Hours, encoder: Encoder, faults: Faults) -> None:
        self.settings = settings
        self.hours = hours
        self.encoder = encoder
        self.faults = faults
        self.connections: dict[int, Connection] = {}
        self.sent: list[SentFrame] = []
        self.ts_ms = encoder.market.now_ms
        self._count = 0
        self._shared = Usage()
        self._info = market_info(hours, self.ts_ms)
        self._minute = self.ts_ms // MINUTE_MS

    def has_room(self, user_id: str) -> bool:
        """Whether another connection of the user is within the limit."""
        mine = sum(each.claims.user_id == user_id for each in self.connections.values())
        return mine < (self.faults.connections or self.settings.max_connections)

    # --- from the market ---------------------------------------------------------------------------------------------

    def publish(self, update: Update) -> None:
        self.ts_ms = update.ts
        self.encoder.changed(update.rows)
        self._publish_status()
        rows = set(update.rows.tolist())
        for connection in self.connections.values():
            connection.touch(rows)
            if connection.claims.expires_ms <= update.ts:
                connection.close(self.settings.token_death_close_code, "token expired")

    async def settle(self, patience_s: float) -> None:
        """Wait until every connection has sent what it has. One that does not take it is waited for once only."""
        for connection in list(self.connections.values()):
            if connection.idle.is_set() or connection.slow:
                continue
            try:
                async with asyncio.timeout(patience_s):
                    await connection.idle.wait()
            except TimeoutError:
                connection.slow = True

    def move_to(self, encoder: Encoder) -> None:
        """A new trading day: other rows, the same subscriptions."""
        self.encoder = encoder
        row_of = encoder.market.listing.row_of
        for connection in self.connections.values():
            modes = connection.subscriptions.modes
            connection.rows = {row_of[key]: mode for key, mode in modes.items() if key in row_of}
            connection.changed.clear()
            connection.sent.clear()
            connection.touch(set(connection.rows))

    def _publish_status(self) -> None:
        minute = self.ts_ms // MINUTE_MS
        if minute == self._minute:  # phases begin with a minute
            return
        self._minute = minute
        info = market_info(self.hours, self.ts_ms)
        if info != self._info:
            self._info = info
            for connection in self.connections.values():
                connection.post(self._status_frame())

    def expire(self) -> None:
        """The tokens of all connections have died."""
        for connection in self.connections.values():
            connection.close(self.settings.token_death_close_code, "token expired")

    def _stamp(self, ts_ms: int) -> int:
        """The time that a frame tells."""
        return ts_ms + self.faults.skew_ms

    def _status_frame(self) -> bytes:
        frame = pb.FeedResponse(type=pb.Type.market_info, currentTs=self._stamp(self.ts_ms), marketInfo=self._info)
        return frame.SerializeToString(deterministic=True)

    # --- one connection ----------------------------------------------------------------------------------------------

    async def serve(self, socket: WebSocket, claims: Claims, now_ms: Callable[[], int]) -> None:
        """Own an accepted websocket until either side ends it."""
        self._count += 1
        shared = self._shared if self.settings.caps.scope == "user" else None
        wanted = Subscriptions(self.settings.caps, plus_plan=self.settings.plus_plan, shared=shared)
        connection = Connection(self._count, socket, claims, wanted)
        self.connections[connection.number] = connection
        connection.post(self._status_frame())
        sender = asyncio.create_task(self._send(connection))
        try:
            await self._receive(connection, now_ms)
        except WebSocketDisconnect:
            log.debug("feed connection %d was lost", connection.number)
        finally:
            del self.connections[connection.number]
            connection.subscriptions.drop(list(connection.subscriptions.modes))
            connection.end()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _receive(self, connection: Connection, now_ms: Callable[[], int]) -> None:
        while True:
            message = await connection.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None:
                continue  # the venue obeys binary frames only
            self._obey(connection, _parsed(data), now_ms())
            while len(connection.outbox) >= _OUTBOX_MAX and not connection.gone:
                await connection.idle.wait()

    def _obey(self, connection: Connection, request: Any, now_ms: int) -> None:
        row_of = self.encoder.market.listing.row_of
        known = [key for key in row_of if not among(key, self.faults.ignore)] if self.faults.ignore else row_of
        fresh = connection.subscriptions.apply(request, known, most=self.faults.cap)
        connection.rows = {row_of[key]: mode for key, mode in connection.subscriptions.modes.items() if key in row_of}
        if fresh:
            rows = connection.by_mode({row_of[key] for key in fresh})
            stamp = self._stamp(max(now_ms, self.ts_ms))
            connection.post(self.encoder.snapshot_frame(stamp, rows, connection.sent))

    async def _send(self, connection: Connection) -> None:
        """Whatever there is to send, one frame after the other, until either side ends it."""
        try:
            while not connection.closing:
                connection.wake.clear()  # first: what comes while sending wakes again
                await self._send_all(connection)
                await connection.wake.wait()
            await connection.socket.close(*connection.closing)
        except WebSocketDisconnect:
            log.debug("feed connection %d was lost", connection.number)
        finally:
            connection.end()

    async def _send_all(self, connection: Connection) -> None:
        while not connection.closing and (frame := self._next_frame(connection)) is not None:
            for each in self._as_sent(connection, frame):
                await connection.socket.send_bytes(each)
                if self.settings.record:
                    self.sent.append(SentFrame(connection.number, self.ts_ms, each))
        connection.slow = False
        connection.idle.set()

    def _next_frame(self, connection: Connection) -> bytes | None:
        if connection.frozen or self.faults.mutes(connection.number):
            connection.outbox.clear()
            connection.changed.clear()
            return None
        if connection.outbox:
            return connection.outbox.popleft()
        rows = connection.by_mode(connection.changed - self._quiet_rows())
        connection.changed.clear()
        self.encoder.set_partial(self.settings.partial_blocks or self.faults.partial_blocks)
        return self.encoder.live_frame(self._stamp(self.ts_ms), rows, connection.sent) if rows else None

    def _quiet_rows(self) -> set[int]:
        quiet = self.faults.quiet
        row_of = self.encoder.market.listing.row_of
        return {row for key, row in row_of.items() if among(key, quiet)} if quiet else set()

    def _as_sent(self, connection: Connection, frame: bytes) -> list[bytes]:
        """What leaves in place of a frame: usually that."""
        frames = [frame]
        if connection.held is not None:
            frames, connection.held = [frame, connection.held], None
        elif self.faults.reorder and frame.startswith(LIVE):
            frames, connection.held = [], frame
        return [each for each in frames for _ in range(2)] if self.faults.duplicate else frames


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
