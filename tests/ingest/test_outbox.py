"""The outbox against Redis in its simplest form: a list and the number of the last write that it has taken."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus.inbox import Output, Published
from ingest.outbox import Outbox, Write

LIMIT = 1 << 20


def entry(text: str, size: int = 0) -> Output:
    return Output("ticks:{0}", {b"text": text, b"body": bytes(size)})


def texts(write: Write) -> list[str]:
    return [str(output.fields[b"text"]) for output in write.outputs]


@dataclass
class Stream:
    """What `commit.lua` does with a sequence number."""

    taken: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the write that each entry came with
    number: int = 0

    def write(self, write: Write) -> None:
        if write.number > self.number:
            self.number = write.number
            self.taken += texts(write)
            self.numbers += [write.number] * len(write.outputs)

    def forget(self, back_to: int) -> None:
        kept = [i for i, number in enumerate(self.numbers) if number <= back_to]
        self.taken = [self.taken[i] for i in kept]
        self.numbers = [self.numbers[i] for i in kept]
        self.number = back_to


def publish(box: Outbox, stream: Stream, now_s: float = 0.0) -> None:
    while box:
        stream.write(box.take())
        box.done(now_s)


def begun(published: int = 0) -> Outbox:
    box = Outbox(LIMIT)
    assert not box.resume(Published(published), False, 0.0)
    return box


def test_entries_leave_in_order_and_writes_are_numbered_from_what_redis_has() -> None:
    box, stream = begun(41), Stream(number=41)
    for text in "abc":
        box.put(entry(text))
    publish(box, stream)
    box.put(entry("d"))
    publish(box, stream)

    assert (stream.taken, stream.number) == (list("abcd"), 43)
    assert box.size_bytes == 0


def test_a_write_is_bounded_in_entries_and_in_bytes() -> None:
    box = begun()
    for number in range(200):
        box.put(entry(str(number)))
    assert len(box.take().outputs) == 64
    box = begun()
    for number in range(10):
        box.put(entry(str(number), 400_000))
    assert len(box.take().outputs) == 3


def test_an_entry_that_is_larger_than_a_write_may_be_goes_alone() -> None:
    box = begun()
    for text in "ab":
        box.put(entry(text, 3_000_000))
    assert texts(box.take()) == ["a"]


def test_a_write_whose_fate_is_unknown_is_done_again_with_the_same_number() -> None:
    box = begun()
    box.put(entry("a"))
    first = box.take()
    box.put(entry("b"))

    assert box.take() is first


@pytest.mark.parametrize("arrived", [True, False])
def test_after_a_lost_reply_nothing_is_missing_and_nothing_doubled(arrived: bool) -> None:
    box, stream = begun(), Stream()
    box.put(entry("a"))
    publish(box, stream)
    box.put(entry("b"))
    write = box.take()
    if arrived:
        stream.write(write)
    box.put(entry("c"))

    assert box.resume(Published(stream.number), True, 0.0)
    publish(box, stream)
    assert stream.taken == list("abc")
    assert box.size_bytes == 0


def test_an_outage_before_the_first_write_costs_nothing() -> None:
    box, stream = begun(), Stream()
    box.put(entry("a"))

    assert box.resume(Published(0), True, 0.0)
    publish(box, stream)
    assert stream.taken == ["a"]


def test_where_somebody_else_has_published_what_waits_is_dropped() -> None:
    box, stream = begun(), Stream()
    box.put(entry("a"))
    publish(box, stream)
    box.put(entry("b"))
    box.take()

    assert not box.resume(Published(2), False, 0.0)  # even with the very number of our write
    assert not box
    assert box.size_bytes == 0
    box.put(entry("c"))
    assert box.take().number == 3


def test_a_new_process_starts_behind_what_redis_has() -> None:
    box = Outbox(LIMIT)
    box.put(entry("left from before we began"))

    assert not box.resume(Published(7), True, 0.0)
    assert not box


def test_what_redis_has_forgotten_since_it_confirmed_it_is_written_again() -> None:
    box, stream = begun(), Stream()
    for second, text in enumerate("abcd"):
        box.put(entry(text))
        publish(box, stream, second * 0.5)
    box.put(entry("e"))
    box.take()
    box.put(entry("f"))
    stream.forget(back_to=2)

    assert box.resume(Published(stream.number), True, 2.0)
    publish(box, stream, 2.0)
    assert stream.taken == list("abcdef")
    assert box.size_bytes == 0


def test_what_was_confirmed_too_long_ago_is_a_hole() -> None:
    box, stream = begun(), Stream()
    for second, text in enumerate("abcdefgh"):
        box.put(entry(text))
        publish(box, stream, 3.0 * second)
    stream.forget(back_to=1)

    assert not box.resume(Published(stream.number), True, 22.0)
    assert not box


def test_in_a_flood_nothing_is_remembered_and_after_it_again() -> None:
    box, stream = begun(), Stream()
    for number in range(70):
        box.put(entry(str(number), 1_000_000))
        publish(box, stream, number / 100)
    assert not box.resume(Published(69), True, 0.7)

    box, stream = begun(), Stream()
    for number in range(40):
        box.put(entry(str(number), 1_000_000))
        publish(box, stream, float(number))
    assert box.resume(Published(40 - 2), True, 40.0)


def test_what_is_remembered_of_a_stream_is_what_came_after_an_entry_under_the_ids_it_got() -> None:
    box = begun()
    for number in range(5):
        box.put(entry(str(number)))
        box.put(Output("events", {b"text": "an event"}))
        box.take()
        box.done(3.0 * number, [f"{number}-1", f"{number}-7"])

    assert box.forgotten == "0-1"  # more than ten seconds ago
    assert [(each.id, each.fields[b"text"]) for each in box.remembered("ticks:{0}", "0-0")] == [
        ("1-1", "1"), ("2-1", "2"), ("3-1", "3"), ("4-1", "4")
    ]  # fmt: skip
    assert [each.id for each in box.remembered("ticks:{0}", "3-0")] == ["3-1", "4-1"]


def test_what_was_taken_without_a_reply_is_not_remembered() -> None:
    box = begun()
    box.put(entry("a"))
    box.take()
    assert box.resume(Published(1, "5-0"), True, 0.0)

    assert (box.forgotten, box.remembered("ticks:{0}", "0-0")) == ("5-0", [])


def test_an_emptied_redis_gets_everything_that_is_still_remembered() -> None:
    box, stream = begun(), Stream()
    for text in "abc":
        box.put(entry(text))
    publish(box, stream)
    box.put(entry("d"))

    assert box.resume(Published(0), True, 0.0)
    fresh = Stream()
    publish(box, fresh)
    assert fresh.taken == list("abcd")


def test_a_redis_that_knows_more_than_we_have_written_is_somebody_elses_work() -> None:
    box = begun()
    box.put(entry("a"))
    assert not box.resume(Published(5), True, 0.0)


def test_it_is_full_at_its_limit_and_still_takes_marks() -> None:
    box = Outbox(10_000)
    box.put(entry("a", 9_000))
    assert not box.full
    box.put(entry("b", 1_000))
    assert box.full
    box.put(entry("mark"))
    assert texts(box.take()) == ["a", "b", "mark"]


def test_it_is_congested_only_while_redis_takes_something() -> None:
    box = Outbox(100 << 20)
    box.put(entry("a"))
    box.take()
    box.done(0.0)
    box.put(entry("b", 9 << 20))
    assert box.congested
    box.flowing = False
    assert not box.congested


class Life(RuleBasedStateMachine):
    """Processes that publish one after the other, a Redis that loses replies and its newest memory.

    Every entry carries its number. The stream must hold, of each reign (from a hole to the next), all that was put in
    order, none twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.box = Outbox(LIMIT)
        self.now_s = 0.0
        self.next = 0
        self.owner = 0  # whose state Redis has
        self.me = 1
        self.open: list[str] = []  # put in this reign, in order
        self.start = 0  # where this reign's entries begin in the stream
        self.broken = True  # nothing is written before `resume`

    def resume(self) -> None:
        ours = self.owner == self.me
        continues = self.box.resume(Published(self.stream.number), ours, self.now_s)
        if not continues:
            self.open, self.start = [], len(self.stream.taken)
        self.owner, self.broken = self.me, False

    @rule()
    def come_back(self) -> None:
        self.resume()

    @rule(size=st.integers(0, 300_000))
    def put(self, size: int) -> None:
        self.box.put(entry(str(self.next), size))
        self.open.append(str(self.next))
        self.next += 1

    @precondition(lambda self: not self.broken and self.box)
    @rule(reply=st.sampled_from(["comes", "is lost", "is lost with the write"]))
    def write(self, reply: str) -> None:
        write = self.box.take()
        if reply != "is lost with the write":
            self.stream.write(write)
        if reply == "comes":
            self.box.done(self.now_s)
        else:
            self.broken = True

    @rule(seconds=st.floats(0.1, 2.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.stream.number > 0)
    @rule(writes=st.integers(1, 5))
    def redis_crashes(self, writes: int) -> None:
        """It comes back with a little less than it had."""
        self.stream.forget(max(0, self.stream.number - writes))
        self.start = min(self.start, len(self.stream.taken))
        self.broken = True

    @rule(writes=st.integers(1, 3))
    def another_process_takes_over(self, writes: int) -> None:
        other = Outbox(LIMIT)
        other.resume(Published(self.stream.number), False, self.now_s)
        self.owner = 0
        for _ in range(writes):
            other.put(entry("theirs"))
            publish(other, self.stream, self.now_s)
        self.broken = True

    @rule()
    def start_a_new_process(self) -> None:
        self.box, self.me, self.open = Outbox(LIMIT), self.me + 1, []
        self.start = len(self.stream.taken)
        self.broken = True

    @invariant()
    def the_stream_has_a_beginning_of_what_was_put(self) -> None:
        if not self.broken:
            ours = self.stream.taken[self.start :]
            assert ours == self.open[: len(ours)]

    @invariant()
    def bytes_add_up(self) -> None:
        if not self.box:
            assert self.box.size_bytes == 0

    def teardown(self) -> None:
        self.resume()
        publish(self.box, self.stream, self.now_s)
        assert self.stream.taken[self.start :] == self.open


Life.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestLife = Life.TestCase
