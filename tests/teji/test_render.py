import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bars import Bar, Source
from schemas.chain import Chain
from schemas.events import Event, EventKind
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, LEVEL, TICK, Block, FeedMark, pack, pack_mark
from teji import render

TS = 1_773_200_700_250  # 09:15:00.250 in India
ENTRY = f"{TS}-0"
NIFTY, OPTION = "NSE_INDEX|Nifty 50", "NSE_FO|61755"


def as_bytes(fields: dict[Any, Any]) -> dict[bytes, bytes]:
    """As Redis gives entries back."""

    def raw(value: object) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    return {raw(name): raw(value) for name, value in fields.items()}


def ticks() -> dict[bytes, bytes]:
    rec = np.zeros(2, TICK)
    rec["id"] = [instrument_id(NIFTY), instrument_id(OPTION)]
    rec["ts"] = TS
    rec["ltp"] = [24_000.05, 123.4]
    rec["vtt"] = [0, 1_234_500]
    rec["iv"] = [np.nan, 0.133]
    rec["delta"] = [np.nan, -0.52]
    rec["flags"] = [Block.LTPC << KNOWN_SHIFT, (Block.LTPC | Block.VTT | Block.IV | Block.GREEKS) << KNOWN_SHIFT]
    return as_bytes(pack(TS, TS * 1_000_000, f"{NIFTY},{OPTION}", rec, np.empty(0, LEVEL)))


def bar(**more: object) -> dict[bytes, bytes]:
    values: dict[str, Any] = dict.fromkeys(Bar.model_fields)
    values |= {"instrument": OPTION, "ts": TS - 250, "open": 1, "high": 3, "low": 0.5, "close": 2, "volume": 7500}
    values |= {"ticks": 3, "source": Source.LIVE, "complete": True, "rev": 0, "iv": 0.2}
    body = Bar.model_validate(values | more).model_dump_json()
    return as_bytes({"instrument": OPTION, "ts": TS, "data": body})


def test_a_longer_bar_says_how_long_it_is() -> None:
    fields = bar()
    fields[b"data"] = fields[b"data"][:-1] + b',"interval":"15m"}'
    (line,) = render.lines("intervals:{0}", ENTRY, fields)
    assert line.split()[:3] == ["09:15", "15m", OPTION]
    assert render.header("intervals:{0}") == render.BAR_HEADER


def test_each_tick_is_a_line_in_the_headers_columns() -> None:
    first, second = render.lines("ticks:{0}", ENTRY, ticks())

    assert first.split() == ["09:15:00.250", "NSE_INDEX|Nifty", "50", "24000.05"]
    assert second.split() == ["09:15:00.250", OPTION, "123.40", "1,234,500", "13.3", "-0.52"]
    assert len(first) == len(second) == len(render.header("ticks:{0}"))
    assert second.index("1,234,500") + 9 == render.header("ticks").index("volume") + 6


def test_what_is_not_known_is_blank_for_people_and_null_for_programs() -> None:
    index, option = render.objects("ticks:{0}", ENTRY, ticks())

    assert (index["instrument"], index["ltp"], index["vtt"], index["iv"]) == (NIFTY, 24_000.05, None, None)
    assert (option["vtt"], option["iv"], option["bid"], option["id"]) == (1_234_500, 0.133, None, ENTRY)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (pack_mark(TS, 0, feed=FeedMark.LIVE), "(feed live)"),
        (pack_mark(TS, 0, feed=FeedMark.DOWN, keys=[NIFTY]), "(feed down of NSE_INDEX|Nifty 50)"),
        (pack_mark(TS, 0, feed=FeedMark.DOWN, keys=["A", "B", "C", "D"]), "(feed down of A, B, C ...)"),
        (pack_mark(TS, 0, bars=b"[{},{}]"), "(history 2 minutes)"),
    ],
)
def test_an_entry_without_ticks_says_what_it_marks(fields: dict[Any, Any], line: str) -> None:
    assert render.lines("ticks:{0}", ENTRY, as_bytes(fields)) == [f"09:15:00.250 {line}"]


def test_a_bar_is_a_line_and_says_when_it_is_not_whole() -> None:
    (line,) = render.lines("candles:{0}", ENTRY, bar())
    assert line.split() == ["09:15", OPTION, "1.00", "3.00", "0.50", "2.00", "7,500", "20.0", "3", "0"]
    assert len(line) <= len(render.header("candles"))

    (line,) = render.lines("candles:{0}", ENTRY, bar(complete=False, source=Source.MIXED, rev=2))
    assert line.endswith("2 incomplete mixed")


def chain(**more: object) -> dict[bytes, bytes]:
    values: dict[str, Any] = dict.fromkeys(Chain.model_fields)
    values |= {"underlying": NIFTY, "expiry": "2026-03-17", "ts": TS - 250, "rev": 0, "complete": True, "uncovered": 0}
    values |= {
        "silent_shards": [],
        "strikes": [],
        "last_trade_ms": TS,
        "years": 0.1,
        "rate": 0.05,
        "forward_strikes": 0,
    }
    values |= {"forward_from": "none", "expected_move_factor": 0.85, "iv_days": 0}
    body = Chain.model_validate(values | more).model_dump_json()
    return as_bytes({"underlying": NIFTY, "expiry": "2026-03-17", "ts": TS, "data": body})


def test_a_chain_is_a_line_of_its_aggregates_in_the_headers_columns() -> None:
    known: dict[str, Any] = {"spot": 24_010.5, "forward": 24_055.25, "atm_strike": 24_050, "atm_iv": 0.1325}
    known |= {"straddle": 301.4, "pcr_oi": 0.95, "max_pain": 24_000, "put_wall": 23_500, "call_wall": 24_500.5}
    known |= {"gex": -12_345_000_000, "skew_25d": 0.012, "iv_rank": 41.3}
    (line,) = render.lines("chain:{0}", ENTRY, chain(**known))
    (minute, *underlying, expiry), numbers = line.split()[:4], line.split()[4:]
    assert (minute, " ".join(underlying), expiry) == ("09:15", NIFTY, "2026-03-17")
    assert " ".join(numbers) == "24010.50 24055.25 24050 13.25 301.40 0.95 24000 23500 24500.5 -1234.5 1.20 41 0"
    for name, value in (("max pain", "24000 "), ("GEX cr", "-1234.5 "), ("rank", " 41 ")):
        assert line.index(value) + len(value) - 1 == render.header("chain").index(name) + len(name), name


def test_a_chain_says_what_it_lacks() -> None:
    (line,) = render.lines("chain:{0}", ENTRY, chain(complete=False, rev=1, silent_shards=[2, 3]))
    assert line.split() == [
        "09:15",
        "NSE_INDEX|Nifty",
        "50",
        "2026-03-17",
        *["1", "incomplete", "(shards", "2,", "3", "silent)"],
    ]


def test_an_event_says_when_what_who_and_why() -> None:
    event = Event(kind=EventKind.GAP, ts=TS, worker="aggregator", message="missed 3 entries")
    fields = as_bytes({"kind": "gap", "data": event.model_dump_json()})
    (line,) = render.lines("events", ENTRY, fields)
    assert line.split(maxsplit=3) == ["09:15:00.250", "gap", "aggregator", "missed 3 entries"]


def test_a_command_is_a_line_with_its_content() -> None:
    fields = as_bytes({"id": "1", "kind": "feed.connect", "by": "cli", "data": '{"kind": "feed.connect"}'})
    assert render.lines("commands", ENTRY, fields) == ['09:15:00.250 feed.connect cli {"kind":"feed.connect"}']


def test_programs_get_the_content_as_json_not_as_text() -> None:
    (found,) = render.objects("candles:{0}", ENTRY, bar())
    assert found["data"]["close"] == 2
    assert (found["stream"], found["id"]) == ("candles:{0}", ENTRY)


@given(
    stream=st.sampled_from(["ticks:{0}", "candles:{0}", "events", "commands", "dead:ticks:{0}", "chain:{1}"]),
    fields=st.dictionaries(
        st.sampled_from([b"data", b"n", b"rec", b"ts", b"rx", b"keys", b"why", b"feed", b"bars"])
        | st.binary(max_size=5),
        st.sampled_from([b"{}", b"[]", b"1", b"null", b"9" * 30]) | st.binary(max_size=300),
    ),
)
def test_whatever_stands_in_a_stream_is_shown(stream: str, fields: dict[bytes, bytes]) -> None:
    lines = render.lines(stream, ENTRY, fields)
    assert all(line.isprintable() for line in lines)
    json.dumps(render.objects(stream, ENTRY, fields))
