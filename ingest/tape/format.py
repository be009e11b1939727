"""What is in the files of a tape. Pure: records to bytes, and back as far as the bytes are whole.

A tape is a folder of segments. A segment is `0001.tape`, and while it is written also `0001.tail`:

    0001.tape   MAGIC, a JSON header, then blocks: records packed together, compressed, each with a checksum
    0001.tail   TAIL_MAGIC, the number of its first record, then records as they came, each with a checksum

A record is appended to the tail at once. When the tail has grown to a block, the block is compressed, appended to the
segment and synced; only then does the tail begin anew. Whatever moment a process or a machine dies at, each record is
whole in one of the two files, except the one that was being written. Where it is in both, its number tells.

All numbers are little-endian. A record is

    kind u8 | flags u8 | connection u8 | shard u8 | length u32 | rx i64, epoch ns | now f64, monotonic s | payload
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final

import orjson
import zstandard

VERSION: Final = 1
MAGIC: Final = b"TEJITAPE"
TAIL_MAGIC: Final = b"TEJITAIL"
BLOCK_MAGIC: Final = b"TBLK"

_PREFIX: Final = struct.Struct("<8sHII")  # magic, version, length of the JSON, its crc32
_TAIL: Final = struct.Struct("<8sHQI")  # magic, version, number of the first record, crc32 of these
_BLOCK: Final = struct.Struct("<4sIIIIQqqII")  # magic, then what Block has
_RECORD: Final = struct.Struct("<BBBBIqd")
_CRC: Final = struct.Struct("<I")  # a checksum, or a length

HEAD_BYTES: Final = _BLOCK.size + _CRC.size  # of a block
HEADER_MAX_BYTES: Final = 1 << 20  # of a segment
PAYLOAD_MAX_BYTES: Final = 256 << 20  # more is damage
BLOCK_RAW_BYTES: Final = 4 << 20  # a block is closed once its records have this size; larger ones save little
_BLOCK_MAX_BYTES: Final = PAYLOAD_MAX_BYTES + (64 << 20)


class Kind(IntEnum):
    """What entered the collector; then what a replay has to know beside it."""

    FRAME = 1  # the bytes from the socket
    FOLLOW = 2  # JSON [[key, session class], ...]
    FORGET = 3  # JSON [key, ...]
    BASE = 4  # JSON [key, ...]: the feed starts anew for these
    DOWN = 5  # JSON {"keys": [...] or null, "ts": venue ms}
    BEAT_UP = 6  # a heartbeat of the shard
    BEAT_AWAY = 7
    LEARN = 8  # JSON [HistoryBar, ...]
    LET_GO = 9  # the shard is not ours any more
    HASHES = 10  # commands: what was written beside the stream, such as contracts' terms
    CHECKPOINT = 11  # the collector's whole state: a replay can begin here. `shard` is 1 where nothing lies between
    CUT = 12  # from here on the tape has the shard's stream. JSON {"cut", "stretch", "entries": before it}
    PRELUDE = 13  # what Redis had at a cut: commands; the first is JSON {"cut", "ends": newest ids by stream}
    FOREIGN = 14  # an entry of somebody else's in our stream: JSON {"stretch", "before": so many}, and its fields
    COMMITTED = 15  # JSON {"stretch", "entries": how many of the shard's are known to be in Redis}
    GAP = 16  # JSON {"why", "frames", "from_ns", "to_ns"}: frames that are not on the tape
    END = 17  # the tape was closed in order


class Flag(IntFlag):
    """What the collector did between the record before and this one."""

    DRAINED = 1  # frames that had gathered were decoded
    FLUSHED = 2  # and packed into entries


#: Kinds that a player has to know before it comes to them.
AHEAD: Final = frozenset({Kind.PRELUDE, Kind.FOREIGN, Kind.COMMITTED, Kind.LET_GO, Kind.GAP, Kind.CUT, Kind.END})
_KINDS: Final = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Record:
    kind: Kind
    payload: bytes = b""
    rx_ns: int = 0
    now_s: float = 0.0
    connection: int = 0
    shard: int = 0
    flags: int = 0

    @property
    def json(self) -> Any:
        return orjson.loads(self.payload)


@dataclass(frozen=True, slots=True)
class Block:
    """The head of a block: enough to pass over it without unpacking."""

    stored_bytes: int
    raw_bytes: int
    records: int
    frames: int
    first: int  # number of its first record
    from_ns: int  # receive times of its frames, 0 where it has none
    to_ns: int
    kinds: int  # a bit per Kind
    crc: int  # of the stored bytes

    def has(self, kinds: Iterable[Kind]) -> bool:
        return any(self.kinds >> kind & 1 for kind in kinds)


class Damaged(Exception):
    """These bytes are not what was written. `at` is where in the file, `skip` where it goes on (None: nobody knows)."""

    def __init__(self, why: str, at: int, skip: int | None = None) -> None:
        super().__init__(f"{why} at byte {at}")
        self.why = why
        self.at = at
        self.skip = skip


class Torn(Exception):
    """The file ends in the middle of something: it was being written."""


# Writing


def pack(
    kind: Kind,
    payload: Any = b"",
    rx_ns: int = 0,
    now_s: float = 0.0,
    connection: int = 0,
    shard: int = 0,
    flags: int = 0,
) -> bytes:
    """A record. The payload is anything that has bytes; they are copied once."""
    return b"".join((_RECORD.pack(kind, flags, connection, shard, len(payload), rx_ns, now_s), payload))


def header(about: Mapping[str, Any]) -> bytes:
    body = orjson.dumps(about)
    return _PREFIX.pack(MAGIC, VERSION, len(body), zlib.crc32(body)) + body


def tail_header(first: int) -> bytes:
    body = _TAIL.pack(TAIL_MAGIC, VERSION, first, 0)[: -_CRC.size]
    return body + _CRC.pack(zlib.crc32(body))


def stamp(packed: bytes) -> int:
    """When the frame in a packed record had come."""
    return int.from_bytes(packed[8:16], "little", signed=True)


def tailed(packed: bytes) -> bytes:
    """A packed record as it stands in the tail."""
    return packed + _CRC.pack(zlib.crc32(packed))


def block(packed: list[bytes], first: int, compressor: zstandard.ZstdCompressor) -> bytes:
    """Packed records as a block."""
    raw = b"".join(packed)
    stored = compressor.compress(raw)
    kinds = frames = 0
    times: list[int] = []
    for one in packed:
        kinds |= 1 << one[0]
        if one[0] == Kind.FRAME:
            frames += 1
            times.append(stamp(one))
    head = _BLOCK.pack(
        BLOCK_MAGIC, len(stored), len(raw), len(packed), frames, first,
        min(times, default=0), max(times, default=0), kinds, zlib.crc32(stored),
    )  # fmt: skip
    return head + _CRC.pack(zlib.crc32(head)) + stored


# Reading


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a segment, and where its blocks begin."""
    if len(data) < _PREFIX.size:
        raise Torn
    magic, version, length, crc = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Damaged("no tape of ours begins like this", 0)
    if version != VERSION:
        raise Damaged(f"a tape of version {version}, and this program reads version {VERSION}", 8)
    end = _PREFIX.size + length
    if len(data) < end:
        raise Torn
    body = data[_PREFIX.size : end]
    if zlib.crc32(body) != crc:
        raise Damaged("the header's checksum is wrong", 0)
    return orjson.loads(body), end


def read_block(head: bytes, at: int) -> Block:
    """The head of the block that begins at `at`."""
    if len(head) < HEAD_BYTES:
        raise Torn
    magic, *values = _BLOCK.unpack_from(head)
    if magic != BLOCK_MAGIC or zlib.crc32(head[: _BLOCK.size]) != _CRC.unpack_from(head, _BLOCK.size)[0]:
        raise Damaged("no block begins here", at)
    found = Block(*values)
    if max(found.stored_bytes, found.raw_bytes) > _BLOCK_MAX_BYTES:
        raise Damaged("a block larger than any can be", at)
    return found


def unblock(about: Block, stored: bytes, at: int) -> Iterator[Record]:
    """The records of a block."""
    if len(stored) < about.stored_bytes:
        raise Torn
    after = at + HEAD_BYTES + about.stored_bytes
    if zlib.crc32(stored) != about.crc:
        raise Damaged("a block's checksum is wrong", at, after)
    try:
        raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=about.raw_bytes)
    except zstandard.ZstdError as error:
        raise Damaged(f"a block cannot be unpacked ({error})", at, after) from None
    place = 0
    while place < len(raw):
        found, place = _record(raw, place)
        yield found


def _record(raw: bytes, place: int) -> tuple[Record, int]:
    """Raises Torn where it does not end here, Damaged where it is none."""
    if len(raw) - place < _RECORD.size:
        raise Torn
    kind, flags, connection, shard, length, rx_ns, now_s = _RECORD.unpack_from(raw, place)
    if kind not in _KINDS or length > PAYLOAD_MAX_BYTES:
        raise Damaged("no record begins here", place)
    start = place + _RECORD.size
    if len(raw) - start < length:
        raise Torn
    return Record(_KINDS[kind], raw[start : start + length], rx_ns, now_s, connection, shard, flags), start + length


def read_tail(data: bytes) -> tuple[int, list[Record]]:
    """The number of a tail's first record, and its records up to the first that is not whole."""
    if len(data) < _TAIL.size:
        return 0, []
    magic, version, first, crc = _TAIL.unpack_from(data)
    if magic != TAIL_MAGIC or version != VERSION or zlib.crc32(data[: _TAIL.size - _CRC.size]) != crc:
        return 0, []
    found: list[Record] = []
    place = _TAIL.size
    while place < len(data):
        try:
            one, end = _record(data, place)
        except (Torn, Damaged):
            break
        if len(data) < end + _CRC.size or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[place:end]):
            break
        found.append(one)
        place = end + _CRC.size
    return first, found


# Commands of Redis in a payload


def pack_commands(commands: Iterable[Iterable[bytes]]) -> bytes:
    """Lists of words, each word behind its length."""
    parts: list[bytes] = []
    for words in map(list, commands):
        parts.append(_CRC.pack(len(words)))
        for word in words:
            parts += (_CRC.pack(len(word)), word)
    return b"".join(parts)


def commands(payload: bytes) -> Iterator[list[bytes]]:
    place = 0

    def number() -> int:
        nonlocal place
        (found,) = _CRC.unpack_from(payload, place)
        place += _CRC.size
        return int(found)

    while place < len(payload):
        words = []
        for _ in range(number()):
            length = number()
            words.append(payload[place : place + length])
            place += length
        yield words


def word(value: Any) -> bytes:
    """A value as it goes over the wire."""
    return value if isinstance(value, bytes) else str(value).encode()


def told(head: bytes) -> Any:
    """The JSON that stands before commands."""
    return orjson.loads(head)
