"""A process that the supervisor keeps alive: started, its lines passed on, started again when it dies, stopped."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import clock

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
LIVED_WELL_S: Final = 60.0  # after so long the next death counts as the first

_CHUNK_BYTES: Final = 1 << 16
_LINE_MAX_BYTES: Final = 1 << 16


def backoff_s(last_s: float, lived_s: float) -> float:
    """How long to wait before the next start. `last_s` is the wait before this one, 0 before the first."""
    if last_s == 0.0 or lived_s >= LIVED_WELL_S:
        return BACKOFF_FIRST_S
    return min(last_s * 2, BACKOFF_MAX_S)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, where, and with which environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class Child:
    """Runs a program until `stop` is called.

    It gets a process group of its own, so that Ctrl-C reaches the supervisor alone, which then stops the children in
    their order. Its standard input is a pipe that nothing is written to: it closes when the supervisor dies.
    """

    def __init__(self, program: Program, on_line: Callable[[str, str], None], on_death: Callable[[str], None]) -> None:
        self.program = program
        self.starts = 0
        self._on_line = on_line
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._over = asyncio.Event()

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        wait_s = 0.0
        while not self._over.is_set():
            started_s = clock.monotonic_s()
            code = await self._live()
            if self._over.is_set():
                return
            wait_s = backoff_s(wait_s, clock.monotonic_s() - started_s)
            self._on_death(f"{self.name} {ended(code)}; starting it again in {wait_s:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait_s)

    async def _live(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.program.command,
            env=self.program.environment,
            cwd=self.program.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
        )
        self._process = process
        self.starts += 1
        if self._over.is_set():  # asked to stop while it was being started
            self.terminate()
        assert process.stdout is not None
        async for line in lines(process.stdout):
            self._on_line(self.name, line)
        return await process.wait()

    def terminate(self) -> None:
        """Ask it to finish; it will not be started again."""
        self._over.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Decoded lines without their ends. One that is too long comes in pieces, whatever is no UTF-8 is replaced."""
    rest = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_MAX_BYTES:
            whole.append(rest)
            rest = b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
