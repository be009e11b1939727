"""What is told of the book: entries of `orders` and `events`, fields of the hashes `book:*`. Pure."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from bus.inbox import Output
from gtt.book import worth
from gtt.book.book import Book, CommandRecord
from gtt.book.touched import Touched
from gtt.desk import checking
from gtt.desk.here import Here
from schemas import accounts, streams
from schemas.accounts import Account, AccountFunds, BudgetWindow, Holding, StrategyState
from schemas.events import Event, EventKind
from schemas.money import ZERO
from schemas.orders import EntryKind, Position, TradingMode
from schemas.replies import Decision

NAME: Final = "gtt"
_PAISA: Final = Decimal("0.01")

Hashes = dict[str, dict[str, str]]


class Telling:
    """One publication: gathered, then written in one commit."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self.outputs: list[Output] = []
        self.hashes: Hashes = {}
        self.gone: dict[str, list[str]] = {}

    def add(self, n: int, touched: Touched) -> None:
        """What was captured."""
        if touched.body is None:
            return  # it is no more, or is told once a second
        match touched.what:
            case "order":
                self._entry(n, EntryKind.ORDER, streams.BOOK_ORDERS, touched.key, touched.body)
            case "gtt":
                self._entry(n, EntryKind.GTT, streams.BOOK_GTTS, touched.key, touched.body)
            case "fill":
                self._entry(n, EntryKind.FILL, streams.BOOK_FILLS, touched.key, touched.body)
            case "refused":
                self._entry(n, EntryKind.REFUSED, "", touched.key, touched.body)
            case "position":
                self.position(str(n), touched.key, touched.body)
            case "reply":
                self._reply(*touched.body)
            case "alert":
                self.event(EventKind.ALERT, touched.key, touched.body, n)
            case "strategy":
                self._field(streams.BOOK_STRATEGIES, touched.key, touched.body)
            case "gone":
                key = {"order": streams.BOOK_ORDERS, "gtt": streams.BOOK_GTTS, "fill": streams.BOOK_FILLS}
                key["position"] = streams.BOOK_POSITIONS
                self.gone.setdefault(key[touched.body], []).append(touched.key)
            case _:
                pass  # accounts are told once a second

    def _entry(self, n: int, kind: EntryKind, key: str, name: str, model: Any) -> None:
        data = model.model_dump_json()
        entry_id = f"{n}-{kind.value}-{name}" if kind is not EntryKind.FILL else f"{n}-{name}"
        self.outputs.append(Output(streams.ORDERS, {"id": entry_id, "kind": kind.value, "data": data}))
        if key:
            self.hashes.setdefault(key, {})[name] = data

    def _field(self, key: str, name: str, model: Any) -> None:
        self.hashes.setdefault(key, {})[name] = model.model_dump_json()

    def position(self, entry_id: str, name: str, position: Position) -> None:
        data = position.model_dump_json()
        fields = {"id": f"{entry_id}-position-{name}", "kind": EntryKind.POSITION.value, "data": data}
        self.outputs.append(Output(streams.ORDERS, fields))
        self.hashes.setdefault(streams.BOOK_POSITIONS, {})[name] = data

    def accounts(self, halted: str) -> None:
        for mode in self._here.venues:
            self._field(streams.BOOK_ACCOUNTS, mode.value, account_of(self._here, mode, halted))

    def _reply(self, decision: Decision, what: str) -> None:
        words = decision.reason or f"{what} done"
        self.event(EventKind.REPLY, words, decision.model_dump(mode="json"), 0)

    def event(self, kind: EventKind, message: str, data: Mapping[str, Any], n: int) -> None:
        event = Event(kind=kind, ts=self._here.now_ms, worker=NAME, message=message, data=dict(data))
        fields = {"kind": kind.value, "data": event.model_dump_json()}
        if n:
            fields["id"] = f"{NAME}-{n}"
        self.outputs.append(Output(streams.EVENTS, fields))


def captured(here: Here, touched: Iterable[tuple[int, Touched]]) -> list[tuple[int, Touched]]:
    """As things stand now, which the journal is about to know; what is decided afterwards is not told with it."""
    return [(n, one._replace(body=_body(here, one))) for n, one in touched]


def _body(here: Here, touched: Touched) -> Any:
    book, key = here.book, touched.key
    match touched.what:
        case "order":
            return book.orders[key].order if key in book.orders else None
        case "gtt":
            return book.gtts[key].state.gtt if key in book.gtts else None
        case "position":
            return position_of(here, key)
        case "reply":
            held = book.commands.get(key)
            return (decision_of(here, held), held.told.what) if held is not None else None
        case "strategy":
            return strategy_of(here, key)
        case "alert":
            return touched.body or {}
    return touched.body


def latest(touched: Iterable[tuple[int, Touched]]) -> list[tuple[int, Touched]]:
    """Of what was touched several times the last counts; in the order of those last times. Alerts stay apart."""
    last: dict[tuple[Any, ...], tuple[int, Touched]] = {}
    for n, one in touched:
        key = (one.what, one.key, n) if one.what == "alert" else (one.what, one.key)
        last.pop(key, None)
        last[key] = (n, one)
    return list(last.values())


def position_of(here: Here, name: str) -> Position | None:
    mode_word, _, key = name.partition("|")
    mode = TradingMode(mode_word)
    position = here.book.account(mode).positions.get(key)
    if position is None or mode not in here.venues:
        return None
    return worth.shown(position, mode, here.venues[mode].venue, here.price, here.now_ms)


def decision_of(here: Here, held: CommandRecord) -> Decision:
    book, told = here.book, held.told
    return Decision(
        command=told.command,
        ok=held.ok,
        rule=held.rule,
        reason=held.reason,
        orders=tuple(book.orders[each].order for each in told.orders if each in book.orders),
        gtts=tuple(book.gtts[each].state.gtt for each in told.gtts if each in book.gtts),
        positions=tuple(found for each in told.positions if (found := position_of(here, each)) is not None),
        strategy=strategy_of(here, told.strategy) if told.strategy else None,
    )


def strategy_of(here: Here, name: str) -> StrategyState:
    own, effective = checking.switch_of(here, name), checking.effective(here, name)
    held = here.book.strategies.get(name)
    why = "" if own is effective else f"TEJI_MODE is {here.settings.teji_mode.value}"
    return StrategyState(
        strategy=name,
        mode=own,
        effective=effective,
        why=why,
        last_signal_ts=held.last_signal_ts if held else 0,
        signals=held.signals if held else 0,
        ts=held.ts if held else 0,
    )


def account_of(here: Here, mode: TradingMode, halted: str) -> Account:
    book, runtime = here.book, here.runtime[mode]
    account, capital = book.account(mode), here.settings.teji_capital
    tally = worth.tally(account, capital, here.price)
    positions = account.positions.values()
    paper = sum((worth.unrealised(each, here.price) or ZERO for each in positions), ZERO)
    caps = here.scene.limits("").account
    drawdown = 1 - tally.equity / tally.peak_equity if tally.peak_equity > 0 else ZERO
    return Account(
        mode=mode,
        venue=here.venues[mode].venue,
        day=account.day,
        capital=capital,
        equity=tally.equity.quantize(_PAISA),
        peak_equity=tally.peak_equity.quantize(_PAISA),
        realised=sum((each.realised for each in positions), ZERO).quantize(_PAISA),
        unrealised=paper.quantize(_PAISA),
        charges=account.charges,
        day_pnl=tally.day_pnl.quantize(_PAISA),
        drawdown=float(max(ZERO, drawdown)),
        trades=account.trades,
        limits=accounts.Limits(
            position=float(caps.position),
            trade=float(caps.trade_risk),
            day_loss=float(caps.day_loss),
            drawdown=float(caps.drawdown),
            trades=caps.trades,
        ),
        budget=tuple(
            BudgetWindow(seconds=each.seconds, most=each.limit, used=each.used, remaining=each.for_all)
            for each in runtime.budget.remaining(here.now_ms)
        ),
        halted=halted or account.breached,
        reconciling=runtime.reconciling,
        connected=runtime.connected,
        unknown=book.unknown(mode),
        funds=_funds(book, mode),
        holdings=tuple(
            Holding(
                instrument=each.instrument,
                isin=each.isin,
                quantity=each.quantity,
                average_price=each.average_price,
                last_price=here.price(each.instrument) or each.last_price,
            )
            for each in account.holdings
        ),
        ts=here.now_ms,
    )


def _funds(book: Book, mode: TradingMode) -> AccountFunds | None:
    account = book.account(mode)
    if account.funds is None:
        return None
    return AccountFunds(available=account.funds.available, used=account.funds.used, ts=account.funds_ts)


def everything(here: Here) -> Hashes:
    """All hashes anew, for a start."""
    book = here.book
    found: Hashes = {
        streams.BOOK_ORDERS: {
            name: record.order.model_dump_json() for name, record in book.orders.items() if not record.past
        },
        streams.BOOK_GTTS: {name: record.state.gtt.model_dump_json() for name, record in book.gtts.items()},
        streams.BOOK_FILLS: {name: fill.model_dump_json() for name, fill in book.fills.items()},
        streams.BOOK_POSITIONS: {},
        streams.BOOK_STRATEGIES: {
            name: strategy_of(here, name).model_dump_json() for name in {*book.strategies, *here.scene.strategies}
        },
    }
    for mode in here.venues:
        for key in book.account(mode).positions:
            name = f"{mode.value}|{key}"
            if (position := position_of(here, name)) is not None:
                found[streams.BOOK_POSITIONS][name] = position.model_dump_json()
    return found
