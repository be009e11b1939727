"""A wire between a client and Redis that can be cut where it hurts."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bus.facts import until


class Proxy:
    """Passes bytes both ways, until told otherwise."""

    def __init__(self, target: str, folder: str) -> None:
        self.url = f"unix://{folder}/proxy.sock"
        self.requests = b""  # all that clients have sent
        self._target = target
        self._swallow: bytes | None = None
        self._hold = asyncio.Event()
        self._hold.set()
        self._away = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def swallow_reply_to(self, marker: bytes) -> None:
        """The next request that contains `marker` reaches the server; its answer does not come back."""
        self._swallow = marker

    def hold(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._hold.clear()

    def go_on(self) -> None:
        self._hold.set()

    async def refuse(self) -> None:
        """The server is away: what is open is cut, and nothing new comes through."""
        self._away = True
        for writer in list(self._open):
            writer.close()
        await until(lambda: not self._open, "every wire is cut")

    def accept(self) -> None:
        self._away = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.close()
            return
        there_reader, there = await asyncio.open_unix_connection(self._target)
        cut = asyncio.Event()
        self._open |= {writer, there}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, there, cut))
                group.create_task(self._replies(there_reader, writer, cut))
        except* (ConnectionError, _CutError):
            pass  # that is what it is for
        finally:
            self._open -= {writer, there}
            for one in (writer, there):
                one.close()

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await reader.read(1 << 20):
            await self._hold.wait()
            self.requests += data
            if self._swallow is not None and self._swallow in data:
                self._swallow = None
                cut.set()
            there.write(data)
            await there.drain()
        raise _CutError

    async def _replies(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await there.read(1 << 20):
            await self._hold.wait()
            if cut.is_set():
                raise _CutError
            writer.write(data)
            await writer.drain()
        raise _CutError


class _CutError(Exception):
    """One side is gone: so is the other."""


@contextlib.asynccontextmanager
async def proxied(redis_url: str) -> AsyncIterator[Proxy]:
    with tempfile.TemporaryDirectory() as folder:
        proxy = Proxy(redis_url.removeprefix("unix://"), folder)
        server = await asyncio.start_unix_server(proxy.serve, Path(folder) / "proxy.sock")
        try:
            yield proxy
        finally:
            server.close()
            proxy.go_on()
            await proxy.refuse()
            await server.wait_closed()
