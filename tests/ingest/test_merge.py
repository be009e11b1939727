"""The compiled merge against a dictionary per instrument, and each of its rules by itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.frames import Mode, frames, keys
from ingest import merge
from ingest.merge import KeyCollision, Merger
from proto.decode import TickBuffer
from schemas.errors import Rejected
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, TICK, Block, SessionClass

FIELDS: dict[Block, tuple[str, ...]] = {
    Block.LTPC: ("ltp", "ltt", "ltq", "cp"),
    Block.DEPTH: ("bid", "bid_qty", "ask", "ask_qty"),
    Block.GREEKS: ("delta", "theta", "gamma", "vega", "rho"),
    Block.ATP: ("atp",),
    Block.VTT: ("vtt",),
    Block.OI: ("oi",),
    Block.IV: ("iv",),
    Block.TBQ: ("tbq",),
    Block.TSQ: ("tsq",),
    Block.IEP: ("iep",),
    Block.IEQ: ("ieq",),
    Block.CAS: (),
}
BLOCKS = tuple(FIELDS)
NAMES = tuple(name for names in FIELDS.values() for name in names)
A, B, STRANGER = "NSE_FO|1", "NSE_FO|2", "NSE_FO|3"


@dataclass(frozen=True)
class Update:
    key: str
    ts: int
    values: dict[Block, int]  # a number for each field of the block
    levels: int = 0
    snapshot: bool = False


def unknown(name: str) -> float:
    return math.nan if TICK[name].kind == "f" else 0


def record(update: Update) -> tuple[Any, ...]:
    """The update as the decoder would have written it."""
    row: dict[str, Any] = {name: unknown(name) for name in TICK.names or ()}
    row |= {"id": instrument_id(update.key), "ts": update.ts, "levels": update.levels, "kind": 1, "rx": 9}
    row["flags"] = int(Block.SNAPSHOT if update.snapshot else 0)
    for block, value in update.values.items():
        row["flags"] |= int(block)
        row |= dict.fromkeys(FIELDS[block], value)
    return tuple(row[name] for name in TICK.names or ())


def rows(*updates: Update) -> Any:
    return np.array([record(update) for update in updates], TICK)


@dataclass
class Reference:
    """The rules once more, slowly: what is known is a dictionary from block to value."""

    known: dict[str, dict[Block, int]] = field(default_factory=dict)
    ts: dict[str, int] = field(default_factory=dict)
    base: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)

    def merge(self, update: Update) -> tuple[dict[Block, int], Block]:
        """The values of the filled-up record, and its flags without the high half."""
        before = dict(self.known.get(update.key, {}))
        if Block.LTPC in update.values:
            before.pop(Block.IEP, None)
            before.pop(Block.IEQ, None)
        now = before | update.values
        if update.values.get(Block.VTT) == 0 and Block.VTT in before:
            now[Block.VTT] = before[Block.VTT]
        flags = Block.SNAPSHOT if update.snapshot else Block(0)
        for block in update.values:
            flags |= block
        if update.key in self.base:
            self.base.discard(update.key)
            flags |= Block.BASE
        if update.ts >= self.ts.get(update.key, 0):
            self.known[update.key], self.ts[update.key] = now, update.ts
            self.changed.add(update.key)
        return now, flags


def assert_holds(tick: Any, values: dict[Block, int], flags: Block) -> None:
    known = Block(0)
    for block in values:
        known |= block
    assert int(tick["flags"]) == int(flags) | int(known) << KNOWN_SHIFT
    for block, names in FIELDS.items():
        for name in names:
            expected = values.get(block, unknown(name))
            assert tick[name] == expected or (math.isnan(expected) and math.isnan(tick[name])), name


def follower(*of: str, session: SessionClass = SessionClass.ORDINARY) -> Merger:
    merger = Merger()
    merger.register((key, session) for key in of)
    return merger


def merged(merger: Merger, *updates: Update) -> Any:
    rec = rows(*updates)
    strangers(merger, rec, 0, len(rec))
    return rec


def strangers(merger: Merger, rec: Any, first: int, n: int) -> list[int]:
    """Merge; the rows that belong to no instrument."""
    whose = np.full(len(rec), 77, np.int32)
    unknown = merger.merge(rec, first, n, whose)
    for row in range(first, first + n):
        if whose[row] >= 0:
            assert instrument_id(merger.keys[whose[row]]) == rec["id"][row]
    assert (whose[:first] == 77).all()
    found = [row for row in range(first, first + n) if whose[row] == -1]
    assert len(found) == unknown
    return found


updates = st.builds(
    Update,
    key=st.sampled_from((A, B, STRANGER)),
    ts=st.integers(0, 5),
    values=st.dictionaries(st.sampled_from(BLOCKS), st.integers(0, 9), max_size=6),
    levels=st.integers(0, 3),
    snapshot=st.booleans(),
)


@settings(deadline=None)
@given(batches=st.lists(st.tuples(st.lists(updates, max_size=5), st.sets(st.sampled_from((A, B)))), max_size=6))
def test_any_updates_are_filled_up_as_a_dictionary_per_instrument_says(
    batches: Sequence[tuple[list[Update], set[str]]],
) -> None:
    merger = follower(A, B)
    reference = Reference(base={A, B})
    for batch, marked in batches:
        merger.mark_base(marked)
        reference.base |= marked
        rec = rows(Update(STRANGER, 1, {}), *batch)
        untouched = rec.copy()
        assert strangers(merger, rec, 1, len(batch)) == [
            n for n, update in enumerate(batch, 1) if update.key == STRANGER
        ]
        assert rec[0] == untouched[0] or rec[0].tobytes() == untouched[0].tobytes()
        for tick, before, update in zip(rec[1:], untouched[1:], batch, strict=True):
            if update.key == STRANGER:
                assert tick.tobytes() == before.tobytes()
                continue
            assert_holds(tick, *reference.merge(update))
            assert tick[["id", "ts", "rx", "levels", "kind"]] == before[["id", "ts", "rx", "levels", "kind"]]
        assert set(merger.never_seen()) == reference.base
        changed, _ = merger.take_changed()
        assert set(changed) == reference.changed
        reference.changed.clear()
    for key, tick in zip(merger.keys, merger.last, strict=True):
        low = Block(int(tick["flags"]) & (1 << KNOWN_SHIFT) - 1)
        assert_holds(tick, reference.known.get(key, {}), low)
        assert tick["ts"] == reference.ts.get(key, 0)


def test_a_block_that_an_update_lacks_keeps_its_last_known_values() -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.GREEKS: 3, Block.OI: 500}))
    tick = merged(merger, Update(A, 2, {Block.LTPC: 7}))[0]

    assert (tick["delta"], tick["oi"], tick["ltp"]) == (3, 500, 7)
    assert Block(int(tick["flags"]) >> KNOWN_SHIFT) == Block.GREEKS | Block.OI | Block.LTPC
    assert Block(int(tick["flags"]) & 0xFFFF) == Block.LTPC


@pytest.mark.parametrize("values", [{}, {Block.VTT: 0}])
def test_no_volume_and_a_volume_of_zero_leave_the_known_one(values: dict[Block, int]) -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.VTT: 1000}))

    assert merged(merger, Update(A, 2, values))["vtt"][0] == 1000
    assert merger.last["vtt"][0] == 1000


def test_the_best_prices_are_carried_forward_and_the_levels_are_not() -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.DEPTH: 5}, levels=5))
    tick = merged(merger, Update(A, 2, {Block.LTPC: 7}))[0]

    assert (tick["bid"], tick["ask_qty"], tick["levels"]) == (5, 5, 0)
    assert merger.last["levels"][0] == 0


def test_an_indicative_price_lasts_until_a_trade_block_comes_without_it() -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.LTPC: 1, Block.IEP: 50, Block.IEQ: 60}))
    depth_only = merged(merger, Update(A, 2, {Block.DEPTH: 2}))[0]
    after = merged(merger, Update(A, 3, {Block.LTPC: 3}))[0]

    assert (depth_only["iep"], depth_only["ieq"]) == (50, 60)
    assert math.isnan(after["iep"])
    assert after["ieq"] == 0
    assert not int(after["flags"]) >> KNOWN_SHIFT & (Block.IEP | Block.IEQ)


def test_an_older_update_is_filled_up_and_does_not_change_what_is_known() -> None:
    merger = follower(A)
    merged(merger, Update(A, 5, {Block.LTPC: 7, Block.OI: 500}))
    merger.take_changed()
    before = merger.last.tobytes()
    tick = merged(merger, Update(A, 4, {Block.LTPC: 6, Block.IV: 1}))[0]

    assert (tick["ltp"], tick["oi"], tick["iv"]) == (6, 500, 1)
    assert merger.last.tobytes() == before
    assert merger.take_changed()[0] == []


@pytest.mark.parametrize(
    ("older", "lost"),
    [
        ({Block.LTPC: 5, Block.VTT: 8}, {A: 5}),
        ({Block.LTPC: 5, Block.VTT: 9}, {}),  # the same trades
        ({Block.LTPC: 5}, {A: 5}),  # without a volume the time tells
        ({Block.LTPC: 7}, {}),
        ({Block.DEPTH: 5, Block.VTT: 8}, {}),  # no trade
    ],
    ids=["trade", "same volume", "time", "same time", "depth"],
)
def test_an_update_that_comes_after_a_newer_one_has_lost_its_trade(
    older: dict[Block, int], lost: dict[str, int]
) -> None:
    merger = follower(A, B)
    merged(merger, Update(A, 1, {Block.LTPC: 3, Block.VTT: 7}), Update(A, 20, {Block.LTPC: 7, Block.VTT: 9}))
    merged(merger, Update(A, 10, older))
    merger.register([(STRANGER, SessionClass.ORDINARY)])  # others that come and go change nothing
    assert merger.take_overtaken() == lost
    assert merger.take_overtaken() == {}


def test_what_is_told_anew_after_a_mark_is_never_overtaken() -> None:
    merger = follower(A)
    merged(merger, Update(A, 20, {Block.LTPC: 7, Block.VTT: 9}))
    merger.mark_base([A])
    merged(merger, Update(A, 10, {Block.LTPC: 5, Block.VTT: 8}))
    assert merger.take_overtaken() == {}


def test_of_two_updates_with_the_same_time_the_second_is_the_newer() -> None:
    merger = follower(A)
    merged(merger, Update(A, 5, {Block.LTPC: 7}), Update(A, 5, {Block.LTPC: 8}))

    assert merger.last["ltp"][0] == 8


def test_only_the_first_record_after_a_mark_is_a_base_and_it_carries_what_was_known() -> None:
    merger = follower(A)
    first, second = merged(merger, Update(A, 1, {Block.OI: 5}), Update(A, 2, {}))
    merger.mark_base([A])
    third, fourth = merged(merger, Update(A, 0, {}), Update(A, 3, {}))

    assert [bool(tick["flags"] & Block.BASE) for tick in (first, second, third, fourth)] == [True, False, True, False]
    assert third["oi"] == 5


def test_an_instrument_is_never_seen_until_it_ticks_after_its_mark() -> None:
    merger = follower(A, B)
    assert merger.never_seen() == [A, B]

    merged(merger, Update(B, 1, {}))
    assert merger.never_seen() == [A]

    merger.mark_base([A, B])
    assert merger.never_seen() == [A, B]


def test_a_closing_auction_share_stays_one() -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.CAS: 1}))
    tick = merged(merger, Update(A, 2, {}))[0]

    assert not tick["flags"] & Block.CAS
    assert int(tick["flags"]) >> KNOWN_SHIFT & Block.CAS


def test_a_record_gets_the_session_class_of_its_instrument() -> None:
    merger = follower(A, session=SessionClass.CLOSING_AUCTION_SHARE)
    assert merged(merger, Update(A, 1, {}))["session"][0] == SessionClass.CLOSING_AUCTION_SHARE

    merger.register([(A, SessionClass.ALWAYS_OPEN)])
    assert merged(merger, Update(A, 2, {}))["session"][0] == SessionClass.ALWAYS_OPEN
    assert merger.keys == (A,)


def test_registering_more_instruments_keeps_what_is_known_of_the_others() -> None:
    merger = follower(A)
    merged(merger, Update(A, 1, {Block.OI: 5}))
    merger.register((key, SessionClass.ORDINARY) for key in keys(3000))

    assert merger.last["oi"][merger.keys.index(A)] == 5
    assert len(merger.last) == 3001
    assert merged(merger, Update(A, 2, {}))["oi"][0] == 5


def test_a_forgotten_instrument_is_unknown_and_the_others_stay() -> None:
    merger = follower(A, B)
    merged(merger, Update(A, 1, {Block.OI: 5}), Update(B, 1, {Block.OI: 6}))
    merger.forget([A, STRANGER])
    rec = rows(Update(A, 2, {}), Update(B, 2, {}))

    assert strangers(merger, rec, 0, 2) == [0]
    assert (merger.keys, rec["oi"][1]) == ((B,), 6)


def test_a_forgotten_instrument_that_comes_back_starts_from_nothing() -> None:
    merger = follower(A)
    merged(merger, Update(A, 9, {Block.OI: 5}))
    merger.forget([A])
    merger.register([(A, SessionClass.ORDINARY)])
    tick = merged(merger, Update(A, 1, {}))[0]

    assert math.isnan(tick["oi"])
    assert tick["flags"] == Block.BASE


def test_a_second_key_with_the_same_id_is_refused_and_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    merger = follower(A)
    monkeypatch.setattr(merge, "instrument_id", lambda key: instrument_id(A) if key == STRANGER else instrument_id(key))

    with pytest.raises(KeyCollision, match=r"NSE_FO\|3 has the same instrument id as NSE_FO\|1") as refused:
        merger.register([(B, SessionClass.ORDINARY), (STRANGER, SessionClass.ORDINARY)])

    assert isinstance(refused.value, Rejected)
    assert (refused.value.key, refused.value.known) == (STRANGER, A)
    assert merger.keys == (A,)


def test_instruments_whose_ids_share_their_low_bits_are_told_apart() -> None:
    many = keys(5000)
    merger = follower(*many)
    rec = rows(*(Update(key, 1, {Block.OI: n}) for n, key in enumerate(many)))

    assert strangers(merger, rec, 0, len(rec)) == []
    assert merger.last["oi"].tolist() == list(range(5000))
    assert strangers(merger, rows(Update(STRANGER, 1, {})), 0, 1) == [0]


def test_changed_instruments_are_taken_once_with_a_copy_of_their_state() -> None:
    merger = follower(A, B)
    merged(merger, Update(B, 1, {Block.OI: 5}))
    changed, states = merger.take_changed()
    merged(merger, Update(B, 2, {Block.OI: 6}))

    assert changed == [B]
    assert states["oi"].tolist() == [5]
    assert merger.take_changed()[0] == [B]
    assert merger.take_changed()[0] == []


@given(st.lists(st.sampled_from(keys(6))))
def test_names_are_those_of_the_rows_each_once_in_order_of_appearance(of: list[str]) -> None:
    merger = follower(*keys(6))
    whose = np.array([merger.keys.index(key) for key in of], np.int32)
    for _ in range(2):
        assert merger.names(whose) == ",".join(dict.fromkeys(of)).encode()


def test_rows_outside_the_array_are_refused() -> None:
    merger = follower(A)
    for first, n in ((-1, 1), (0, 2), (1, 1), (0, -1)):
        with pytest.raises(IndexError):
            merger.merge(rows(Update(A, 1, {})), first, n, np.empty(1, np.int32))


def test_marking_an_instrument_that_is_not_followed_is_an_error() -> None:
    with pytest.raises(KeyError):
        follower(A).mark_base([B])


def test_what_the_decoder_writes_can_be_merged_where_it_stands() -> None:
    buffer = TickBuffer()
    followed = keys(20)
    merger = follower(*followed[:15])
    frame, *_ = frames(Mode.FULL, 1, 20)
    added = buffer.append(frame, 1)
    unknown = strangers(merger, buffer.rec, added.first_row, added.rows)

    assert {added.key(frame, row) for row in unknown} == set(followed[15:])
    assert merger.never_seen() == []
    assert sum(int(tick["flags"]) >> KNOWN_SHIFT > 0 for tick in buffer.rec) == 15
