"""A Redis that crashed has lost its ticks: they are in no append-only file. It gets back what we remember.

The other keys tell what was there: the newest id that a publication ever got. Where that is gone, everything after the
newest entry that Redis still has is. What we remember of it is put back under its old ids, so that a reader goes on
where it was and never learns of the crash; what nobody remembers is marked as trimmed, which every reader notices.
"""

from collections.abc import Iterator
from typing import Final

import structlog

from bus import clock
from bus.connection import Bus
from bus.inbox import Output, Writer, order
from ingest.outbox import Outbox
from schemas import streams

log = structlog.get_logger("ingest")

_ORIGIN: Final = "0-0"
_ENTRIES_PER_WRITE: Final = 16  # of up to half a megabyte each


async def mend(bus: Bus, writer: Writer, box: Outbox, stream: str, newest: str) -> bool:
    """Whether the stream had lost something. Before anything new is written to it."""
    found, last, mark = await bus.packet(
        ("XRANGE", stream, newest, newest),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("GET", streams.trimmed(stream)),
    )
    if found or order(newest) <= order((mark or b"0-0").decode()):
        return False
    left = last[0][0].decode() if last else _ORIGIN
    back = box.remembered(stream, after=left)
    gone = box.forgotten if back else newest
    if not back or order(gone) > order(left):
        ms, number = order(gone)
        await bus.packet(("SET", streams.trimmed(stream), gone), ("XTRIM", stream, "MINID", f"{ms}-{number + 1}"))
    for part in _parts(back):
        await writer.write(part, now_s=clock.monotonic_s())
    log.warning("Redis had lost ticks", stream=stream, put_back=len(back), lost_up_to=gone)
    return True


def _parts(outputs: list[Output]) -> Iterator[list[Output]]:
    for start in range(0, len(outputs), _ENTRIES_PER_WRITE):
        yield outputs[start : start + _ENTRIES_PER_WRITE]
