"""The generated class as the oracle, and bytes that use every freedom the wire format gives a sender."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as vendor

from proto import feed_pb2
from proto.decode import TickBuffer
from schemas.errors import BadFrame
from schemas.streams import instrument_id
from schemas.ticks import LEVEL, TICK, Block, Kind

RX = 1_773_200_700_123_456_789

#: key -> (one packed TICK, its packed LEVELs)
Rows = dict[str, tuple[bytes, bytes]]

_SCALARS = {
    Block.ATP: "atp",
    Block.VTT: "vtt",
    Block.OI: "oi",
    Block.IV: "iv",
    Block.TBQ: "tbq",
    Block.TSQ: "tsq",
    Block.IEP: "iep",
    Block.IEQ: "ieq",
}


def _sent(value: float) -> bool:
    """What a proto3 sender would put on the wire: all but the default, and minus zero is not the default."""
    return value != 0 or math.copysign(1, value) < 0


def _expected_row(key: str, feed: Any, message: Any) -> tuple[bytes, bytes]:
    tick: dict[str, Any] = {name: math.nan if TICK[name].kind == "f" else 0 for name in TICK.names or ()}
    flags = Block.SNAPSHOT if message.type == 0 else Block(0)
    member = feed.WhichOneof("FeedUnion")
    inner = feed.fullFeed.WhichOneof("FullFeedUnion") if member == "fullFeed" else None
    kind, body = {
        None: (Kind.LTPC, None),
        "ltpc": (Kind.LTPC, feed),
        "fullFeed": (Kind.INDEX, feed.fullFeed.indexFF)
        if inner == "indexFF"
        else (Kind.MARKET, feed.fullFeed.marketFF),
        "firstLevelWithGreeks": (Kind.GREEKS, feed.firstLevelWithGreeks),
    }[member]
    names = set() if body is None else {field.name for field in body.DESCRIPTOR.fields}
    for block, name in _SCALARS.items():
        if name in names and _sent(getattr(body, name)):
            flags |= block
            tick[name] = getattr(body, name)
    if body is not None and body.HasField("ltpc"):
        flags |= Block.LTPC
        tick |= {name: getattr(body.ltpc, name) for name in ("ltp", "ltt", "ltq", "cp")}
        if body.ltpc.HasField("iep"):
            flags, tick["iep"] = flags & ~Block.IEP, math.nan
            if _sent(body.ltpc.iep.value):
                flags, tick["iep"] = flags | Block.IEP, body.ltpc.iep.value
    if "optionGreeks" in names and body.HasField("optionGreeks"):
        flags |= Block.GREEKS
        tick |= {name: getattr(body.optionGreeks, name) for name in ("delta", "theta", "gamma", "vega", "rho")}
    quotes: list[Any] = []
    if "marketLevel" in names and body.HasField("marketLevel"):
        flags |= Block.DEPTH
        quotes = list(body.marketLevel.bidAskQuote)
    if "firstDepth" in names and body.HasField("firstDepth"):
        flags |= Block.DEPTH
        quotes = [body.firstDepth]
    levels = np.array([(quote.bidQ, quote.bidP, quote.askQ, quote.askP) for quote in quotes], LEVEL)
    if quotes:
        tick |= {name: levels[0][name] for name in LEVEL.names or ()}
    if "casEligible" in names and body.casEligible:
        flags |= Block.CAS
    tick |= {"id": instrument_id(key), "flags": flags, "levels": len(quotes), "kind": kind}
    tick |= {"ts": message.currentTs, "rx": RX}
    return np.array([tuple(tick[name] for name in TICK.names or ())], TICK).tobytes(), levels.tobytes()


def _expected(frame: bytes, generated: Any) -> tuple[int, int, Rows]:
    message = generated.FromString(frame)
    return (
        message.type,
        message.currentTs,
        {key: _expected_row(key, feed, message) for key, feed in message.feeds.items()},
    )


def _without_sent_zeros(tick: Any) -> bytes:
    """A zero that was sent is known to us and cannot be seen through the generated class."""
    for block, name in _SCALARS.items():
        if tick["flags"] & block and not _sent(tick[name]):
            tick["flags"] &= ~np.uint32(block)
            tick[name] = math.nan if TICK[name].kind == "f" else 0
    return bytes(tick.tobytes())


def _decoded(frame: bytes) -> tuple[int, int, Rows]:
    buffer = TickBuffer(4, 16)
    added = buffer.append(frame, RX)
    rows: Rows = {}
    at = 0
    for row, tick in enumerate(buffer.rec):
        n = int(tick["levels"])
        rows[added.key(frame, row)] = _without_sent_zeros(tick.copy()), buffer.depth[at : at + n].tobytes()
        at += n
    assert (added.first_row, added.rows) == (0, buffer.n_rows)
    assert len(rows) == buffer.n_rows, "a key twice in one frame"
    assert at == buffer.n_levels, "levels that belong to no tick"
    return added.kind, added.ts, rows


def _class_of_what_we_read() -> Any:
    """The generated class of our schema, but with the two parts that the decoder steps over as bytes nobody parses."""
    file = descriptor_pb2.FileDescriptorProto()
    feed_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        for field in message.field:
            if field.name in ("marketOHLC", "marketInfo"):
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
                field.ClearField("label")
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("teji.upstox.feed.FeedResponse"))


_ORACLE = _class_of_what_we_read()


def _agrees(frame: bytes, generated: Any = _ORACLE) -> bool:
    """Whether the decoder takes the frame. Fails where the generated class does not do the same, or reads otherwise."""
    try:
        expected = _expected(frame, generated)
    except DecodeError:
        expected = None
    if expected is not None and not 0 <= expected[0] <= 2:
        expected = None  # an open enum takes any number; we take the three types that we know
    try:
        found = _decoded(frame)
    except BadFrame:
        found = None
    assert found == expected, frame.hex()
    return found is not None


@pytest.fixture(scope="session")
def agrees() -> Callable[..., bool]:
    return _agrees


@pytest.fixture(scope="session")
def vendor_class() -> Any:
    """As the vendor's SDK has it."""
    return vendor.FeedResponse


# --- bytes -----------------------------------------------------------------------------------------------------------


def varint(value: int, *, padding: int = 0) -> bytes:
    """Base-128, with `padding` bytes more than needed."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(min(padding, 10 - len(out))):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def _field(number: int, wire: int, payload: bytes, rng: random.Random) -> bytes:
    tag = varint(number << 3 | wire, padding=rng.random() < 0.1 and number < 2048)
    if wire == 2:
        return tag + varint(len(payload), padding=rng.random() < 0.1) + payload
    return tag + payload


_NUMBERS = (0, 0, 1, 2, 75, 127, 128, 300, 1 << 31, (1 << 32) - 1, 1_773_200_700_123, (1 << 63) - 1, -1, -(1 << 63))
_DOUBLES = (0.0, -0.0, 0.05, 24_500.35, 1e300, -1.5, math.inf, math.nan, 5e-324)
_TEXTS = ("", "NSE_FO|61755", "NSE_INDEX|Nifty 50", "BSE_EQ|तेज", "x", "\U0010ffff")


def _unknown(rng: random.Random, depth: int = 0) -> bytes:
    """A field of a newer schema: any wire type, groups inside groups too."""
    number = rng.choice((17, 50, 1000, 2047, 2048, (1 << 29) - 1))
    wire = rng.choice((0, 1, 2, 5, 3)) if depth < 4 else rng.choice((0, 1, 2, 5))
    payload = {
        0: lambda: varint(rng.choice(_NUMBERS), padding=rng.choice((0, 0, 9))),
        1: lambda: rng.randbytes(8),
        2: lambda: rng.randbytes(rng.randrange(20)),
        5: lambda: rng.randbytes(4),
        3: lambda: b"".join(_unknown(rng, depth + 1) for _ in range(rng.randrange(3))) + varint(number << 3 | 4),
    }[wire]()
    return _field(number, wire, payload, rng)


def _value(field: FieldDescriptor, rng: random.Random) -> tuple[int, bytes]:
    """A wire type and a payload for it; once in a while a wire type that the schema does not have there."""
    if rng.random() < 0.02:
        wrong = [(5, rng.randbytes(4)), (0, varint(5)), (1, rng.randbytes(8)), (2, rng.randbytes(3))]
        return rng.choice(
            wrong[:3] if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING) else wrong
        )
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return 2, scribble(field.message_type, rng)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return 1, np.float64(rng.choice(_DOUBLES)).tobytes()
    if field.type == FieldDescriptor.TYPE_STRING:
        return 2, rng.choice(_TEXTS).encode()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return 0, varint(rng.choice((0, 1, 1, 1, 2, 1 << 32 | 1)))
    return 0, varint(rng.choice(_NUMBERS), padding=rng.choice((0, 0, 0, 1, 9)))


def scribble(descriptor: Any, rng: random.Random) -> bytes:
    """A message of this type as no sane sender would write it, and valid all the same: fields in any order, again and
    again, in pieces, members of a oneof side by side, numbers longer than needed, unknown fields everywhere."""
    fields = list(descriptor.fields)
    wanted = min(rng.randrange(1, 2 * len(fields) + 2), 12)
    out = []
    for _ in range(wanted):
        if rng.random() < 0.05:
            out.append(_unknown(rng))
            continue
        field = rng.choice(fields)
        wire, payload = _value(field, rng)
        out.append(_field(field.number, wire, payload, rng))
    return b"".join(out)


def _scribbled_frame(rng: random.Random) -> bytes:
    return scribble(feed_pb2.FeedResponse.DESCRIPTOR, rng)


@pytest.fixture(scope="session")
def scribbled_frame() -> Callable[[random.Random], bytes]:
    return _scribbled_frame
