"""What runs in a TEJI_HOME: one supervisor at a time, of one venue, and how others find it.

`up.json` says what `teji up` has started. The supervisor holds a lock on it; the kernel drops the lock with its holder,
so what a killed supervisor left behind is not believed.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from bus.settings import Venue
from schemas.errors import Misconfigured

_TRIES: Final = 10  # a reader holds the lock for an instant
_BETWEEN_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """What a supervisor tells the other commands."""

    pid: int
    venue: str
    mode: str
    url: str  # of the gateway
    sim_url: str  # empty: not the simulated exchange


class Claim:
    """A supervisor's hold on a TEJI_HOME."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle

    def tell(self, running: Running) -> None:
        self.clear()
        json.dump(asdict(running), self._handle)
        self._handle.flush()

    def clear(self) -> None:
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.flush()


@contextlib.contextmanager
def claimed(home: Path, venue: Venue) -> Iterator[Claim]:
    """Be the supervisor of this folder, or say in one sentence why not."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = open(home / "up.json", "a+", encoding="utf-8")  # noqa: SIM115 - held for the whole context
    except OSError as error:
        raise Misconfigured(f"Cannot write to {home} ({error.strerror}): set TEJI_HOME to a folder of yours.") from None
    with handle:
        if not _locked(handle):
            other = _read(home)
            where = f" (process {other['pid']}, {other['url']})" if other else ""
            raise Misconfigured(
                f"`teji up` runs in {home} already{where}: stop it, or set TEJI_HOME to another folder."
            )
        _keep_venues_apart(home, venue)
        claim = Claim(handle)
        claim.clear()
        try:
            yield claim
        finally:
            claim.clear()


def _locked(handle: IO[str]) -> bool:
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_BETWEEN_S)
    return False


def _keep_venues_apart(home: Path, venue: Venue) -> None:
    """Made-up prices must never stand beside real ones in the same database."""
    mark = home / "venue"
    if not mark.exists():
        mark.write_text(venue.value)
    elif (kept := mark.read_text().strip()) != venue.value:
        raise Misconfigured(
            f"{home} holds the data of venue {kept}: give {venue.value} a folder of its own, "
            f"TEJI_HOME={home.with_name(home.name + '-' + venue.value)}."
        )


def found(home: Path) -> Running | None:
    """The supervisor that runs here."""
    try:
        handle = open(home / "up.json", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError:
        return None
    with handle, contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    told = _read(home)
    return Running(**told) if told else None


def _read(home: Path) -> dict[str, Any]:
    """Empty while the supervisor is still starting."""
    with contextlib.suppress(json.JSONDecodeError, OSError):
        told = json.loads((home / "up.json").read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    return {}
