"""On a Redis Cluster: the part of a commit whose streams are not in the slot of the fold's state.

No transaction spans two slots. So these entries (signals, orders, events) are written first, then state and positions
at once. A fold that crashed in between does them again; `outside.lua` recognises what it has written and leaves it out.
That holds for entries that come again byte for byte, as those of a fold do. One that carries the time of its writing
comes again as another: at least once, then.

Each entry also has a field `id`, its own or a digest of what it says, by which a reader can tell a repetition that
nobody could prevent: a node that failed over may have lost the note that an entry was written, and not the entry.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from bus.connection import Bus, Word
from schemas import streams

if TYPE_CHECKING:
    from bus.inbox import Output
    from bus.lease import Lease


class Outside:
    """What one writer, under one lease, writes beyond the slot of its state."""

    def __init__(self, bus: Bus, lease: "Lease") -> None:
        self._bus = bus
        self._lease = lease
        self._name = uuid.uuid4().hex[:8]
        self._settled = False  # the commit behind our last entries has happened

    async def write(self, outputs: Sequence["Output"]) -> list[str]:
        """Append; returns the ids in the order of the outputs. Raises LeaseLost where a newer owner has written."""
        fresh = b"01"[self._settled : self._settled + 1]
        self._settled = False
        ids: dict[int, str] = {}
        for part in self._bus.apart(list(dict.fromkeys(output.stream for output in outputs))):
            places = [at for at, output in enumerate(outputs) if output.stream in part]
            notes = streams.outside(part[0], self._lease.worker, self._lease.shard)
            plan, values = _planned([outputs[at] for at in places], part)
            head = (self._lease.token, self._name, fresh, orjson.dumps(plan))
            reply = await self._bus.script("outside", [notes, *part], [*head, *values])
            ids |= {at: entry_id.decode() for at, entry_id in zip(places, reply, strict=True)}
        return [ids[at] for at in range(len(outputs))]

    def settle(self) -> None:
        """The state is committed too."""
        self._settled = True


def _planned(outputs: Sequence["Output"], part: Sequence[str]) -> tuple[list[tuple[int, int, str]], list[Word]]:
    plan: list[tuple[int, int, str]] = []
    values: list[Word] = []
    for output in outputs:
        digest = digest_of(output.stream, output.fields)
        flat = list(_flat(output.fields))
        if "id" not in output.fields and b"id" not in output.fields:
            flat += ("id", digest)
        plan.append((part.index(output.stream) + 1, len(flat), digest))
        values += flat
    return plan, values


def digest_of(stream: str, fields: Mapping[Any, Word]) -> str:
    """The same for the same entry, whoever makes it and whenever."""
    hashed = hashlib.blake2b(stream.encode(), digest_size=12)
    for word in _flat(fields):
        part = word if isinstance(word, bytes) else str(word).encode()
        hashed.update(b"%d:%b" % (len(part), part))
    return hashed.hexdigest()


def _flat(fields: Mapping[Any, Word]) -> Iterator[Word]:
    for pair in fields.items():
        yield from pair
