"""Real Redis and Postgres for a machine that has neither: binaries from PyPI wheels, data in TEJI_HOME.

Started by the first process that needs them, shared by all, stopped by the last one that leaves. "Who still uses them"
is a shared file lock, which the kernel drops with its holder, so a process that was killed counts as gone. A server
that was left running (everybody was killed) is found and used again by the next start.
"""

import contextlib
import fcntl
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus import embedded_postgres, embedded_redis
from bus.embedded_redis import binary as redis_binary
from bus.settings import Settings
from schemas.errors import Misconfigured

__all__ = ["Servers", "redis_binary", "revive", "servers"]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are. An empty socket: not embedded."""

    redis_url: str
    postgres_url: str
    redis_socket: str = ""

    @property
    def redis_cli(self) -> str:
        """The exact command that looks into this Redis, without its password."""
        if not self.redis_socket:
            return 'redis-cli -u "$REDIS_URL"'
        return shlex.join([str(redis_binary("redis-cli")), "-s", self.redis_socket])


@contextlib.contextmanager
def servers(settings: Settings, *, postgres: bool = True) -> Iterator[Servers]:
    """The servers that the settings name, or the embedded ones, for as long as the context lasts."""
    want_redis, want_postgres = not settings.redis_url, postgres and not settings.postgres_url
    if not (want_redis or want_postgres):
        yield Servers(settings.redis_url, settings.postgres_url)
        return
    home = settings.home
    with contextlib.ExitStack() as leaving:
        with _writable(home):
            leaving.enter_context(_in_use(home))
            with _starting(home):
                started = _start(home, settings, want_redis, want_postgres)
        yield started


def _start(home: Path, settings: Settings, want_redis: bool, want_postgres: bool) -> Servers:
    """Both at once: Redis comes up while Postgres does."""
    socket = ""
    redis_url, postgres_url = settings.redis_url, settings.postgres_url
    with contextlib.ExitStack() as both:
        if want_redis:
            path, wait = embedded_redis.start(home / "redis")
            both.callback(wait)  # also when Postgres fails: only one that is up can be stopped
            socket, redis_url = str(path), _unix_url(path)
        if want_postgres:
            postgres_url = embedded_postgres.start(home / "postgres")
    return Servers(redis_url, postgres_url, socket)


def revive(settings: Settings) -> list[str]:
    """Start those of our embedded servers again that have died. Returns their names.

    For a process that uses both. They come back where they were, with their data. Raises Misconfigured where one does
    not come up; a Postgres waits in vain as long as parts of its former self are still on their way out.
    """
    home = settings.home
    with _starting(home):
        died = []
        if not settings.redis_url and not embedded_redis.listens(home / "redis"):
            _, wait = embedded_redis.start(home / "redis")
            wait()
            died.append("Redis")
        if not settings.postgres_url and not embedded_postgres.listens(home / "postgres"):
            embedded_postgres.start(home / "postgres")
            died.append("Postgres")
    return died


def _unix_url(path: Path) -> str:
    """Only what would end the path of an address is escaped: people read it."""
    return "unix://" + str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")


@contextlib.contextmanager
def _writable(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or home
        raise Misconfigured(
            f"Cannot write to {place} ({error.strerror}): set TEJI_HOME to a folder of yours."
        ) from None


@contextlib.contextmanager
def _in_use(home: Path) -> Iterator[None]:
    """Counts this process as a user; the last one out stops the servers, and whoever comes meanwhile waits for that."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "users.lock", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):  # others still use them
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                embedded_redis.stop(home / "redis")
                embedded_postgres.stop(home / "postgres")


@contextlib.contextmanager
def _starting(home: Path) -> Iterator[None]:
    """One process at a time looks whether a server runs, and starts it."""
    with open(home / "start.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
