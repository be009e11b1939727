"""The portfolio stream: what happened to orders, positions, holdings and GTTs, as JSON in text frames.

No snapshot, no replay, no numbers: who was not there does not learn it here. Faults let messages be lost, late, doubled
or overtaken.
"""

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from sim.auth import Claims
from sim.faults import Faults

log = logging.getLogger("sim.portfolio")

TYPES: Final = frozenset({"order", "position", "holding", "gtt_order"})
DEFAULT_TYPES: Final = frozenset({"order"})

_OUTBOX_MAX: Final = 10_000
_TOO_SLOW: Final = 1008
_HELD_MAX_MS: Final = 2_000  # a message that nothing overtakes leaves by itself


class Follower:
    """One connection."""

    def __init__(self, socket: WebSocket, claims: Claims, types: frozenset[str]) -> None:
        self.socket = socket
        self.claims = claims
        self.types = types
        self.outbox: deque[str] = deque()
        self.wake = asyncio.Event()
        self.closing: tuple[int, str] | None = None

    def post(self, text: str) -> None:
        if len(self.outbox) >= _OUTBOX_MAX:
            self.close(_TOO_SLOW, "reads too slowly")
            return
        self.outbox.append(text)
        self.wake.set()

    def close(self, code: int, reason: str) -> None:
        self.closing = (code, reason)
        self.wake.set()


class PortfolioHub:
    """All connections of the portfolio stream."""

    def __init__(self, faults: Faults, death_code: int, now_ms: int) -> None:
        self.faults = faults
        self.now_ms = now_ms
        self.followers: list[Follower] = []
        self._death_code = death_code
        self._late: list[tuple[int, int, str, str]] = []  # a heap: due, number, type, text
        self._numbers = itertools.count()
        self._held: tuple[int, str, str] | None = None

    def publish(self, update_type: str, payload: Mapping[str, Any]) -> None:
        """Tell whoever asked for this type."""
        text = orjson.dumps({"update_type": update_type, **payload}).decode()
        if self.faults.updates_late_ms:
            due_ms = self.now_ms + self.faults.updates_late_ms
            heapq.heappush(self._late, (due_ms, next(self._numbers), update_type, text))
        else:
            self._deliver(update_type, text)

    def step(self, now_ms: int) -> None:
        """Venue time has come to `now_ms`."""
        self.now_ms = now_ms
        while self._late and self._late[0][0] <= now_ms:
            self._deliver(*heapq.heappop(self._late)[2:])
        if self._held and self._held[0] + _HELD_MAX_MS <= now_ms:
            self._release()
        for each in self.followers:
            if each.claims.expires_ms <= now_ms:
                each.close(self._death_code, "token expired")

    def expire(self) -> None:
        """The tokens of all connections have died."""
        for each in self.followers:
            each.close(self._death_code, "token expired")

    def _deliver(self, update_type: str, text: str) -> None:
        if self.faults.hits("updates_lost"):
            return
        if self._held is None and self.faults.hits("updates_reordered"):
            self._held = (self.now_ms, update_type, text)
            return
        self._send(update_type, text)
        if self._held is not None:
            self._release()

    def _release(self) -> None:
        assert self._held is not None
        (_, *message), self._held = self._held, None
        self._send(*message)

    def _send(self, update_type: str, text: str) -> None:
        times = 2 if self.faults.hits("updates_twice") else 1
        for each in self.followers:
            if update_type in each.types:
                for _ in range(times):
                    each.post(text)

    async def serve(self, socket: WebSocket, claims: Claims, types: frozenset[str]) -> None:
        """Own an accepted websocket until either side ends it."""
        follower = Follower(socket, claims, types)
        self.followers.append(follower)
        sender = asyncio.create_task(_send_all(follower))
        try:
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass  # nothing that a client says is obeyed
        finally:
            self.followers.remove(follower)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def _send_all(follower: Follower) -> None:
    try:
        while True:
            await follower.wake.wait()
            follower.wake.clear()
            while follower.outbox and not follower.closing:
                await follower.socket.send_text(follower.outbox.popleft())
            if follower.closing:
                await follower.socket.close(*follower.closing)
                return
    except WebSocketDisconnect:
        log.debug("a connection of the portfolio stream was lost")
