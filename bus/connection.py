"""A connection to Redis: opened, checked, its errors turned into ours."""

import asyncio
import contextlib
import os
import re
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, cast

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import LeaseLost, Misconfigured, Unavailable

OLDEST: Final = (6, 2)
_TIMEOUT_S: Final = 10.0
_LARGE_BYTES: Final = 2_000

Word = bytes | str | int | float

#: Answers of a server that is coming up, going away, full or busy: worth waiting for. Redis 6.2 quotes the answer to a
#: command inside a script in the middle of the script's own ("… @user_script: 43: -OOM command not allowed …").
_TRANSIENT: Final = re.compile(
    r"(?:^|-)(?:LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|READONLY|MISCONF|OOM|NOREPLICAS|UNBLOCKED)\b"
)
#: Of those, the ones that the library has recognised, and whose first word it has taken away.
_TRANSIENT_TYPES: Final = (
    redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError,
    redis_errors.TryAgainError,
    redis_errors.ClusterDownError,
)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Redis's errors become Unavailable (wait and retry) or LeaseLost; anything else is a bug and stays."""
    try:
        yield
    except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from error
    except redis_errors.ResponseError as error:
        text = str(error)
        if text.startswith("FENCED"):
            raise LeaseLost(text.removeprefix("FENCED ")) from None
        if isinstance(error, _TRANSIENT_TYPES) or _TRANSIENT.search(text):
            raise Unavailable(f"Redis is not ready: {text}") from error
        if "NOGROUP" in text:
            raise Unavailable("the consumer group is gone (was Redis flushed?): start over") from None
        raise


@cache
def _lua(name: str) -> tuple[str, str]:
    """The text of one of our scripts, and its hash."""
    text = Path(__file__).with_name(f"{name}.lua").read_text()
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class Bus:
    """An open Redis connection pool, and the name this process goes by.

    Nothing here retries a write: a reply that got lost leaves open whether it happened, and the owner of the state
    decides by reading it back.
    """

    def __init__(self, redis: Redis, instance: str) -> None:
        self.redis: Any = redis  # its annotations say `str | bytes` and worse at every turn
        self.instance = instance
        self.reading: set[tuple[str, str]] = set()  # (stream, group) of each open inbox, for the metrics

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, instance: str | None = None) -> AsyncIterator["Bus"]:
        redis = connect(url)
        try:
            yield cls(redis, instance or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
        finally:
            await redis.aclose()

    async def check(self) -> str:
        """Redis's version. Raises Unavailable, or Misconfigured where it is too old for us or no Redis at all."""
        with translated():
            try:
                info = await self.redis.info("server")
                version = str(info["redis_version"])
            except (redis_errors.AuthenticationError, redis_errors.NoPermissionError) as error:
                raise Misconfigured(f"Redis refuses the credentials in REDIS_URL: {error}") from None
            except (redis_errors.InvalidResponse, KeyError):
                raise Misconfigured("What answers at REDIS_URL is not Redis: set it to the address of one.") from None
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
            raise Misconfigured(f"Redis {version} is too old: 6.2 or newer is needed. Set REDIS_URL to a newer one.")
        return version

    async def get(self, key: str) -> bytes | None:
        value: bytes | None
        (value,) = await self.packet(("GET", key))
        return value

    async def last_entry(self, stream: str) -> tuple[str, dict[bytes, bytes]] | None:
        """Id and fields of a stream's newest entry."""
        (entries,) = await self.packet(("XREVRANGE", stream, "+", "-", "COUNT", 1))
        return (entries[0][0].decode(), pairs(entries[0][1])) if entries else None

    async def now_ms(self) -> int:
        """The time by the server's clock, which stamps all stream entries."""
        ((seconds, micros),) = await self.packet(("TIME",))
        return int(seconds) * 1000 + int(micros) // 1000

    async def packet(self, *commands: Sequence[Word]) -> list[Any]:
        """Send commands in one packet, which the server runs in one go; their replies as they came over the wire.

        The short way past the library's own: that one encodes word by word in Python, which takes longer than all
        else in a commit of a hundred entries. The first error among the replies is raised.
        """
        packed = [chunk for command in commands for chunk in _packed(command)]
        pool = self.redis.connection_pool
        replies: list[Any] = []
        cancellations = _cancellations()
        with translated():
            connection = await pool.get_connection()
            try:
                await connection.send_packed_command(packed)
                if _cancellations() > cancellations:  # swallowed on the way here
                    raise asyncio.CancelledError
                for _ in commands:
                    try:
                        replies.append(await connection.read_response())
                    except redis_errors.ResponseError as error:
                        replies.append(error)
            except BaseException:
                await connection.disconnect(nowait=True)  # replies to these commands may still be on their way
                raise
            finally:
                await pool.release(connection)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """Run one of our Lua scripts: by hash, or in full where the server does not know it (any more)."""
        text, digest = _lua(name)
        words = (len(keys), *keys, *args)
        try:
            (reply,) = await self.packet(("EVALSHA", digest, *words))
        except redis_errors.NoScriptError:  # then nothing has happened
            (reply,) = await self.packet(("EVAL", text, *words))
        return reply


def _packed(words: Sequence[Word]) -> list[bytes]:
    """A command as it goes over the wire. hiredis does small words well and copies large ones again and again."""
    large = [at for at, word in enumerate(words) if type(word) is bytes and len(word) > _LARGE_BYTES]
    if not large:
        return [_packed_small(words)]
    chunks = [b"*%d\r\n" % len(words)]
    done = 0
    for at in large:
        word = cast(bytes, words[at])
        chunks += (_without_count(_packed_small(words[done:at])), b"$%d\r\n" % len(word), word, b"\r\n")
        done = at + 1
    chunks.append(_without_count(_packed_small(words[done:])))
    return chunks


def _packed_small(words: Sequence[Word]) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, tuple(words))))


def _without_count(packed: bytes) -> bytes:
    return packed[packed.index(b"\n") + 1 :]


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values, which Redis sends in turn."""
    each: Iterator[bytes] = iter(flat)
    return dict(zip(each, each, strict=True))


def _cancellations() -> int:
    """How often this task was asked to end. Before Python 3.12 `asyncio.wait_for`, with which the library connects and
    sends, could swallow that; but what is cancelled must not go on to wait for entries, and take them with it."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def connect(url: str) -> Redis:
    try:
        return Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            health_check_interval=0,
        )
    except (ValueError, TypeError):  # its text may quote a part of the password
        raise Misconfigured(
            "REDIS_URL is not a Redis address, which looks like redis://user:password@host:6379/0 (rediss:// with TLS)."
        ) from None
