"""`teji audit orders`: stories from a journal, what is not resolved, and how it is told."""

import asyncio
import csv
import io
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from brokers.venue import VenueOrder
from bus import postgres
from gtt.book import facts
from gtt.book.facts import Fact, What
from gtt.book.rows import Numbered
from gtt.engine.state import GttState
from gtt.journal import PostgresJournal
from gtt.risk.types import Check, Origin, Verdict
from schemas.errors import Misconfigured
from schemas.gtt import Engine, Gtt, GttType, Leg, RuleState, RuleStatus, TriggerType
from schemas.money import Charges
from schemas.orders import (
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Refusal,
    Side,
    TradingMode,
    Validity,
    gtt_id_of,
    order_id_of,
)
from teji import audit_orders, cli
from teji.audit_orders import Options, Report
from teji.audit_orders_stories import PATIENCE_MS
from teji.audit_orders_words import as_dict, in_words, rows
from tests.teji.commands import teji

D = Decimal
ON = date(2026, 11, 19)
START_MS = 1_795_026_600_000  # its midnight, IST
TEN = START_MS + 10 * 3_600_000
END_MS = START_MS + 86_400_000
KEY = "NSE_EQ|INE002A01018"
PAPER = TradingMode.PAPER


class Telling:
    """One order's facts, in the words of the order worker."""

    def __init__(
        self, intent: str, at_ms: int = TEN, mode: TradingMode = PAPER, slices: Sequence[int] = (100,)
    ) -> None:
        self.intent, self.ts, self.mode, self.slices = intent, at_ms, mode, tuple(slices)
        self.ids = [order_id_of(intent, number) for number in range(len(slices))]

    def order(self, number: int = 0, **more: Any) -> Order:
        start: dict[str, Any] = {
            "order_id": self.ids[number], "intent_id": self.intent, "instrument": KEY, "side": Side.BUY,
            "quantity": self.slices[number], "price": D(100), "order_type": OrderType.LIMIT,
            "product": Product.INTRADAY, "status": OrderStatus.CHECKED, "mode": self.mode, "strategy": "orb",
            "venue": "paper", "ts": self.ts,
        }  # fmt: skip
        return Order(**(start | more))

    def approved(self) -> Fact:
        checks = (
            Check("mode", Verdict.PASSED, {"mode": "paper"}),
            Check("price", Verdict.CHANGED, {"price": "0 to 100"}),
            Check("duplicate", Verdict.EXEMPT),
        )
        orders = tuple(self.order(number) for number in range(len(self.slices)))
        return facts.Approved(
            ts=self.ts, account=self.mode, intent_id=self.intent, origin=Origin.SIGNAL, orders=orders, reduces=False,
            checks=tuple(asdict(check) for check in checks),
        )  # fmt: skip

    def call(self, kind: type[Any], after_ms: int, number: int = 0, what: What = What.PLACE, **more: Any) -> Fact:
        made: Fact = kind(
            ts=self.ts + after_ms, account=self.mode, what=what, attempt=1, order_id=self.ids[number], **more
        )
        return made

    def sending(self, after_ms: int = 2, number: int = 0, what: What = What.PLACE) -> Fact:
        request = {"instrument": KEY, "quantity": self.slices[number], "price": "100", "market_protection": None}
        return self.call(facts.Sending, after_ms, number, what, request=request)

    def answered(self, after_ms: int = 40, number: int = 0) -> Fact:
        return self.call(facts.Answered, after_ms, number, venue_id=f"v{self.ids[number][-4:]}", took_ms=38)

    def lost(self, after_ms: int = 5_000) -> Fact:
        return self.call(facts.Lost, after_ms, reason="no answer for 5 s", arrival_ts=self.ts + after_ms + 5_000)

    def seen(self, status: OrderStatus, filled: int = 0, after_ms: int = 60, number: int = 0, words: str = "") -> Fact:
        state = VenueOrder(
            venue_order_id=f"v{self.ids[number][-4:]}", tag=self.ids[number], instrument=KEY, side=Side.BUY,
            quantity=self.slices[number], filled_quantity=filled, average_price=D(100) if filled else D(0),
            price=D(100), trigger_price=D(0), order_type=OrderType.LIMIT, product=Product.INTRADAY,
            validity=Validity.DAY, status=status, words=words or status.value, ts=self.ts + after_ms,
        )  # fmt: skip
        return facts.Seen(
            ts=self.ts + after_ms, account=self.mode, order_id=self.ids[number], state=state, source="stream"
        )

    def filled(self, quantity: int, trade: str = "t1", after_ms: int = 80, number: int = 0) -> Fact:
        fill = Fill(
            fill_id=f"{self.ids[number]}:{trade}", trade_id=trade, order_id=self.ids[number],
            venue_order_id=f"v{self.ids[number][-4:]}", instrument=KEY, side=Side.BUY, quantity=quantity, price=D(100),
            product=Product.INTRADAY, charges=Charges(brokerage=D(20), gst=D("3.60"), total=D("23.60")),
            mode=self.mode, strategy="orb", venue="paper", ts=self.ts + after_ms,
        )  # fmt: skip
        return facts.Filled(ts=self.ts + after_ms, account=self.mode, fill=fill)

    def whole(self) -> list[Fact]:
        """Nothing went wrong."""
        return [
            self.approved(),
            self.sending(),
            self.answered(),
            self.seen(OrderStatus.OPEN),
            self.filled(100),
            self.seen(OrderStatus.COMPLETE, 100, 90),
        ]


def refusal(intent: str, at_ms: int = TEN) -> Fact:
    told = Refusal(
        intent_id=intent, rule="position", reason="a position of Rs 31,200 would be too much", instrument=KEY,
        side=Side.BUY, quantity=312, mode=PAPER, strategy="orb", ts=at_ms,
    )  # fmt: skip
    checks = (asdict(Check("position", Verdict.REFUSED, {"value": "31200"})),)
    return facts.Refused(ts=at_ms, account=PAPER, refusal=told, checks=checks)


def stranger(at_ms: int = TEN) -> Fact:
    order = Telling("venue:live:251119000042", at_ms, TradingMode.LIVE).order(
        venue_order_id="251119000042", status=OrderStatus.IN_FLIGHT, strategy=""
    )
    return facts.Adopted(ts=at_ms, account=TradingMode.LIVE, order=order)


@asynccontextmanager
async def journal(url: str, told: Sequence[Fact]) -> AsyncIterator[str]:
    """These facts, in this order, in a journal."""
    async with postgres.open_pool(url, size=1) as pool:
        await postgres.migrate(pool)
        keeper = PostgresJournal(pool, 1)
        await keeper.claim()
        await keeper.append([Numbered(n, fact) for n, fact in enumerate(told, 1)])
    yield url


async def audited(url: str, told: Sequence[Fact], now_ms: int = TEN + 3_600_000, **options: Any) -> Report:
    async with journal(url, told):
        return await audit_orders.audited(url, Options(**({"on": ON} | options)), now_ms)


def words(report: Report, shown: int = 40, *, whole: bool = False) -> str:
    return "\n".join(in_words(report.stories, report.on, report.mode, report.open_ends, shown, whole=whole))


def whys(report: Report) -> list[str]:
    return [each.why for each in report.open_ends]


async def test_an_order_is_told_from_intent_to_charges(postgres_url: str) -> None:
    one = Telling("signal:orb-17")
    report = await audited(postgres_url, [*one.whole(), refusal("signal:orb-18", TEN + 5)])
    assert whys(report) == []
    text = words(report)
    assert f"{one.ids[0]}  paper, orb  BUY 100 {KEY} I LIMIT 100  complete, 100 at 100" in text
    lines = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("  10:00:00.")]
    assert lines == [
        "approved     2 rules asked; price changed (price 0 to 100)",
        f"sending      place #1 instrument={KEY} price=100 quantity=100",
        f"answered     place #1 v{one.ids[0][-4:]} in 38 ms",
        "seen         open (stream)",
        "filled       100 at 100, trade t1, charges 23.6",
        "seen         complete, 100 filled at 100 (stream)",
        f"signal:orb-18  BUY 312 {KEY}: a position of Rs 31,200 would be too much [position]",
    ]
    assert "charges 23.60 (brokerage 20.00, gst 3.60)" in text
    assert "1  fills: bought for 10000.00, sold for 0.00" in text
    assert "0  unresolved" in text


async def test_one_order_is_told_with_every_rule(postgres_url: str) -> None:
    one, other = Telling("signal:1"), Telling("signal:2", TEN + 1)
    facts_ = [*one.whole(), *other.whole(), refusal("signal:3")]
    async with journal(postgres_url, facts_):
        for wanted in (other.ids[0], f"v{other.ids[0][-4:]}", "signal:2"):
            report = await audit_orders.audited(postgres_url, Options(on=ON, order=wanted), TEN)
            assert list(report.stories.orders) == other.ids
            assert "mode passed (mode paper)" in words(report, whole=True)
        # Without a date its own day is found; not by the venue's id.
        report = await audit_orders.audited(postgres_url, Options(order=other.ids[0]), TEN + 99 * 86_400_000)
        assert (report.on, list(report.stories.orders)) == (ON, other.ids)
        report = await audit_orders.audited(postgres_url, Options(on=ON, order="signal:3"), TEN)
        assert (list(report.stories.orders), len(report.stories.refused)) == ([], 1)
        with pytest.raises(Misconfigured, match="knows no order, GTT or intent signal:4"):
            await audit_orders.audited(postgres_url, Options(on=ON, order="signal:4"), TEN)


async def test_an_account_is_told_alone(postgres_url: str) -> None:
    one, other = Telling("signal:1"), Telling("signal:2", mode=TradingMode.LIVE)
    report = await audited(postgres_url, [*one.whole(), *other.whole()], mode=TradingMode.LIVE)
    assert list(report.stories.orders) == other.ids


async def test_slices_are_orders_of_one_decision(postgres_url: str) -> None:
    one = Telling("signal:1", slices=(100, 40))
    told = [one.approved()]
    for number, quantity in enumerate((100, 40)):
        told += [one.sending(2, number), one.answered(40, number), one.filled(quantity, "t", 80, number)]
    report = await audited(postgres_url, told)
    assert whys(report) == []
    assert [story.record.order.filled_quantity for story in report.stories.orders.values()] == [100, 40]
    assert "2 rules asked, 2 slices" in words(report)
    table = list(rows(report.stories))
    assert [row["step"] for row in table] == ["approved", *["sending", "answered", "filled"] * 2]
    assert [row["order_id"] for row in table] == [one.ids[0]] * 4 + [one.ids[1]] * 3


LATER = PATIENCE_MS + 10_000


@pytest.mark.parametrize(
    ("told", "now_ms", "why"),
    [
        (lambda one: [one.approved()], TEN + 1_000, None),
        (lambda one: [one.approved()], TEN + LATER, "it was approved, and neither sent nor given up"),
        (lambda one: [one.approved(), one.sending()], TEN + LATER, "it was about to be sent, and nothing"),
        (lambda one: [one.approved(), one.sending(), one.lost()], TEN + 6_000, None),
        (
            lambda one: [one.approved(), one.sending(), one.lost()],
            TEN + LATER,
            "no answer came, and nobody has found out whether it arrived",
        ),
        (
            lambda one: [
                one.approved(), one.sending(), one.lost(),
                one.call(facts.Denied, 20_000, books=("orders", "tag")),
                facts.Ended(
                    ts=TEN + 20_001, account=PAPER, order_id=one.ids[0], status=OrderStatus.REJECTED, reason="old"
                ),
            ],
            TEN + LATER,
            None,
        ),
        (
            lambda one: [one.approved(), one.sending(), one.answered()],
            TEN + LATER,
            "the venue took it, and has told nothing of it since",
        ),
        (lambda one: [*one.whole()[:3], one.seen(OrderStatus.OPEN)], TEN + LATER, None),
        (
            lambda one: [*one.whole()[:3], one.seen(OrderStatus.OPEN)],
            END_MS + LATER,
            "the day is over, and it is open as far as anybody knows",
        ),
        (
            lambda one: [*one.whole()[:4], one.seen(OrderStatus.COMPLETE, 100)],
            TEN + LATER,
            "the venue says that 100 are filled, its trades tell 0",
        ),
        (lambda one: [*one.whole(), one.filled(50, "t2", 95)], TEN + 1_000, "150 units were filled of 100"),
        (
            lambda one: [*one.whole()[:4], one.sending(90, what=What.CANCEL)],
            TEN + LATER,
            "nobody knows what became of the request to cancel it",
        ),
        (lambda one: [one.sending()], TEN + 1_000, "something happened to it, and nobody has decided about it"),
        (lambda _: [stranger()], TEN + 1_000, "an order at the venue that no intent of ours explains"),
        (
            lambda _: [
                facts.PositionSeen(
                    ts=TEN, account=PAPER, instrument=KEY, product=Product.INTRADAY, quantity=50, before=40
                )
            ],
            TEN + 1_000,
            "the venue held 50 units, our fills made 40",
        ),
    ],
)  # fmt: skip
async def test_what_is_not_resolved(postgres_url: str, told: Any, now_ms: int, why: str | None) -> None:
    report = await audited(postgres_url, told(Telling("signal:1")), now_ms)
    assert len(whys(report)) == bool(why)
    assert whys(report) == [each for each in whys(report) if each.startswith(why or "?")]
    assert ("UNRESOLVED: " in words(report)) is bool(why and report.stories.orders)


def gtt(gtt_id: str, status: RuleStatus, entered: int) -> GttState:
    rule = RuleState(
        strategy=Leg.ENTRY,
        status=status,
        trigger_type=TriggerType.BELOW,
        trigger_price=D(99),
        transaction_type=Side.BUY,
    )
    return GttState(
        gtt=Gtt(
            gtt_order_id=gtt_id, type=GttType.SINGLE, exchange="NSE_EQ", quantity=100, product=Product.INTRADAY,
            instrument_token=KEY, instrument=KEY, transaction_type=Side.BUY, created_at=TEN * 1000,
            expires_at=END_MS * 1000, rules=(rule,), intent_id="command:9", mode=PAPER, engine=Engine.VENUE,
            entered=entered, live=True, ts=TEN,
        )
    )  # fmt: skip


async def test_a_gtt_is_told_with_its_calls_and_orders(postgres_url: str) -> None:
    of, one = gtt_id_of("command:9"), Telling(f"gtt:{gtt_id_of('command:9')}:ENTRY:1")
    about: dict[str, Any] = {"account": PAPER, "gtt_id": of}
    call = {"what": What.PLACE_GTT, "attempt": 1}
    scheduled, done = gtt(of, RuleStatus.SCHEDULED, 0), gtt(of, RuleStatus.COMPLETED, 100)
    orders = [fact.model_copy(update={"orders": (one.order(gtt_id=of),)}) for fact in one.whole()[:1]]
    told: list[Fact] = [
        facts.GttAccepted(ts=TEN - 86_400_000, intent_id="command:9", state=scheduled, **about),
        facts.Sending(ts=TEN, request={"quantity": 100}, **about, **call),
        facts.Lost(ts=TEN + 1, reason="no answer", arrival_ts=TEN + 2, **about, **call),
        *orders,
        *one.whole()[1:],
        facts.GttChanged(ts=TEN + 99, state=done, why="filled", **about),
    ]
    report = await audited(postgres_url, told)
    assert [(each.of, each.why) for each in report.open_ends] == [
        (of, "nobody knows what became of the request to place it")
    ]
    text = words(report)
    assert f"{of}  paper  BUY 100 {KEY}, watched by venue" in text
    assert "gtt accepted 0 entered, 0 exited; ENTRY SCHEDULED at 99" in text  # the day before
    assert "gtt changed  100 entered, 0 exited; ENTRY COMPLETED at 99 (filled)" in text
    assert f"orders {one.ids[0]}" in text
    async with postgres.open_pool(postgres_url, size=1) as pool:
        await PostgresJournal(pool, 1).append(
            [Numbered(len(told) + 1, facts.Found(ts=TEN + 5, venue_gtt_id="G1", **about))]
        )
    report = await audit_orders.audited(postgres_url, Options(on=ON, order=of), TEN + 3_600_000)
    assert (report.open_ends, list(report.stories.orders)) == ([], one.ids)


async def test_a_long_day_takes_seconds(postgres_url: str) -> None:
    """A thousand orders: read as they come, folded once."""
    told = [fact for number in range(1_000) for fact in Telling(f"signal:{number}", TEN + number).whole()]
    async with journal(postgres_url, told):
        start = time.process_time()
        report = await audit_orders.audited(postgres_url, Options(on=ON), TEN + 3_600_000)
        spent_s = time.process_time() - start
    assert len(report.stories.orders) == 1_000
    assert spent_s < 4


async def test_days_meet_at_midnight_of_india(postgres_url: str) -> None:
    """An order that began the day before, one that ended the day after, and neither day's others."""
    before, after = Telling("signal:1", START_MS - 50, slices=(60, 40)), Telling("signal:2", END_MS - 50)
    other, next_one = Telling("signal:3", START_MS - 5_000), Telling("signal:4", END_MS)
    told = [
        *other.whole(),
        before.approved(), before.sending(1, 1), before.answered(40, 1), before.filled(40, "t", 51, 1),
        *after.whole(), *next_one.whole(),
    ]  # fmt: skip
    report = await audited(postgres_url, told, END_MS + 3_600_000)
    statuses = {order_id: story.record.order.status for order_id, story in report.stories.orders.items()}
    assert statuses[before.ids[1]] is OrderStatus.COMPLETE
    assert statuses[after.ids[0]] is OrderStatus.COMPLETE
    assert not {*other.ids, *next_one.ids} & statuses.keys()


async def test_a_day_without_orders_and_a_database_without_a_journal(postgres_url: str) -> None:
    with pytest.raises(Misconfigured, match="no order journal yet"):
        await audit_orders.audited(postgres_url, Options(on=ON), TEN)
    report = await audited(postgres_url, [])
    assert whys(report) == []
    assert "         0  orders" in words(report)


async def test_only_the_last_orders_are_shown_and_all_are_counted(postgres_url: str) -> None:
    all_ = [Telling(f"signal:{number}", TEN + number) for number in range(5)]
    report = await audited(postgres_url, [fact for one in all_ for fact in one.whole()])
    text = words(report, 2)
    assert "3 orders before these: --list 0 shows them, --json too" in text
    assert [one.ids[0] in text for one in all_] == [False, False, False, True, True]
    assert "5  orders: 5 complete" in text
    assert all(one.ids[0] in words(report, 0) for one in all_)


async def test_the_table_has_every_fact_once_and_nothing_to_compute(postgres_url: str, tmp_path: Path) -> None:
    one = Telling("signal:1")
    bad = one.seen(OrderStatus.CANCELLED, after_ms=60, words='=HYPERLINK("x")')
    report = await audited(postgres_url, [*one.whole()[:3], bad, refusal("signal:2"), stranger()])
    path = tmp_path / "day.csv"
    assert audit_orders.written(report, path) == 6
    table = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert [row["n"] for row in table] == ["1", "2", "3", "4", "5", "6"]
    assert table[3]["words"] == '\'=HYPERLINK("x") (stream)'
    assert json.loads(table[3]["data"])["state"]["words"] == '=HYPERLINK("x")'
    assert (table[1]["time"], table[1]["instrument"], table[1]["quantity"]) == ("10:00:00.002", KEY, "100")
    assert os.listdir(tmp_path) == ["day.csv"]
    with pytest.raises(Misconfigured, match="cannot be written"):
        audit_orders.written(report, tmp_path)


async def test_programs_get_everything(postgres_url: str) -> None:
    one = Telling("signal:1")
    report = await audited(postgres_url, [*one.whole(), refusal("signal:2"), stranger()])
    told = json.loads(json.dumps(as_dict(report.stories, report.on, report.mode, report.open_ends)))
    assert (told["date"], told["mode"], told["right"]) == ("2026-11-19", None, False)
    order = told["orders"][0]
    assert order["order"]["order_id"] == one.ids[0]
    assert [check["rule"] for check in order["checks"]] == ["mode", "price", "duplicate"]
    assert [step["kind"] for step in order["steps"]] == ["sending", "answered", "seen", "filled", "seen"]
    assert order["charges"]["total"] == 23.6
    assert told["refused"][0]["refusal"]["rule"] == "position"
    assert told["unresolved"][0]["mode"] == "live"
    assert told["totals"]["orders"] == {"complete": 1, "in flight": 1}


def run(home: Path, url: str, *args: str) -> Any:
    return teji(home, "audit", "orders", *args, DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:1")


async def test_the_command_ends_with_0_1_or_2(postgres_url: str, tmp_path: Path) -> None:
    one, thread = Telling("signal:1"), asyncio.to_thread
    async with journal(postgres_url, [*one.whole(), stranger(TEN + 86_400_000)]):
        done = await thread(run, tmp_path, postgres_url, "--date", "2026-11-19")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Thursday, 19 November 2026, all accounts\n")
        done = await thread(
            run, tmp_path, postgres_url, "--date", "2026-11-20", "--json", "--csv", str(tmp_path / "a.csv")
        )
        assert done.returncode == 1
        assert json.loads(done.stdout)["unresolved"][0]["why"].startswith("an order at the venue")
        assert "1 facts are in" in done.stderr
    wrong = CliRunner().invoke(cli.app, ["audit", "orders", "--mode", "real"])
    assert wrong.exit_code == 2
    assert "'real' is no mode: there are paper, shadow, live" in wrong.stderr


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"on": "tomorrow"}, "'tomorrow' is no date: write it as 2026-11-20"),
        ({"on": "2999-01-01"}, "2999-01-01 is in the future"),
        ({"mode": "real"}, "'real' is no mode"),
        ({"file": Path("no/such/folder/day.csv")}, "there is no folder"),
    ],
)
def test_wrong_options_are_said(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(audit_orders.WrongUsage, match=why):
        audit_orders.chosen(**({"on": None, "mode": None, "order": "", "file": None} | wrong))
