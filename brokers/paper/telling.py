"""Who listens to a paper venue. Each listener has a queue with an end: one that does not read is told so."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from brokers.venue import CONNECTED, Disconnected, Update

_UNREAD_MAX: Final = 10_000


class Listeners:
    def __init__(self) -> None:
        self._all: set[_Listener] = set()

    def tell(self, update: Update) -> None:
        for listener in self._all:
            listener.tell(update)

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Update]]:
        listener = _Listener()
        self._all.add(listener)
        try:
            yield listener.stream()
        finally:
            self._all.discard(listener)


class _Listener:
    def __init__(self) -> None:
        self._unread: deque[Update] = deque([CONNECTED])
        self._some = asyncio.Event()

    def tell(self, update: Update) -> None:
        if len(self._unread) >= _UNREAD_MAX:
            self._unread.clear()
            self._unread += [Disconnected("updates were not read in time"), CONNECTED]
        else:
            self._unread.append(update)
        self._some.set()

    async def stream(self) -> AsyncIterator[Update]:
        while True:
            while self._unread:
                yield self._unread.popleft()
            self._some.clear()
            await self._some.wait()
