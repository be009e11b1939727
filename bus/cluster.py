"""A Redis Cluster: each command goes to the node that serves its key's slot.

The map of slots comes from the nodes themselves (CLUSTER SLOTS). It is asked for again whenever a node says that a
slot has moved, or does not answer. Redirected commands were not executed, so they are sent again; whatever else goes
wrong is the caller's to judge, as with a single server: nothing here repeats a write whose fate is unknown.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis
from redis.crc import key_slot

from bus.wire import Word, checked, exchange
from schemas.errors import Misconfigured, Unavailable

Address = tuple[str, int]
Command = Sequence[Word]

_REDIRECTS_MAX: Final = 5
_PORT: Final = 6379
#: Commands that name a key, and which of their words it is. What is not here has it behind its name.
_KEY_AT: Final = {"XGROUP": 2, "XINFO": 2, "MEMORY": 2, "OBJECT": 2}
_KEYLESS: Final = frozenset(
    ("ACL", "ASKING", "CLIENT", "CLUSTER", "CONFIG", "DBSIZE", "FLUSHALL", "INFO", "PING", "SCRIPT", "TIME")
)


def slot_of(key: Word) -> int:
    """The slot of a key: of what stands in its first braces, or else of all of it."""
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))


def key_of(command: Command) -> Word | None:
    """The key that decides where a command goes; None for one that any node can answer."""
    name = str(command[0]).upper()
    if name in _KEYLESS:
        return None
    if name in ("EVAL", "EVALSHA"):
        return command[3] if int(command[2]) else None
    if name in ("XREAD", "XREADGROUP"):
        return command[list(command).index("STREAMS") + 1]
    return command[_KEY_AT.get(name, 1)]


def addresses(url: SplitResult) -> list[Address]:
    """The nodes that an address names, host:port,host:port."""
    hosts = url.netloc.rpartition("@")[2].split(",")
    parts = [urlsplit(f"//{host}") for host in hosts]
    return [(part.hostname or "127.0.0.1", part.port or _PORT) for part in parts]


class Cluster:
    """Which node serves which slot, and a pool of connections to each."""

    def __init__(self, seeds: Sequence[Address], pool_of: Callable[[Address], ConnectionPool]) -> None:
        self._seeds = list(seeds)
        self._pool_of = pool_of
        self._pools: dict[Address, ConnectionPool] = {}
        self._nodes: list[Address] = []  # those that serve slots
        self._node_of: dict[int, Address] = {}  # by slot
        self._stale = True  # the map has to be asked for again before it is used
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.disconnect()

    async def packet(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands, which may go to several nodes. Those for one node leave in one packet."""
        slots = [None if (key := key_of(command)) is None else slot_of(key) for command in commands]
        replies: list[Any] = [None] * len(commands)
        to_do = [(at, await self._node(slot), False) for at, slot in enumerate(slots)]
        for _ in range(_REDIRECTS_MAX):
            await self._send(commands, to_do, replies)
            to_do = [redirected for at, node, _ in to_do if (redirected := self._redirected(at, node, replies[at]))]
            if not to_do:
                return checked(replies)
        raise Unavailable("the cluster's nodes send us from one to the other: its slots are being moved")

    async def everywhere(self, command: Command) -> dict[str, Any]:
        """Each serving node's reply to a command, by its address."""
        await self._node(None)
        replies = [checked(await self._exchange(node, [command]))[0] for node in self._nodes]
        return dict(zip((f"{host}:{port}" for host, port in self._nodes), replies, strict=True))

    async def _send(
        self, commands: Sequence[Command], to_do: list[tuple[int, Address, bool]], replies: list[Any]
    ) -> None:
        by_node: dict[Address, list[tuple[int, bool]]] = {}
        for at, node, asking in to_do:
            by_node.setdefault(node, []).append((at, asking))
        if len(by_node) == 1:
            ((node, part),) = by_node.items()
            await self._send_part(node, commands, part, replies)
            return
        parts = [self._send_part(node, commands, part, replies) for node, part in by_node.items()]
        ended = await asyncio.gather(*parts, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _send_part(
        self, node: Address, commands: Sequence[Command], part: list[tuple[int, bool]], replies: list[Any]
    ) -> None:
        """ASKING goes before a command that a node serves only on request, while its slot is on its way there."""
        packet: list[Command] = []
        places: list[int] = []
        for at, asking in part:
            if asking:
                packet.append(("ASKING",))
            places.append(len(packet))
            packet.append(commands[at])
        answers = await self._exchange(node, packet)
        for (at, _), place in zip(part, places, strict=True):
            replies[at] = answers[place]

    async def _exchange(self, node: Address, commands: Sequence[Command]) -> list[Any]:
        pool = self._pools.get(node)
        if pool is None:
            pool = self._pools[node] = self._pool_of(node)
        try:
            return await exchange(pool, commands)
        except Unavailable as error:
            self._stale = True  # its replica may have taken over
            raise Unavailable(f"node {node[0]}:{node[1]}: {error}") from error.__cause__

    def _redirected(self, at: int, node: Address, reply: Any) -> tuple[int, Address, bool] | None:
        """Where a command has to go instead, and whether only on request."""
        if isinstance(reply, redis_errors.AskError):  # MovedError is one of those
            moved = isinstance(reply, redis_errors.MovedError)
            there = (reply.host or node[0], reply.port)
            if moved:
                self._node_of[reply.slot_id] = there
                self._stale = True
            return at, there, not moved
        if isinstance(reply, redis_errors.ClusterDownError | redis_errors.ReadOnlyError):
            self._stale = True
        return None

    # The map

    async def _node(self, slot: int | None) -> Address:
        """The node of a slot; for None any one."""
        if self._stale:
            async with self._asking:
                if self._stale:
                    await self._refresh()
        if slot is None:
            return self._nodes[0]
        node = self._node_of.get(slot)
        if node is None:
            self._stale = True
            raise Unavailable(f"no node of the cluster serves slot {slot}")
        return node

    async def _refresh(self) -> None:
        """Ask one node after the other, those that the address names last: they may be long gone."""
        why: Unavailable | None = None
        for node in dict.fromkeys([*self._nodes, *self._seeds]):
            try:
                (reply,) = await self._exchange(node, [("CLUSTER", "SLOTS")])
            except Unavailable as error:
                why = error
                continue
            if isinstance(reply, redis_errors.ResponseError):
                _refuse(reply)
            if reply:
                await self._learn(node, reply)
                return
            why = Unavailable("the cluster has no slots assigned yet")
        # Next time begin with another one: a node that does not answer takes its timeout.
        self._nodes = self._nodes[1:] + self._nodes[:1]
        raise why or Unavailable("no node of the cluster answers")

    async def _learn(self, asked: Address, ranges: Sequence[Any]) -> None:
        """Each range is first slot, last slot, master, replicas...; a node without a host is the one we asked."""
        found: dict[int, Address] = {}
        for first, last, (host, port, *_), *_replicas in ranges:
            node = (host.decode() if host else asked[0], int(port))
            found |= dict.fromkeys(range(first, last + 1), node)
        self._node_of = found
        self._nodes = [*dict.fromkeys(found.values())]
        self._stale = False
        for gone in self._pools.keys() - set(self._nodes) - set(self._seeds):
            await self._pools.pop(gone).disconnect(inuse_connections=False)


def _refuse(error: redis_errors.ResponseError) -> None:
    if "cluster support disabled" in str(error):
        raise Misconfigured(
            "REDIS_URL names a cluster (redis+cluster://), but a single server answers there: write it as redis://."
        )
    checked([error])


class Routed(Redis):
    """The library's commands over a cluster, one key each. Pipelines are `Bus.packet`."""

    def __init__(self, cluster: Cluster, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self.routes = cluster

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self.routes.packet([(*str(args[0]).split(), *args[1:])])
        callbacks: Any = self.response_callbacks
        options.pop("keys", None)
        return callbacks[args[0]](reply, **options) if args[0] in callbacks else reply

    def pipeline(self, *_args: Any, **_options: Any) -> Any:
        raise TypeError("A pipeline of the library knows one node only: use Bus.packet.")

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.routes.close()
        await super().aclose(close_connection_pool)


def named_by(url: str) -> bool:
    return re.match(r"rediss?\+cluster://", url) is not None
