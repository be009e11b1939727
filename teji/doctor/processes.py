"""Who is at work: each process, the shards it owns, how far behind it is, and when it was heard of last."""

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from bus import lag, lease
from bus.connection import Bus
from schemas import streams

#: Heartbeats come every two seconds.
_SILENT_MS: Final = 7_000


@dataclass(slots=True)
class Process:
    """What Redis knows of one process, as one worker: the gateway is also the keeper of the cold store."""

    worker: str
    instance: str
    host: str
    pid: int
    heartbeat_ms: int  # age of the last one
    gone: bool = False  # it ran on this machine and does not any more
    shards: list[int] = field(default_factory=list)
    lag_ms: int = 0  # age of the oldest entry that it has yet to read
    pending: int = 0  # entries delivered to it and not yet committed

    @property
    def silent(self) -> bool:
        return self.heartbeat_ms > _SILENT_MS

    @property
    def name(self) -> str:
        return f"{self.worker} {self.pid} on {self.host}"


async def look(bus: Bus, owned: Mapping[str, Mapping[int, str]], all_streams: Sequence[str]) -> list[Process]:
    """All that were heard of lately, and have not ended in good order. `owned`: by worker and shard the owner."""
    now_ms = await bus.now_ms()
    found: dict[tuple[str, str], Process] = {}
    for name, details in sorted((await lease.heard_of(bus, now_ms)).items()):
        worker, _, instance = name.partition(":")
        found[worker, instance] = _process(worker, instance, details, now_ms)
    for worker, shards in owned.items():
        for shard, instance in shards.items():
            if process := found.get((worker, instance)):
                process.shards.append(shard)
    await _measure(bus, found, owned, all_streams)
    return [process for process in found.values() if not process.gone or process.shards]


def _process(worker: str, instance: str, details: Mapping[str, Any], now_ms: int) -> Process:
    host = instance.rsplit("-", 2)[0]
    pid = int(details.get("pid", 0))
    age_ms = max(0, now_ms - (details["until"] - lease.HEARTBEAT_LIFE_MS))
    return Process(worker, instance, host, pid, age_ms, gone=host == socket.gethostname() and not _runs(pid))


def _runs(pid: int) -> bool:
    """A zombie has ended too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    return True


async def _measure(
    bus: Bus,
    found: Mapping[tuple[str, str], Process],
    owned: Mapping[str, Mapping[int, str]],
    all_streams: Sequence[str],
) -> None:
    """What a group has yet to read counts for the owner of its shard."""
    reading = []
    for stream in all_streams:
        if await bus.redis.exists(stream):
            reading += [(stream, group["name"].decode()) for group in await bus.redis.xinfo_groups(stream)]
    for (stream, group), (lag_ms, pending) in (await lag.measured(bus, reading)).items():
        worker, _, suffix = group.partition(":")
        own = streams.tag(stream) if "{" in stream else suffix or "0"
        instance = owned.get(worker, {}).get(int(own)) if own.isdigit() else None
        if instance is not None and (process := found.get((worker, instance))):
            process.lag_ms = max(process.lag_ms, lag_ms)
            process.pending += pending


def table(processes: Sequence[Process]) -> Table:
    """A line each, for people."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("worker", "process", "host"):
        view.add_column(column, no_wrap=True)
    view.add_column("shards")
    for column in ("lag s", "pending", "heartbeat"):
        view.add_column(column, justify="right", no_wrap=True)
    for one in processes:
        lag_s, beat = f"{one.lag_ms / 1000:.1f}", f"{one.heartbeat_ms / 1000:.0f} s ago"
        cells = (one.worker, str(one.pid), one.host, ranges(one.shards) or "none", lag_s, str(one.pending), beat)
        view.add_row(*map(Text, cells), style="bold red" if one.silent else "")
    return view


def ranges(numbers: Sequence[int]) -> str:
    """0 1 2 5 as `0-2 5`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return " ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
