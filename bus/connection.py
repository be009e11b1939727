"""A connection to Redis: opened, checked, its errors turned into ours."""

import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import LeaseLost, Misconfigured, Unavailable

OLDEST: Final = (6, 2)
_TIMEOUT_S: Final = 10.0

#: What a connection that is going away or coming up answers with; worth waiting for.
_TRANSIENT: Final = ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MISCONF")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Redis's errors become Unavailable (wait and retry) or LeaseLost; anything else is a bug and stays."""
    try:
        yield
    except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from error
    except redis_errors.ResponseError as error:
        text = str(error)
        if "FENCED" in text:
            raise LeaseLost(text) from None
        if text.startswith(_TRANSIENT):
            raise Unavailable(f"Redis is not ready: {text}") from error
        raise


@cache
def _lua(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()


class Bus:
    """An open Redis connection pool, and the name this process goes by.

    Nothing here retries a write: a reply that got lost leaves open whether it happened, and the owner of the state
    decides by reading it back.
    """

    def __init__(self, redis: Redis, instance: str) -> None:
        self.redis: Any = redis  # its annotations say `str | bytes` and worse at every turn
        self.instance = instance
        self._scripts: dict[str, Any] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, instance: str | None = None) -> AsyncIterator["Bus"]:
        redis = connect(url)
        try:
            yield cls(redis, instance or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
        finally:
            await redis.aclose()

    async def check(self) -> str:
        """Redis's version. Raises Unavailable, or Misconfigured where it is too old for us."""
        with translated():
            try:
                info = await self.redis.info("server")
            except (redis_errors.AuthenticationError, redis_errors.NoPermissionError) as error:
                raise Misconfigured(f"Redis refuses the credentials in REDIS_URL: {error}") from None
        version = str(info["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise Misconfigured(f"Redis {version} is too old: 6.2 or newer is needed. Set REDIS_URL to a newer one.")
        return version

    async def get(self, key: str) -> bytes | None:
        with translated():
            value: bytes | None = await self.redis.get(key)
        return value

    async def last_entry(self, stream: str) -> tuple[str, dict[bytes, bytes]] | None:
        """Id and fields of a stream's newest entry."""
        with translated():
            entries = await self.redis.xrevrange(stream, count=1)
        return (entries[0][0].decode(), entries[0][1]) if entries else None

    async def now_ms(self) -> int:
        """The time by the server's clock, which stamps all stream entries."""
        with translated():
            seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def script(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Run one of our Lua scripts, by hash, loading it where the server does not know it (any more)."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.redis.register_script(_lua(name))
        with translated():
            return await script(keys=keys, args=args)


def connect(url: str) -> Redis:
    try:
        client = Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            health_check_interval=0,
        )
    except ValueError as error:
        raise Misconfigured(f"REDIS_URL is not a Redis address: {error}") from None
    return client
