"""Real servers that form a Redis Cluster, or stand behind sentinels: started, killed, moved from one to the other."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis import exceptions as redis_errors

from bus.embedded_redis import binary

_SLOTS: Final = 16384
_BUS_PORT: Final = 10_000  # above the port of the clients: Redis 6.2 allows no other
_PORTS_FROM, _PORTS_TO = 12_000, 22_000
_NODE_TIMEOUT_MS: Final = 1000
_given: set[int] = set()  # whoever was given one may not listen there yet


class Node:
    """One server on a free port of this machine."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client: Any = Redis(host="127.0.0.1", port=self.port, decode_responses=True)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", 'save ""', "logfile log.txt", *options]
        config = folder / "redis.conf"
        config.write_text("\n".join(lines) + "\n")
        command = [os.fspath(binary("redis-server")), os.fspath(config), *(["--sentinel"] if sentinel else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def says(self, *words: Any) -> Any:
        return self.client.execute_command(*words)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (redis_errors.ConnectionError, redis_errors.BusyLoadingError):
            return False

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        self.client.close()
        self.kill()


def _until(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for a fact, with a deadline and a name."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """Whose port for the cluster's own talk is free too; both below those that the kernel gives to connections."""
    while True:
        port = random.SystemRandom().randrange(_PORTS_FROM, _PORTS_TO)
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as beside:
            probe.bind(("127.0.0.1", port))
            beside.bind(("127.0.0.1", port + _BUS_PORT))
            if port not in _given:
                _given.add(port)
                return port


@dataclass
class Nodes:
    """The masters of a cluster, each with an even part of the slots, and their replicas."""

    masters: list[Node]
    replicas: list[Node] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)

    @property
    def all(self) -> list[Node]:
        return [*self.masters, *self.replicas]

    def owner(self, slot: int) -> Node:
        return self.masters[slot * len(self.masters) // _SLOTS]

    def together(self) -> None:
        """Make one cluster of them."""
        for number, node in enumerate(self.masters):
            count = len(self.masters)
            node.says("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            mine = [slot for slot in range(_SLOTS) if slot * count // _SLOTS == number]
            node.says("CLUSTER", "ADDSLOTS", *mine)
        for node in self.all[1:]:
            node.says("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port)
        _until(self._know_each_other, "the nodes know each other", 30)
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.says("CLUSTER", "REPLICATE", master.says("CLUSTER", "MYID"))
        _until(self._ok, "every node finds the cluster whole", 30)

    def _know_each_other(self) -> bool:
        told = [node.client.execute_command("CLUSTER INFO") for node in self.all]
        return all(int(dict(info)["cluster_known_nodes"]) == len(self.all) for info in told)

    def _ok(self) -> bool:
        told = [node.client.execute_command("CLUSTER INFO") for node in self.all]
        synced = [node.client.info("replication") for node in self.replicas]
        return all(dict(info)["cluster_state"] == "ok" for info in told) and all(
            info["role"] == "slave" and info["master_link_status"] == "up" for info in synced
        )

    def begin_moving(self, slot: int, to: Node) -> None:
        """From now on the slot's keys move one by one: `from` asks to ask `to` for those it does not have."""
        source = self.owner(slot)
        to.says("CLUSTER", "SETSLOT", slot, "IMPORTING", source.says("CLUSTER", "MYID"))
        source.says("CLUSTER", "SETSLOT", slot, "MIGRATING", to.says("CLUSTER", "MYID"))

    def move_keys(self, slot: int, to: Node) -> None:
        source = self.owner(slot)
        keys = source.says("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            source.says("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)

    def end_moving(self, slot: int, to: Node) -> None:
        for node in self.masters:
            node.says("CLUSTER", "SETSLOT", slot, "NODE", to.says("CLUSTER", "MYID"))


@contextlib.contextmanager
def cluster(folder: Path, masters: int = 3, replicas: int = 0) -> Iterator[Nodes]:
    options: tuple[str, ...] = (
        "cluster-enabled yes",
        "cluster-config-file nodes.conf",
        f"cluster-node-timeout {_NODE_TIMEOUT_MS}",
    )
    options += (
        "cluster-replica-validity-factor 0",
        "repl-diskless-sync-delay 0",
        f"cluster-node-timeout {_NODE_TIMEOUT_MS}",
    )
    nodes = [Node(folder / f"node-{number}", *options) for number in range(masters + replicas)]
    with _ended(nodes):
        formed = Nodes(nodes[:masters], nodes[masters:])
        formed.together()
        yield formed


@contextlib.contextmanager
def _ended(nodes: Sequence[Node]) -> Iterator[None]:
    try:
        for node in nodes:
            _until(node.answers, "a node answers", 20)
        yield
    finally:
        for node in nodes:
            node.end()


@dataclass
class Watched:
    """A server, its replica, and the sentinels that will make the one the other."""

    master: Node
    replica: Node
    sentinels: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{hosts}/teji"


@contextlib.contextmanager
def sentinels(folder: Path) -> Iterator[Watched]:
    master = Node(folder / "master")
    replica = Node(folder / "replica", f"replicaof 127.0.0.1 {master.port}")
    watch = (
        f"sentinel monitor teji 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds teji 500",
        "sentinel failover-timeout teji 2000",
    )
    sentinel = Node(folder / "sentinel", *watch, sentinel=True)
    with _ended([master, replica, sentinel]):

        def known() -> bool:
            return bool(sentinel.client.execute_command("SENTINEL", "REPLICAS", "teji"))

        _until(known, "the sentinel knows the replica", 30)
        yield Watched(master, replica, [sentinel])
