"""A connection to Redis: opened, checked, its errors turned into ours."""

import contextlib
import os
import re
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from redis import exceptions as redis_errors
from redis.asyncio import Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from bus import cluster
from bus.wire import Word, checked, exchange, pairs, translated
from schemas.errors import Misconfigured, Unavailable

__all__ = ["Bus", "Word", "connect", "pairs", "translated"]

OLDEST: Final = (6, 2)
_TIMEOUT_S: Final = 10.0
_SEND_BYTES: Final = 2 * 1024 * 1024  # the kernel may give less
_REFUSED: Final = "Redis refuses the credentials in REDIS_URL: {}"
_NO_REDIS: Final = "What answers at REDIS_URL is not Redis: set it to the address of one."


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
        self.cluster: cluster.Cluster | None = redis.routes if isinstance(redis, cluster.Routed) else None
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
        info = await self._about()
        try:
            version = str(info["redis_version"])
        except KeyError:
            raise Misconfigured(_NO_REDIS) from None
        if self.cluster is None and info.get("redis_mode") == "cluster":
            raise Misconfigured("REDIS_URL is a node of a Redis Cluster: write it as redis+cluster://host:port.")
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
            raise Misconfigured(f"Redis {version} is too old: 6.2 or newer is needed. Set REDIS_URL to a newer one.")
        return version

    async def _about(self) -> dict[str, Any]:
        try:
            with translated():
                try:
                    return dict(await self.redis.info("server"))
                except (redis_errors.AuthenticationError, redis_errors.NoPermissionError) as error:
                    raise Misconfigured(_REFUSED.format(error)) from None
                except redis_errors.InvalidResponse:
                    raise Misconfigured(_NO_REDIS) from None
        except Unavailable as error:
            if isinstance(error.__cause__, redis_errors.AuthenticationError):  # the cluster's map asked for a login
                raise Misconfigured(_REFUSED.format(error.__cause__)) from None
            if isinstance(error.__cause__, redis_errors.InvalidResponse):
                raise Misconfigured(_NO_REDIS) from None
            raise

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

        On a cluster that is true for those whose keys share a slot. The first error among the replies is raised.
        """
        if self.cluster is not None:
            return await self.cluster.packet(commands)
        return checked(await exchange(self.redis.connection_pool, commands))

    async def everywhere(self, *command: Word) -> dict[str, Any]:
        """The reply of each node of a cluster by its address, or of the one server there is."""
        if self.cluster is not None:
            return await self.cluster.everywhere(command)
        (reply,) = await self.packet(command)
        return {"": reply}

    async def told(self, section: str) -> dict[str, dict[str, str]]:
        """A section of INFO, of each node."""
        replies = await self.everywhere("INFO", section)
        lines = {node: [line.partition(":") for line in text.decode().split()] for node, text in replies.items()}
        return {node: {name: value for name, colon, value in found if colon} for node, found in lines.items()}

    def apart(self, keys: Sequence[str]) -> list[list[str]]:
        """Keys that one command, one script may name together: all of them; on a cluster those of the same slot."""
        if self.cluster is None:
            return [list(keys)] if keys else []
        found: dict[int, list[str]] = {}
        for key in keys:
            found.setdefault(cluster.slot_of(key), []).append(key)
        return list(found.values())

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """Run one of our Lua scripts: by hash, or in full where the server does not know it (any more)."""
        text, digest = _lua(name)
        words = (len(keys), *keys, *args)
        try:
            (reply,) = await self.packet(("EVALSHA", digest, *words))
        except redis_errors.NoScriptError:  # then nothing has happened
            (reply,) = await self.packet(("EVAL", text, *words))
        return reply


def connect(url: str) -> Redis:
    """A client for an address: of one server, of a cluster's nodes, or of sentinels that know where the server is."""
    try:
        if cluster.named_by(url):
            return _clustered(url)
        return _sentinel(url) if _SENTINEL.match(url) else _single(url)
    except (ValueError, TypeError):  # its text may quote a part of the password
        raise Misconfigured(
            "REDIS_URL is not a Redis address, which looks like redis://user:password@host:6379/0 (rediss:// with TLS),"
            " redis+cluster://host:6379,host:6379 or redis+sentinel://host:26379,host:26379/service."
        ) from None


_SENTINEL: Final = re.compile(r"rediss?\+sentinel://")
_OPTIONS: Final[dict[str, Any]] = {
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": _TIMEOUT_S,
    "socket_connect_timeout": _TIMEOUT_S,
    "health_check_interval": 0,
}


def _single(url: str) -> Redis:
    redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_OPTIONS)
    if redis.connection_pool.connection_class is UnixDomainSocketConnection:
        redis.connection_pool.connection_class = _Unix
    return redis


class _Unix(UnixDomainSocketConnection):
    """A write of a megabyte leaves at once. Otherwise it would take as many turns of the loop as it has parts, and what
    else happens in them would hold it up. (TCP makes room by itself.)"""

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        line = self._writer.get_extra_info("socket") if self._writer is not None else None
        if line is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)


def _clustered(url: str) -> Redis:
    parts = urlsplit(url)
    if parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has database 0 only")
    seeds = cluster.addresses(parts)

    def pool_of(node: cluster.Address) -> Any:
        return _single(_url_of(parts, node)).connection_pool

    return cluster.Routed(cluster.Cluster(seeds, pool_of), pool_of(seeds[0]))


def _sentinel(url: str) -> Redis:
    """The login and TLS are those of the server; the sentinels are asked with the same."""
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the path has to name the service")
    nodes = cluster.addresses(parts)
    given = _single(_url_of(parts, nodes[0])).connection_pool.connection_kwargs
    options = {name: value for name, value in given.items() if name not in _NOT_OF_A_SERVER}
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    sentinel: Any = Sentinel(nodes, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    master: _Watched = sentinel.master_for(service, _Watched, db=int(database or 0), **options)
    master.watchers = sentinel.sentinels
    return master


class _Watched(Redis):
    """A server whose place sentinels know; their connections are closed with its own."""

    watchers: Sequence[Redis] = ()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for watcher in self.watchers:
            await watcher.aclose()


#: What the library keeps among a connection's options: where it goes, and its own book-keeping.
_NOT_OF_A_SERVER: Final = frozenset({"host", "port", "db", "himport_registry"})


def _url_of(parts: SplitResult, node: cluster.Address) -> str:
    """One node's own address, with the login and the options of all."""
    host, port = node
    login, at, _ = parts.netloc.rpartition("@")
    scheme = parts.scheme.partition("+")[0]
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{login}{at}{f'[{host}]' if ':' in host else host}:{port}/0{query}"
