"""The toy worker as real processes: started, watched, killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bus.facts import until_sync

ROOT: Final = Path(__file__).parents[2]


class Process:
    def __init__(self, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEJI_", "REDIS_"))}
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], env={**inherited, **env}, cwd=ROOT, stdout=out, stderr=out
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """-9: it has no say."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def ended(self, seconds: float = 30.0) -> int:
        """Its exit code, when it has ended by itself or because it was asked to."""
        return self._process.wait(seconds)

    def until_says(self, words: str, seconds: float = 30.0) -> None:
        def said() -> bool:
            if words not in self.text and (code := self._process.poll()) is not None:
                raise AssertionError(f"ended with {code} without saying {words!r}: {self.text[-2000:]}")
            return words in self.text

        until_sync(said, f"{words!r} in {self.text[-2000:]}", seconds)

    def alive(self) -> bool:
        return self._process.poll() is None


@contextmanager
def started(*arguments: str, log: Path, **env: str) -> Iterator[Process]:
    process = Process(list(arguments), {"TEJI_LOG": "json", **env}, log)
    try:
        yield process
    finally:
        if process.alive():
            process.send(signal.SIGCONT)
            process.kill()


def toy(log: Path, redis_url: str, **env: str) -> Process:
    whole = {"TEJI_LOG": "json", "TEJI_HOME": str(log.parent), "REDIS_URL": redis_url, "TEJI_LEASE_S": "0.5", **env}
    return Process(["-m", "tests.bus.toy"], whole, log)
