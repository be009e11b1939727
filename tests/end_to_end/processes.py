"""Workers as real processes, to be killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent


class Process:
    """A worker that is started again whenever it was killed."""

    def __init__(self, name: str, env: dict[str, str], log: Path) -> None:
        self.name = name
        self.kills = 0
        self._env = env
        self._log = log
        self._running = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", self.name], env=self._env, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """-9: it has no say."""
        self._running.send_signal(signal.SIGKILL)
        self._running.wait()
        self.kills += 1
        self._running = self._spawn()

    @property
    def pid(self) -> int:
        return self._running.pid

    def signal(self, number: int) -> None:
        self._running.send_signal(number)

    def check(self) -> None:
        if (code := self._running.poll()) is not None:
            raise AssertionError(f"{self.name} ended with {code}: {self._log.read_text()[-2000:]}")

    def stop(self) -> int:
        self._running.terminate()
        return self._running.wait(20)


@contextlib.asynccontextmanager
async def processes(env: dict[str, str], folder: Path, *names: str) -> AsyncIterator[dict[str, Process]]:
    whole = {**os.environ, "TEJI_LOG": "human", "TEJI_METRICS_PORT": "0", **env}
    running = {name: Process(name, whole, folder / f"{name}.log") for name in names}
    try:
        yield running
    finally:
        codes = await asyncio.gather(*(asyncio.to_thread(process.stop) for process in running.values()))
    fine = {0, -signal.SIGTERM}  # the latter: it was still importing when it was asked to stop
    assert set(codes) <= fine, dict(zip(running, codes, strict=True))
