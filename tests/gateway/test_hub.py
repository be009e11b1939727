"""The fan-out without a socket: whoever joins, wherever, gets exactly what comes behind its position."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway import hub
from gateway.frames import Candles, Events, Ticks, body
from gateway.hub import Cursor, Feed, Join
from gateway.index import BarIndex
from gateway.positions import ORIGIN, WHOLE, Position, Vector, parse, text_of
from schemas.events import Event, EventKind
from tests.gateway.house import bar, bar_fields, tick_fields

KEYS = ("NSE_FO|1", "NSE_FO|2", "NSE_FO|3")
_EVENT = re.compile(rb"(?:id: (\S+)\n)?event: (\w+)\ndata: (.*)\n\n")


@dataclass(eq=False)
class Box:
    """A sink that keeps what it is given, up to a limit."""

    limit: int = 1 << 30
    got: bytearray = field(default_factory=bytearray)
    left: Vector | None = None

    def deliver(self, data: bytes, chunk: bytes, /) -> bool:
        assert chunk == b"%x\r\n%b\r\n" % (len(data), data)
        if len(self.got) + len(data) > self.limit:
            return False
        self.got += data
        return True

    def let_go(self, position: Vector) -> None:
        self.left = position


def events(data: bytes) -> list[tuple[str, str, str]]:
    """(id, name, data) of each event; nothing else may be there."""
    assert _EVENT.sub(b"", data) == b""
    return [(i.decode(), name.decode(), text.decode()) for i, name, text in _EVENT.findall(data)]


def encoded(fields: dict[Any, Any]) -> dict[bytes, bytes]:
    """Fields as Redis gives them back."""

    def as_bytes(value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    return {as_bytes(name): as_bytes(value) for name, value in fields.items()}


def ticks_entry(rows: list[tuple[str, float]]) -> dict[bytes, bytes]:
    return encoded(tick_fields(rows))


class Stream:
    """Entries in order, and a feed of ticks over them."""

    def __init__(self, entries: list[list[tuple[str, float]]]) -> None:
        self.entries = [(Position(1_000 + at, at % 3), ticks_entry(rows)) for at, rows in enumerate(entries)]
        self.feed = Feed("live", ["ticks:{0}"], Ticks())

    def absorb(self, start: int, end: int) -> None:
        for position, fields in self.entries[start:end]:
            self.feed.absorb(0, position.entry.encode(), fields)

    def after(self, at: Position, wanted: frozenset[str] | None) -> list[tuple[str, str, str]]:
        cursor = Cursor(self.feed.streams, self.feed.codec, (at,), wanted)
        return events(b"".join(cursor.entry(0, p, f) for p, f in self.entries if cursor.behind(0, p)))


rows = st.lists(st.tuples(st.sampled_from(KEYS), st.floats(1, 9)), min_size=1, max_size=4)
streams_of_ticks = st.lists(rows, min_size=1, max_size=12)
filters = st.one_of(st.none(), st.sets(st.sampled_from(KEYS), min_size=1).map(frozenset))


@given(streams_of_ticks, filters, st.data())
def test_a_reader_that_leaves_at_any_event_and_joins_again_gets_the_rest_once(
    entries: list[list[tuple[str, float]]], wanted: frozenset[str] | None, data: st.DataObject
) -> None:
    stream = Stream(entries)
    absorbed = data.draw(st.integers(0, len(entries)))
    stream.absorb(0, absorbed)
    everything = stream.after(ORIGIN, wanted)
    known = [event for event in everything if parse(event[0], 1) <= stream.feed.vector]
    seen = data.draw(st.integers(0, len(known)))
    at = parse(known[seen - 1][0], 1) if seen else (ORIGIN,)

    box = Box()
    state, missing = stream.feed.join(box, wanted, at)
    assert state is Join.JOINED
    stream.absorb(absorbed, len(entries))
    stream.feed.flush()
    assert events(missing + box.got) == everything[seen:]


@given(streams_of_ticks, filters)
def test_every_event_of_an_entry_has_an_id_of_its_own_and_they_grow(
    entries: list[list[tuple[str, float]]], wanted: frozenset[str] | None
) -> None:
    told = [parse(event[0], 1) for event in Stream(entries).after(ORIGIN, wanted)]
    assert all(a < b for a, b in pairwise(told))


@given(streams_of_ticks, st.integers(1, 12))
def test_a_snapshot_and_what_follows_is_the_whole_state(entries: list[list[tuple[str, float]]], joined: int) -> None:
    stream = Stream(entries)
    stream.absorb(0, joined)
    box = Box()
    snapshot = events(stream.feed.join_fresh(box, None).removeprefix(b"id: 0-0\n\n"))
    stream.absorb(joined, len(entries))
    stream.feed.flush()
    last = {key: price for rows in entries[:joined] for key, price in rows}
    assert {data.split('"')[3]: data for _, _, data in snapshot}.keys() == last.keys()
    for _, _, data in snapshot:
        assert f'"ltp":{last[data.split(chr(34))[3]]}' in data
    assert events(bytes(box.got)) == stream.after(stream.entries[min(joined, len(entries)) - 1][0], None)
    assert [identity for identity, _, _ in snapshot][:-1] == [""] * (len(snapshot) - 1)
    if snapshot:
        assert snapshot[-1][0] == str(stream.entries[min(joined, len(entries)) - 1][0])


@given(streams_of_ticks, st.integers(0, 3_000))
def test_a_sink_without_room_is_let_go_at_what_it_has(entries: list[list[tuple[str, float]]], limit: int) -> None:
    stream = Stream(entries)
    box, other = Box(limit), Box()
    stream.feed.join(box, None, (ORIGIN,))
    stream.feed.join(other, None, (ORIGIN,))
    for at in range(len(entries)):
        stream.absorb(at, at + 1)
        stream.feed.flush()
    everything = stream.after(ORIGIN, None)
    assert events(bytes(other.got)) == everything
    if box.left is None:
        assert box.got == other.got
    else:
        rest = stream.after(box.left[0], None)
        assert events(bytes(box.got)) + rest == everything


def test_a_reader_behind_the_ring_is_sent_to_the_stream_and_one_ahead_waits() -> None:
    stream = Stream([[(KEYS[0], 1.0)]] * 40)
    stream.feed.start_at((stream.entries[9][0],))
    stream.absorb(10, 30)
    assert stream.feed.join(Box(), None, (stream.entries[8][0],)) == (Join.BEHIND, b"")
    assert stream.feed.join(Box(), None, (stream.entries[30][0],)) == (Join.AHEAD, b"")
    assert stream.feed.join(Box(), None, (stream.entries[9][0],))[0] is Join.JOINED
    assert stream.feed.join(Box(), None, (stream.entries[29][0],)) == (Join.JOINED, b"")


def test_the_ring_is_bounded_and_its_floor_follows(monkeypatch: Any) -> None:
    monkeypatch.setattr(hub, "_RING_BYTES", 2_000)
    stream = Stream([[(KEYS[0], 1.0)]] * 100)
    stream.absorb(0, 100)
    assert stream.feed.join(Box(), None, (stream.entries[10][0],))[0] is Join.BEHIND
    state, missing = stream.feed.join(Box(), None, (stream.entries[90][0],))
    assert (state, len(events(missing))) == (Join.JOINED, 9)


def test_an_id_of_several_streams_says_where_each_stands() -> None:
    feed = Feed("candles", ["candles:{0}", "chain:{0}"], Candles(BarIndex()))
    box = Box()
    feed.join_fresh(box, None)
    feed.absorb(0, b"5-1", encoded(bar_fields(bar("NSE_FO|1", 60_000))))
    feed.absorb(1, b"7-0", encoded({"underlying": "NSE_INDEX|X", "expiry": "2031-01-30", "ts": 1, "data": "{}"}))
    feed.absorb(0, b"8-0", encoded(bar_fields(bar("NSE_FO|1", 120_000))))
    feed.flush()
    told = events(bytes(box.got))
    assert [(identity, name) for identity, name, _ in told] == [
        ("5-1", "candle"),
        ("5-1,7-0", "chain"),
        ("8-0,7-0", "candle"),
    ]
    state, missing = feed.join(Box(), None, parse("5-1", 2))
    assert state is Join.JOINED
    assert events(missing) == told[1:]
    assert text_of(feed.vector) == "8-0,7-0"


def test_the_newest_bar_is_told_first_and_a_chain_belongs_to_its_underlying() -> None:
    feed = Feed("candles", ["candles:{0}", "chain:{0}"], Candles(BarIndex()))
    for at, (key, ts, rev) in enumerate([("NSE_FO|1", 60_000, 1), ("NSE_FO|1", 120_000, 1), ("NSE_FO|1", 60_000, 2)]):
        feed.absorb(0, f"{at + 1}-0".encode(), encoded(bar_fields(bar(key, ts, rev=rev))))
    for at, expiry in enumerate(("2031-01-30", "2031-02-27", "2031-01-30")):
        chain = {"underlying": "NSE_INDEX|X", "expiry": expiry, "ts": at, "data": f'{{"n":{at}}}'}
        feed.absorb(1, f"{at + 1}-0".encode(), encoded(chain))
    (only,) = events(feed.join_fresh(Box(), frozenset(["NSE_FO|1"])))
    assert only[:2] == ("3-0,3-0", "candle")
    assert '"ts":120000' in only[2]
    chains = events(feed.join_fresh(Box(), frozenset(["NSE_INDEX|X"])))
    assert [data for _, _, data in chains] == ['{"n":2}', '{"n":1}']


def test_a_log_tells_its_last_twenty_under_their_own_ids_and_the_feeds_before() -> None:
    codec = Events()
    feed = Feed("events", ["events"], codec)
    status = {"state": "live", "shard": 0, "venue": "sim", "connections": 1, "desired": 1, "seen": 1}
    for at in range(60):
        kind = EventKind.FEED if at == 5 else EventKind.ALERT
        event = Event(kind=kind, ts=at, worker="test", message=str(at), data=status if at == 5 else {})
        feed.absorb(0, f"{at + 1}-0".encode(), encoded({"kind": kind, "data": event.model_dump_json()}))
    told = events(feed.join_fresh(Box(), None))
    assert [identity for identity, _, _ in told] == ["", *(f"{at}-0" for at in range(41, 61))]
    assert '"message":"5"' in told[0][2]
    assert codec.feeds[0][1]["data"]["state"] == "live"


def test_data_with_line_breaks_stays_one_event() -> None:
    assert body("signal", b'{\r\n"a": 1\n}') == b'event: signal\ndata: {\ndata: "a": 1\ndata: }\n\n'


def test_a_bad_entry_is_refused_and_those_behind_it_are_told() -> None:
    feed = Feed("live", ["ticks:{0}"], Ticks())
    box = Box()
    feed.join_fresh(box, None)
    for at, fields in enumerate([{b"n": b"1"}, {b"n": b"1", b"ts": b"1", b"rx": b"1", b"keys": b"A|1", b"rec": b"x"}]):
        try:
            feed.absorb(0, f"{at + 1}-0".encode(), fields)
        except ValueError:
            continue
        raise AssertionError("it was taken")
    feed.absorb(0, b"3-0", ticks_entry([(KEYS[0], 2.0)]))
    feed.flush()
    assert [identity for identity, _, _ in events(bytes(box.got))] == ["3-0"]
    state, missing = feed.join(Box(), None, (ORIGIN,))
    assert (state, len(events(missing))) == (Join.JOINED, 1)


def test_joining_a_feed_in_the_middle_of_a_burst_repeats_nothing() -> None:
    stream = Stream([[(KEYS[0], 1.0), (KEYS[1], 2.0)]] * 6)
    early, late = Box(), Box()
    stream.feed.join(early, None, (ORIGIN,))
    stream.absorb(0, 3)  # not flushed yet
    _, missing = stream.feed.join(late, None, (Position(1_000, 0, 1),))
    stream.absorb(3, 6)
    stream.feed.flush()
    assert events(bytes(early.got)) == stream.after(ORIGIN, None)
    assert events(missing + late.got) == stream.after(ORIGIN, None)[1:]
    assert events(missing)[-1][0] == str(stream.entries[2][0]._replace(part=WHOLE))
