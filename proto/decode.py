"""Frames of the feed, straight from their bytes into tick records.

The generated class builds an object per message and Python then walks it field by field; a busy day has no time for
that. The parser below is compiled, knows this one schema (`feed.proto`), and writes what it reads into arrays of
`schemas.ticks.TICK` and `LEVEL`. What it does not need (OHLC, reference price, imbalances) it steps over.

It gives what the generated class gives: of a repeated scalar the last one counts, a message sent in pieces is put
together, the last member of a oneof wins, a later entry of a map replaces an earlier one with the same key, unknown
fields are skipped, groups included. It refuses what the generated class refuses, except for damage inside the parts
it steps over, and besides a frame type that we do not know. tests/proto compares the two on random, cut and mutated
frames.

Three conventions make the compiled part short:

* `pos` and `end` are addresses in memory, and nothing is loaded before its last byte was compared with `end`.
* A function that consumes bytes returns where it stopped. A negative position is one of the reasons below: it is no
  place to read on from, so every loop ends and the reason travels up by itself.
* All integers are signed 64-bit (signed and unsigned ones mixed would turn into floats); a varint is the same 64 bits.
"""

import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeVar, cast
from zlib import crc32

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from llvmlite import ir  # type: ignore[import-untyped]
from numba import carray, njit, types
from numba.extending import intrinsic

from proto import feed_pb2
from schemas.errors import BadFrame, TejiError
from schemas.ticks import KNOWN_SHIFT, LEVEL, TICK, Block, Kind

if sys.byteorder != "little":
    raise ImportError("the wire decoder loads little-endian numbers as they stand and needs a machine that does too")

#: `layout()` of the record that this file was written for.
_WRITTEN_FOR: Final = 0x5F66F30E


def layout() -> int:
    """A number that changes with the layout of the tick record or the meaning of its flags.

    Compiled code has both built in, and numba's cache notices a change in the file of a function, not in
    schemas/ticks.py: old machine code would go on writing the old layout. So whoever changes the record has to change
    a file with such code too, once it has been looked at.
    """
    meanings = [(one.name, int(one)) for one in (*Block, *Kind)]
    return crc32(repr((TICK.descr, LEVEL.descr, KNOWN_SHIFT, meanings)).encode())


if layout() != _WRITTEN_FOR:
    raise ImportError(f"the tick record has changed: adapt {__name__}, then set its _WRITTEN_FOR to 0x{layout():X}")

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile on the first call and keep the machine code beside the source. Without the GIL: it touches no object."""
    return cast(F, njit(cache=True, nogil=True)(function))


_primitive: Final = cast(Callable[[Callable[..., Any]], Callable[..., Any]], intrinsic)

# Reasons, as negative positions.
_TRUNCATED: Final = -1
_LONG_VARINT: Final = -2
_BAD_TAG: Final = -3
_BAD_GROUP: Final = -4
_BAD_TEXT: Final = -5
_BAD_TYPE: Final = -6
_DEEP_BOOK: Final = -7
_FULL: Final = -8
_TOO_LARGE: Final = -9

_REASONS: Final = {
    _TRUNCATED: "a field longer than what is left",
    _LONG_VARINT: "a number longer than its type allows",
    _BAD_TAG: "an impossible tag",
    _BAD_GROUP: "a group that does not end as it began, or too many of them",
    _BAD_TEXT: "an instrument key that is not UTF-8",
    _BAD_TYPE: "an unknown frame type",
    _DEEP_BOOK: "more levels of depth than a record can count",
    _TOO_LARGE: "more instruments or levels of depth than a buffer can hold",
}

# The cursor: what Python and the compiled code tell each other, in one array because each argument costs 60 ns a call.
_REC: Final = 0  # addresses of the arrays, and how many rows they hold
_LEVELS: Final = 1
_KEYS: Final = 2
_SLOTS: Final = 3
_REC_MAX: Final = 4
_LEVELS_MAX: Final = 5
_N_REC: Final = 6  # rows filled
_N_LEVELS: Final = 7
_TYPE: Final = 8  # of the frame decoded last
_TS: Final = 9
_CURSOR_SIZE: Final = 10

# Columns of what is told about many frames decoded together; the first three by the caller.
_BEGIN: Final = 0
_END: Final = 1
_RX: Final = 2
_STATUS: Final = 3
_TOLD_TYPE: Final = 4
_TOLD_TS: Final = 5
_FIRST_ROW: Final = 6
_ROWS: Final = 7
_TOLD_SIZE: Final = 8

_KEY: Final = np.dtype([("at", "<i8"), ("size", "<i8")])  # where in its frame a row's instrument key stands

# Plain integers: compiled code reads enum members as objects.
_F_LTPC: Final = int(Block.LTPC)
_F_DEPTH: Final = int(Block.DEPTH)
_F_GREEKS: Final = int(Block.GREEKS)
_F_ATP: Final = int(Block.ATP)
_F_VTT: Final = int(Block.VTT)
_F_OI: Final = int(Block.OI)
_F_IV: Final = int(Block.IV)
_F_TBQ: Final = int(Block.TBQ)
_F_TSQ: Final = int(Block.TSQ)
_F_IEP: Final = int(Block.IEP)
_F_IEQ: Final = int(Block.IEQ)
_F_CAS: Final = int(Block.CAS)
_F_SNAPSHOT: Final = int(Block.SNAPSHOT)
_F_WRAPPED_IEP: Final = 1 << 31  # while a row is read: its iep came inside ltpc and counts before the full feed's own

_K_LTPC: Final = int(Kind.LTPC)
_K_MARKET: Final = int(Kind.MARKET)
_K_INDEX: Final = int(Kind.INDEX)
_K_GREEKS: Final = int(Kind.GREEKS)
_K_FULL: Final = 254  # while a row is read: fullFeed, and nothing in it so far
_K_NONE: Final = 255  # while a row is read: no member of the union so far

_GROUPS_MAX: Final = 100  # inside one another
_DEPTH_MAX: Final = int(np.iinfo(np.uint16).max)
_FNV_OFFSET: Final = 0xCBF29CE484222325 - (1 << 64)
_FNV_PRIME: Final = 0x100000001B3
_HIGH_BITS: Final = 0x8080808080808080 - (1 << 64)


# --- what numba has no word for --------------------------------------------------------------------------------------


def _load(stored: Any, result: Any) -> Callable[[int], Any]:
    """A compiled function that reads the number at an address, aligned or not."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], stored.as_pointer()), align=1)
        return value if stored != ir.IntType(8) else builder.zext(value, ir.IntType(64))

    return _primitive(lambda _context, _address: (result(types.int64), generate))


_byte: Final = _load(ir.IntType(8), types.int64)
_word: Final = _load(ir.IntType(64), types.int64)
_float: Final = _load(ir.DoubleType(), types.float64)


@_primitive
def _low_zeros(_context: Any, _value: Any) -> tuple[Any, Any]:
    """How many zero bits stand below the lowest one."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.int64(types.int64), generate


@_primitive
def _pointer(_context: Any, _address: Any) -> tuple[Any, Any]:
    """An address as something that `carray` takes."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@_primitive
def _address(_context: Any, frame: Any) -> tuple[Any, Any]:
    """Where a bytes object keeps its bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        buffer = context.make_helper(builder, signature.args[0], args[0])
        return builder.ptrtoint(buffer.data, ir.IntType(64))

    return types.int64(frame), generate


# --- the wire format -------------------------------------------------------------------------------------------------


@_compiled
def _slow_varint(pos: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if pos >= end:
            return 0, _TRUNCATED
        byte = _byte(pos)
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    return 0, _LONG_VARINT


@_compiled
def _varint(pos: int, end: int) -> tuple[int, int]:
    """A number and what follows it. Eight bytes at once where they are there: keep those up to the first without a
    high bit, then push their groups of seven bits together, two, four and eight at a time."""
    if pos + 8 > end:
        return _slow_varint(pos, end)
    word = _word(pos)
    last = ~word & _HIGH_BITS
    if last == 0:
        return _slow_varint(pos, end)
    word &= last ^ (last - 1)
    word = (word & 0x007F007F007F007F) | ((word & 0x7F007F007F007F00) >> 1)
    word = (word & 0x00003FFF00003FFF) | ((word & 0x3FFF00003FFF0000) >> 2)
    word = (word & 0x000000000FFFFFFF) | ((word & 0x0FFFFFFF00000000) >> 4)
    return word, pos + (_low_zeros(last) >> 3) + 1


@_compiled
def _double(pos: int, end: int) -> tuple[float, int]:
    if pos + 8 > end:
        return 0.0, _TRUNCATED
    return _float(pos), pos + 8


@_compiled
def _short_varint(pos: int, end: int) -> tuple[int, int]:
    """A tag or a length: at most 32 bits in at most five bytes."""
    if pos < end and _byte(pos) < 0x80:
        return _byte(pos), pos + 1
    value, after = _slow_varint(pos, min(end, pos + 5))
    if after < 0:
        return 0, _LONG_VARINT if end > pos + 5 else after
    if value > 0xFFFFFFFF:
        return 0, _LONG_VARINT
    return value, after


@_compiled
def _tag(pos: int, end: int) -> tuple[int, int]:
    tag, pos = _short_varint(pos, end)
    if pos < 0 or tag < 8:
        return -1, pos if pos < 0 else _BAD_TAG
    return tag, pos


@_compiled
def _span(pos: int, end: int) -> tuple[int, int]:
    """Where a length-delimited field begins and ends."""
    size, pos = _short_varint(pos, end)
    if pos < 0:
        return pos, 0
    if size > end - pos:
        return _TRUNCATED, 0
    return pos, pos + size


@_compiled
def _skip_group(tag: int, pos: int, end: int) -> int:
    opened = np.empty(_GROUPS_MAX, np.int64)
    depth = 0
    while True:
        wire = tag & 7
        if wire == 3:
            if depth == _GROUPS_MAX:
                return _BAD_GROUP
            opened[depth] = tag >> 3
            depth += 1
        elif wire == 4:
            if opened[depth - 1] != tag >> 3:
                return _BAD_GROUP
            depth -= 1
            if depth == 0:
                return pos
        else:
            pos = _skip_plain(tag, pos, end)
        if pos < 0:
            return pos
        tag, pos = _short_varint(pos, end)  # not _tag: the generated class lets a field number of 0 pass in here
        if pos < 0:
            return pos


@_compiled
def _skip_plain(tag: int, pos: int, end: int) -> int:
    wire = tag & 7
    if wire == 0:
        _, pos = _slow_varint(pos, end)
        return pos
    if wire == 1 or wire == 5:
        size = 8 if wire == 1 else 4
        return pos + size if pos + size <= end else _TRUNCATED
    if wire == 2:
        begin, stop = _span(pos, end)
        return begin if begin < 0 else stop
    return _BAD_TAG


@_compiled
def _skip(tag: int, pos: int, end: int) -> int:
    """Step over a field that is not ours. Passes a reason on."""
    if pos < 0:
        return pos
    wire = tag & 7
    if wire == 3:
        return _skip_group(tag, pos, end)
    if wire == 4:
        return _BAD_GROUP
    return _skip_plain(tag, pos, end)


# --- the messages ----------------------------------------------------------------------------------------------------
# A tag is the field number times eight plus the wire type: 0 varint, 1 double, 2 length-delimited. A known field with
# another wire type than the schema's is an unknown one, so whole tags are compared.


@_compiled
def _reset(tick: Any) -> None:
    tick.flags = 0
    tick.levels = 0
    tick.session = 0
    tick.ltp = np.nan
    tick.ltt = 0
    tick.ltq = 0
    tick.cp = np.nan
    tick.atp = np.nan
    tick.vtt = 0
    tick.oi = np.nan
    tick.iv = np.nan
    tick.tbq = np.nan
    tick.tsq = np.nan
    tick.delta = np.nan
    tick.theta = np.nan
    tick.gamma = np.nan
    tick.vega = np.nan
    tick.rho = np.nan
    tick.bid = np.nan
    tick.bid_qty = 0
    tick.ask = np.nan
    tick.ask_qty = 0
    tick.iep = np.nan
    tick.ieq = 0


@_compiled
def _wrapped_iep(pos: int, end: int, tick: Any) -> int:
    value = tick.iep if tick.flags & _F_WRAPPED_IEP else 0.0  # it may come in pieces
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x09:
            value, pos = _double(pos, end)
        else:
            pos = _skip(tag, pos, end)
    tick.iep = value
    tick.flags |= _F_IEP | _F_WRAPPED_IEP
    return pos


@_compiled
def _ltpc(pos: int, end: int, tick: Any) -> int:
    if not tick.flags & _F_LTPC:
        tick.flags |= _F_LTPC
        tick.ltp = 0.0
        tick.cp = 0.0
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x09:
            tick.ltp, pos = _double(pos, end)
        elif tag == 0x10:
            tick.ltt, pos = _varint(pos, end)
        elif tag == 0x18:
            tick.ltq, pos = _varint(pos, end)
        elif tag == 0x21:
            tick.cp, pos = _double(pos, end)
        elif tag == 0x2A:
            pos, stop = _span(pos, end)
            pos = _wrapped_iep(pos, stop, tick)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _greeks(pos: int, end: int, tick: Any) -> int:
    if not tick.flags & _F_GREEKS:
        tick.flags |= _F_GREEKS
        tick.delta = 0.0
        tick.theta = 0.0
        tick.gamma = 0.0
        tick.vega = 0.0
        tick.rho = 0.0
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x09:
            tick.delta, pos = _double(pos, end)
        elif tag == 0x11:
            tick.theta, pos = _double(pos, end)
        elif tag == 0x19:
            tick.gamma, pos = _double(pos, end)
        elif tag == 0x21:
            tick.vega, pos = _double(pos, end)
        elif tag == 0x29:
            tick.rho, pos = _double(pos, end)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _quote(pos: int, end: int, level: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x08:
            level.bid_qty, pos = _varint(pos, end)
        elif tag == 0x11:
            level.bid, pos = _double(pos, end)
        elif tag == 0x18:
            level.ask_qty, pos = _varint(pos, end)
        elif tag == 0x21:
            level.ask, pos = _double(pos, end)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _append_level(tick: Any, levels: Any, cursor: Any) -> int:
    """Make room for one more level of the tick: its row, or a reason."""
    row: int = cursor[_N_LEVELS]
    if row >= cursor[_LEVELS_MAX]:
        return _FULL
    if tick.levels == _DEPTH_MAX:
        return _DEEP_BOOK
    level = levels[row]
    level.bid_qty = 0
    level.bid = 0.0
    level.ask_qty = 0
    level.ask = 0.0
    tick.levels += 1
    cursor[_N_LEVELS] = row + 1
    return row


@_compiled
def _market_level(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    tick.flags |= _F_DEPTH
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            row = _append_level(tick, levels, cursor)
            if row < 0:
                return row
            pos = _quote(pos, stop, levels[row])
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _first_depth(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    """The one level of mode option_greeks is a book of one row."""
    tick.flags |= _F_DEPTH
    row: int = cursor[_N_LEVELS] - 1 if tick.levels else _append_level(tick, levels, cursor)
    return row if row < 0 else _quote(pos, end, levels[row])


@_compiled
def _market_number(tag: int, pos: int, end: int, tick: Any) -> int:
    """The scalars of MarketFullFeed: there only when sent."""
    if tag == 0x29:
        tick.flags |= _F_ATP
        tick.atp, pos = _double(pos, end)
    elif tag == 0x30:
        tick.flags |= _F_VTT
        tick.vtt, pos = _varint(pos, end)
    elif tag == 0x39:
        tick.flags |= _F_OI
        tick.oi, pos = _double(pos, end)
    elif tag == 0x41:
        tick.flags |= _F_IV
        tick.iv, pos = _double(pos, end)
    elif tag == 0x49:
        tick.flags |= _F_TBQ
        tick.tbq, pos = _double(pos, end)
    elif tag == 0x51:
        tick.flags |= _F_TSQ
        tick.tsq, pos = _double(pos, end)
    elif tag == 0x59:
        value, pos = _double(pos, end)
        if not tick.flags & _F_WRAPPED_IEP:
            tick.flags |= _F_IEP
            tick.iep = value
    elif tag == 0x68:
        tick.flags |= _F_IEQ
        tick.ieq, pos = _varint(pos, end)
    elif tag == 0x80:
        eligible, pos = _varint(pos, end)
        tick.flags = tick.flags | _F_CAS if eligible else tick.flags & ~_F_CAS
    else:
        pos = _skip(tag, pos, end)
    return pos


@_compiled
def _market(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            pos = _ltpc(pos, stop, tick)
        elif tag == 0x12:
            pos, stop = _span(pos, end)
            pos = _market_level(pos, stop, tick, levels, cursor)
        elif tag == 0x1A:
            pos, stop = _span(pos, end)
            pos = _greeks(pos, stop, tick)
        else:
            pos = _market_number(tag, pos, end, tick)
    return pos


@_compiled
def _index(pos: int, end: int, tick: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            pos = _ltpc(pos, stop, tick)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _first_level_with_greeks(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            pos = _ltpc(pos, stop, tick)
        elif tag == 0x12:
            pos, stop = _span(pos, end)
            pos = _first_depth(pos, stop, tick, levels, cursor)
        elif tag == 0x1A:
            pos, stop = _span(pos, end)
            pos = _greeks(pos, stop, tick)
        elif tag == 0x20:
            tick.flags |= _F_VTT
            tick.vtt, pos = _varint(pos, end)
        elif tag == 0x29:
            tick.flags |= _F_OI
            tick.oi, pos = _double(pos, end)
        elif tag == 0x31:
            tick.flags |= _F_IV
            tick.iv, pos = _double(pos, end)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _choose(member: int, tick: Any, cursor: Any) -> None:
    """Another member of a oneof: what an earlier one left is forgotten, its levels too."""
    cursor[_N_LEVELS] -= tick.levels
    _reset(tick)
    tick.kind = member


@_compiled
def _full(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            if tick.kind != _K_MARKET:
                _choose(_K_MARKET, tick, cursor)
            pos = _market(pos, stop, tick, levels, cursor)
        elif tag == 0x12:
            pos, stop = _span(pos, end)
            if tick.kind != _K_INDEX:
                _choose(_K_INDEX, tick, cursor)
            pos = _index(pos, stop, tick)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _feed(pos: int, end: int, tick: Any, levels: Any, cursor: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            if tick.kind != _K_LTPC:
                _choose(_K_LTPC, tick, cursor)
            pos = _ltpc(pos, stop, tick)
        elif tag == 0x12:
            pos, stop = _span(pos, end)
            if tick.kind != _K_MARKET and tick.kind != _K_INDEX and tick.kind != _K_FULL:
                _choose(_K_FULL, tick, cursor)
            pos = _full(pos, stop, tick, levels, cursor)
        elif tag == 0x1A:
            pos, stop = _span(pos, end)
            if tick.kind != _K_GREEKS:
                _choose(_K_GREEKS, tick, cursor)
            pos = _first_level_with_greeks(pos, stop, tick, levels, cursor)
        else:
            pos = _skip(tag, pos, end)
    return pos


@_compiled
def _is_utf8(pos: int, end: int) -> bool:
    """No surrogates, nothing longer than needed, nothing beyond the last code point."""
    while pos < end:
        lead = _byte(pos)
        pos += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF  # what the next byte may be
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            low = 0xA0 if lead == 0xE0 else 0x80
            high = 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            low = 0x90 if lead == 0xF0 else 0x80
            high = 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if pos + more > end or _byte(pos) < low or _byte(pos) > high:
            return False
        for offset in range(1, more):
            if _byte(pos + offset) & 0xC0 != 0x80:
                return False
        pos += more
    return True


@_compiled
def _key(pos: int, end: int, tick: Any) -> int:
    """Set the record's id from its key, as `schemas.streams.instrument_id` does. Passes a reason on."""
    if pos < 0:
        return pos
    value = _FNV_OFFSET
    seen = 0
    for at in range(pos, end):
        byte = _byte(at)
        seen |= byte
        value = (value ^ byte) * _FNV_PRIME
    if seen >= 0x80 and not _is_utf8(pos, end):
        return _BAD_TEXT
    tick.id = value
    return end


@_compiled
def _entry(pos: int, end: int, tick: Any, key: Any, levels: Any, cursor: Any) -> int:
    """One entry of the map: key and feed, in any order, each with a default.

    An entry with anything else in it is no entry (size -1): the generated class files it under unknown fields, whole.
    """
    _reset(tick)
    tick.kind = _K_NONE
    tick.id = _FNV_OFFSET
    key.at = pos
    key.size = 0
    whole = True
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x0A:
            pos, stop = _span(pos, end)
            key.at = pos
            key.size = stop - pos
            pos = _key(pos, stop, tick)
        elif tag == 0x12:
            pos, stop = _span(pos, end)
            pos = _feed(pos, stop, tick, levels, cursor)
        else:
            pos = _skip(tag, pos, end)
            whole = False
    if pos < 0:
        return pos
    if not whole:
        cursor[_N_LEVELS] -= tick.levels
        key.size = -1
        return pos
    if tick.kind >= _K_FULL:
        tick.kind = _K_MARKET if tick.kind == _K_FULL else _K_LTPC
    tick.flags &= ~_F_WRAPPED_IEP
    if tick.levels:
        best = levels[cursor[_N_LEVELS] - tick.levels]
        tick.bid = best.bid
        tick.bid_qty = best.bid_qty
        tick.ask = best.ask
        tick.ask_qty = best.ask_qty
    return pos


# --- the frame -------------------------------------------------------------------------------------------------------


@_compiled
def _same_key(one: Any, other: Any) -> bool:
    if one.size != other.size:
        return False
    differ = 0
    for offset in range(one.size):
        differ |= _byte(one.at + offset) ^ _byte(other.at + offset)
    return differ == 0


@_compiled
def _replaced(rec: Any, keys: Any, first: int, end: int, slots: Any) -> int:
    """Mark the rows whose key comes again later in the frame (size -1): how many there are."""
    mask = 1
    while mask < 2 * (end - first):
        mask *= 2
    slots[:mask] = -1
    mask -= 1
    found = 0
    for row in range(first, end):
        slot = rec[row].id & mask
        while slots[slot] >= 0:
            other = slots[slot]
            if rec[other].id == rec[row].id and _same_key(keys[other], keys[row]):
                keys[other].size = -1
                found += 1
                break
            slot = (slot + 1) & mask
        slots[slot] = row
    return found


@_compiled
def _close_gaps(rec: Any, keys: Any, levels: Any, first: int, cursor: Any) -> None:
    """Move what stays over the rows marked by `_replaced`, in order."""
    to_level = cursor[_N_LEVELS]
    for row in range(first, cursor[_N_REC]):
        to_level -= rec[row].levels
    from_level = to_level
    to_row = first
    for row in range(first, cursor[_N_REC]):
        n = int(rec[row].levels)
        if keys[row].size >= 0:
            rec[to_row] = rec[row]
            keys[to_row] = keys[row]
            for offset in range(n):
                levels[to_level + offset] = levels[from_level + offset]
            to_row += 1
            to_level += n
        from_level += n
    cursor[_N_REC] = to_row
    cursor[_N_LEVELS] = to_level


@_compiled
def _frame(pos: int, end: int, rec: Any, keys: Any, levels: Any, cursor: Any) -> int:
    while 0 <= pos < end:
        tag, pos = _tag(pos, end)
        if tag == 0x12:
            pos, stop = _span(pos, end)
            row = cursor[_N_REC]
            if row >= cursor[_REC_MAX]:
                return _FULL
            pos = _entry(pos, stop, rec[row], keys[row], levels, cursor)
            cursor[_N_REC] += keys[row].size >= 0
        elif tag == 0x18:
            cursor[_TS], pos = _varint(pos, end)
        elif tag == 0x08:
            kind, pos = _varint(pos, end)
            cursor[_TYPE] = kind & 0xFFFFFFFF
        else:
            pos = _skip(tag, pos, end)
    if pos >= 0 and cursor[_TYPE] > 2:
        return _BAD_TYPE
    return pos


@_compiled
def _append_at(begin: int, end: int, rx: int, cursor: Any) -> int:
    """Decode a frame behind what the arrays hold. A negative result is the reason why they stay as they were."""
    rec = carray(_pointer(cursor[_REC]), (cursor[_REC_MAX],), TICK)
    keys = carray(_pointer(cursor[_KEYS]), (cursor[_REC_MAX],), _KEY)
    levels = carray(_pointer(cursor[_LEVELS]), (cursor[_LEVELS_MAX],), LEVEL)
    slots = carray(_pointer(cursor[_SLOTS]), (4 * cursor[_REC_MAX],), np.int64)
    first, first_level = cursor[_N_REC], cursor[_N_LEVELS]
    cursor[_TYPE] = 0
    cursor[_TS] = 0
    status = _frame(begin, end, rec, keys, levels, cursor)
    if status < 0:
        cursor[_N_REC], cursor[_N_LEVELS] = first, first_level
        return status
    if cursor[_N_REC] - first > 1 and _replaced(rec, keys, first, cursor[_N_REC], slots):
        _close_gaps(rec, keys, levels, first, cursor)
    flags = _F_SNAPSHOT if cursor[_TYPE] == 0 else 0
    for row in range(first, cursor[_N_REC]):
        tick = rec[row]
        tick.ts = cursor[_TS]
        tick.rx = rx
        tick.flags |= flags
        keys[row].at -= begin
    return 0


@_compiled
def _append(frame: Any, rx: int, cursor: Any) -> int:
    begin = _address(frame)
    return _append_at(begin, begin + len(frame), rx, cursor)


@_compiled
def _append_many(frames: Any, told: Any, first: int, cursor: Any) -> int:
    """Decode the frames from the one with the number `first` on; the number of the one that does not fit any more."""
    origin = _address(frames)
    for number in range(first, len(told)):
        begin = told[number, _BEGIN]
        first_row = cursor[_N_REC]
        status = _append_at(origin + begin, origin + told[number, _END], told[number, _RX], cursor)
        if status == _FULL:
            return number
        told[number, _STATUS] = status
        told[number, _TOLD_TYPE] = cursor[_TYPE]
        told[number, _TOLD_TS] = cursor[_TS]
        told[number, _FIRST_ROW] = first_row
        told[number, _ROWS] = cursor[_N_REC] - first_row
    return len(told)


# --- for the others --------------------------------------------------------------------------------------------------


class FrameKind(IntEnum):
    INITIAL = 0  # the state of what was just subscribed; the only kind whose rows have Block.SNAPSHOT
    LIVE = 1
    MARKET_INFO = 2  # phases of the segments: `market_info` reads those


_FRAME_KINDS: Final = tuple(FrameKind)  # calling the enum takes longer than decoding a tick


class BufferFull(TejiError):
    """The frame fits once the buffer has been cleared."""


class Appended(NamedTuple):
    """What one frame added to a TickBuffer."""

    kind: FrameKind
    ts: int  # currentTs, epoch ms; 0 where the frame has none
    first_row: int
    rows: int
    key_at: npt.NDArray[np.int64]  # by row of the buffer; overwritten once the buffer is cleared and used again
    key_len: npt.NDArray[np.int64]

    def key(self, frame: bytes | bytearray | memoryview, row: int) -> str:
        """The instrument key of a row of the buffer that this frame added."""
        at = int(self.key_at[row])
        return str(frame[at : at + int(self.key_len[row])], "utf-8")


class Frames:
    """Frames back to back, to be decoded together, and what is then known of each: a column for each thing.

    `kind` is a FrameKind; where `status` is negative the frame was malformed, and the other columns mean nothing.
    """

    def __init__(self, bodies: Sequence[bytes], rx_ns: Sequence[int]) -> None:
        self.bodies = bodies
        self.raw = b"".join(bodies)
        self.told = np.zeros((len(bodies), _TOLD_SIZE), np.int64)
        ends = np.cumsum(np.fromiter(map(len, bodies), np.int64, len(bodies)))
        self.told[1:, _BEGIN] = ends[:-1]
        self.told[:, _END] = ends
        self.told[:, _RX] = rx_ns

    def __len__(self) -> int:
        return len(self.bodies)

    @property
    def status(self) -> npt.NDArray[np.int64]:
        return self.told[:, _STATUS]

    @property
    def kind(self) -> npt.NDArray[np.int64]:
        return self.told[:, _TOLD_TYPE]

    @property
    def ts(self) -> npt.NDArray[np.int64]:
        return self.told[:, _TOLD_TS]

    @property
    def rx_ns(self) -> npt.NDArray[np.int64]:
        return self.told[:, _RX]

    @property
    def first_row(self) -> npt.NDArray[np.int64]:
        return self.told[:, _FIRST_ROW]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        return self.told[:, _ROWS]

    def error(self, number: int) -> BadFrame:
        """Why a frame whose status is negative was malformed."""
        return BadFrame(_REASONS[int(self.status[number])], self.bodies[number])


class TickBuffer:
    """Tick records and their depth, filled frame by frame and emptied at once by `clear`.

    The arrays are allocated once. A frame larger than the empty buffer makes it grow, up to `ROWS_MAX` and
    `LEVELS_MAX`; one that is larger still is refused.
    """

    ROWS_MAX: Final = 1 << 16  # thirteen times what a connection may subscribe to
    LEVELS_MAX: Final = 1 << 20

    def __init__(self, rows: int = 8192, levels: int = 65536) -> None:
        if not (0 < rows <= self.ROWS_MAX and 0 < levels <= self.LEVELS_MAX):
            raise ValueError(f"a buffer has 1 to {self.ROWS_MAX} rows and 1 to {self.LEVELS_MAX} levels")
        self._cursor = np.zeros(_CURSOR_SIZE, np.int64)
        self._at = self._cursor.data  # reads a number in half the time of the array
        self._allocate(rows, levels)

    def append(self, frame: bytes | bytearray | memoryview, rx_ns: int) -> Appended:
        """Decode a frame behind what is there.

        Raises BadFrame, or BufferFull where it does not fit behind what is there; then the buffer is as before.
        """
        if type(frame) is not bytes:
            frame = bytes(frame)  # compiled for one type; the copy costs a fraction of the decoding
        at = self._at
        first = at[_N_REC]
        status = _append(frame, rx_ns, self._cursor)
        while status < 0:
            if status != _FULL:
                raise BadFrame(_REASONS[status], frame)
            if first:
                raise BufferFull(f"no room for a frame of {len(frame)} bytes behind {first} rows")
            self._grow(frame)
            status = _append(frame, rx_ns, self._cursor)
        return Appended(_FRAME_KINDS[at[_TYPE]], at[_TS], first, at[_N_REC] - first, self._key_at, self._key_len)

    def append_many(self, frames: Frames, first: int) -> int:
        """Decode frames, from the one with the number `first` on, behind what is there: the way to decode small ones.

        Returns how far it came; less than all where the buffer is full, which it then is not of nothing.
        """
        at, told = self._at, frames.told
        done = _append_many(frames.raw, told, first, self._cursor)
        while done < len(told) and not at[_N_REC]:
            try:
                self._grow(frames.bodies[done])
            except BadFrame:
                told[done, _STATUS] = _TOO_LARGE
                done += 1
            done = _append_many(frames.raw, told, done, self._cursor)
        return int(done)

    @property
    def rec(self) -> npt.NDArray[Any]:
        """The TICK rows filled so far: a view, good until `clear`."""
        return self._rec[: self._at[_N_REC]]

    @property
    def depth(self) -> npt.NDArray[Any]:
        """The LEVEL rows filled so far, those of each tick in turn: a view, good until `clear`."""
        return self._levels[: self._at[_N_LEVELS]]

    @property
    def n_rows(self) -> int:
        return self._at[_N_REC]

    @property
    def n_levels(self) -> int:
        return self._at[_N_LEVELS]

    def clear(self) -> None:
        self._at[_N_REC] = 0
        self._at[_N_LEVELS] = 0

    def _grow(self, frame: bytes) -> None:
        rows, levels = len(self._rec), len(self._levels)
        if rows == self.ROWS_MAX and levels == self.LEVELS_MAX:
            raise BadFrame(f"more than {self.ROWS_MAX} instruments or {self.LEVELS_MAX} levels of depth", frame)
        self._allocate(min(2 * rows, self.ROWS_MAX), min(2 * levels, self.LEVELS_MAX))

    def _allocate(self, rows: int, levels: int) -> None:
        self._rec = np.zeros(rows, TICK)
        self._levels = np.zeros(levels, LEVEL)
        keys = np.zeros(rows, _KEY)
        self._key_at, self._key_len = keys["at"], keys["size"]
        self._slots = np.zeros(4 * rows, np.int64)
        addresses = [array.ctypes.data for array in (self._rec, self._levels, keys, self._slots)]
        self._cursor[: _LEVELS_MAX + 1] = [*addresses, rows, levels]


def market_info(frame: bytes | bytearray | memoryview) -> feed_pb2.MarketInfo:
    """The phases in a market_info frame, by the generated class: there are a few such frames a day."""
    try:
        return feed_pb2.FeedResponse.FromString(bytes(frame)).marketInfo
    except DecodeError as error:
        raise BadFrame(str(error), bytes(frame)) from None


def warm() -> None:
    """Compile the decoder, or load it from the cache, so that the first frame need not wait for it."""
    TickBuffer(1, 1).append(b"", 0)
    TickBuffer(1, 1).append_many(Frames([b""], [0]), 0)
