"""The real workers as processes, on an embedded Redis of their own, in front of `bench.venue`."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import embedded
from bus.settings import load

ROOT: Final = Path(__file__).parent.parent
_START_S: Final = 60.0


@dataclass
class Stack:
    redis_url: str
    ports: dict[str, int]

    def metric(self, worker: str, name: str) -> float:
        """Sum of a metric over its labels."""
        url = f"http://127.0.0.1:{self.ports[worker]}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = [line.rsplit(" ", 1)[1] for line in lines if re.match(rf"{name}[ {{]", line)]
        return sum(map(float, found))

    def wait(self, worker: str, name: str, at_least: float) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.metric(worker, name) >= at_least:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"{worker} does not reach {name} {at_least}")


@contextlib.contextmanager
def stack(
    n_keys: int,
    keys_per_frame: int,
    frames_per_s: float,
    *workers: str,
    env: Mapping[str, str] | None = None,
    front: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Iterator[Stack]:
    """Everything up for as long as the context lasts; the workers' logs are shown where one fails. `env`: settings.
    `front`: another venue than `venue`, at a port."""
    with tempfile.TemporaryDirectory(prefix="teji-bench-") as folder, contextlib.ExitStack() as cleanup:
        settings = load(_env_file=None, teji_home=Path(folder) / "home")
        servers = cleanup.enter_context(embedded.servers(settings, postgres=not {"gateway", "gtt"}.isdisjoint(workers)))
        port = free_pair()
        ports = {worker: free_port() for worker in workers}
        of_all = {
            **os.environ, "REDIS_URL": servers.redis_url, "DATABASE_URL": servers.postgres_url,
            "TEJI_HOME": str(settings.home), "UPSTOX_API_URL": f"http://127.0.0.1:{port}",
            "UPSTOX_ASSETS_URL": f"http://127.0.0.1:{port}", "UPSTOX_ORDER_URL": f"http://127.0.0.1:{port}",
            "UPSTOX_ACCESS_TOKEN": "bench", "TEJI_CALENDAR": "always",
            "TEJI_BACKFILL": "false", "TEJI_LOG": "json", "TEJI_LOG_LEVEL": "WARNING", "TEJI_PORT": str(free_port()),
            **(env or {}),
        }  # fmt: skip
        ports |= {"http": int(of_all["TEJI_PORT"]), "venue": port}
        cleanup.enter_context(front(port) if front else venue(port, n_keys, keys_per_frame, frames_per_s))
        for worker in workers:
            cleanup.enter_context(_process([worker], {**of_all, "TEJI_METRICS_PORT": str(ports[worker])}))
        yield Stack(servers.redis_url, ports)


def venue(port: int, n_keys: int, keys_per_frame: int, frames_per_s: float = 0) -> AbstractContextManager[None]:
    """The venue of `bench.venue`, and its feed at the next port, once it listens."""
    return _listening("bench.venue", port, n_keys, keys_per_frame, frames_per_s)


def order_venue(
    port: int, n_keys: int, keys_per_frame: int, frames_per_s: float, rungs_per_s: float
) -> AbstractContextManager[None]:
    """The same for `bench.order_venue`."""
    return _listening("bench.order_venue", port, n_keys, keys_per_frame, frames_per_s, rungs_per_s)


@contextlib.contextmanager
def _listening(module: str, port: int, *numbers: float) -> Iterator[None]:
    with _process([module, str(port), *map(str, numbers)], dict(os.environ)):
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port + 1), 1):
                break
            time.sleep(0.05)
        yield


@contextlib.contextmanager
def _process(module: list[str], env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", *module], env=env, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_pair() -> int:
    """A port whose successor is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port + 1))
            return port
