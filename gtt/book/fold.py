"""`apply(book, n, fact)`: the only way in which the book changes. What was touched is told, for whoever publishes it.

An illegal step of an order changes nothing and is told as an alert. Pure.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from gtt.book import facts, fold_accounts, fold_gtts, fold_orders
from gtt.book.book import Book, CommandRecord, Intent, PositionRecord, Switch
from gtt.book.facts import Fact
from gtt.book.fold_accounts import position_name
from gtt.book.touched import Touched
from schemas.orders import FINAL, TradingMode

_KEEP_MS: Final = 2 * 86_400_000  # decisions and answers: whoever asks again within that time is told the same
_WRITES_MS: Final = 1_800_000


def apply(book: Book, n: int, fact: Fact) -> list[Touched]:
    book.n = n
    done: list[Touched] = []
    _FOLDS[type(fact)](book, fact, done)
    return done


def _approved(book: Book, fact: facts.Approved, done: list[Touched]) -> None:
    orders = tuple(order.order_id for order in fact.orders)
    book.intents[fact.intent_id] = Intent(ts=fact.ts, orders=orders, gtt=fact.orders[0].gtt_id)
    fold_orders.approved(book, fact, done)
    _heard(book, fact.intent_id, fact.orders[0].strategy, fact.ts, done)
    if not fact.reduces:
        fold_accounts.traded(book, fact.orders[0].mode, fact.orders[0].strategy)


def _refused(book: Book, fact: facts.Refused, done: list[Touched]) -> None:
    book.intents[fact.refusal.intent_id] = Intent(ts=fact.ts, gtt=fact.gtt_id, refused=True)
    _heard(book, fact.refusal.intent_id, fact.refusal.strategy, fact.ts, done)
    done.append(Touched("refused", fact.refusal.intent_id, fact.refusal))


def _gtt_accepted(book: Book, fact: facts.GttAccepted, done: list[Touched]) -> None:
    _heard(book, fact.intent_id, fact.state.gtt.strategy, fact.ts, done)
    fold_gtts.accepted(book, fact, done)


def _heard(book: Book, intent_id: str, strategy: str, ts: int, done: list[Touched]) -> None:
    """One more signal of a strategy today."""
    if intent_id.startswith("signal:"):
        switch = book.strategies.setdefault(strategy, Switch())
        switch.signals += 1
        switch.last_signal_ts = ts
        done.append(Touched("strategy", strategy))


def _commanded(book: Book, fact: facts.Commanded, _: list[Touched]) -> None:
    book.commands[fact.command] = CommandRecord(ts=fact.ts, told=fact)
    book.wait(fact.command, True)


def _replied(book: Book, fact: facts.Replied, done: list[Touched]) -> None:
    held = book.commands[fact.command]
    held.replied, held.ok, held.rule, held.reason = True, fact.ok, fact.rule, fact.reason
    book.wait(fact.command, False)
    done.append(Touched("reply", fact.command))


def _sending(book: Book, fact: facts.Sending, done: list[Touched]) -> None:
    if fact.account is not None:
        account = book.account(fact.account)
        old = bisect_right(account.writes, fact.ts - _WRITES_MS, key=itemgetter(0))
        del account.writes[:old]
        account.writes.append((fact.ts, fact.reduces))
    _call(book, fact, done)


def _call(book: Book, fact: Any, done: list[Touched]) -> None:
    if fact.order_id:
        fold_orders.call(book, fact, done)
    else:
        fold_gtts.call(book, fact, done)


def _halted(book: Book, fact: facts.Halted, done: list[Touched]) -> None:
    book.halted = fact.why
    done.append(Touched("accounts"))


def _resumed(book: Book, _: facts.Resumed, done: list[Touched]) -> None:
    book.halted = ""
    done.append(Touched("accounts"))


def _switched(book: Book, fact: facts.StrategySwitched, done: list[Touched]) -> None:
    switch = book.strategies.setdefault(fact.strategy, Switch())
    switch.mode, switch.ts = fact.mode, fact.ts
    done.append(Touched("strategy", fact.strategy))


def _day_opened(book: Book, fact: facts.DayOpened, done: list[Touched]) -> None:
    before = {position_name(mode, p.instrument, p.product) for mode, p in _positions(book, fact)}
    fold_accounts.day_opened(book, fact)
    after = {position_name(mode, p.instrument, p.product) for mode, p in _positions(book, fact)}
    done += [Touched("gone", name, "position") for name in sorted(before - after)]
    old = fact.ts - _KEEP_MS
    book.intents = {name: intent for name, intent in book.intents.items() if intent.ts > old}
    book.commands = {name: held for name, held in book.commands.items() if held.ts > old or not held.replied}
    for order_id, record in list(book.orders.items()):
        order = record.order
        if order.mode is not fact.account or order.status not in FINAL or record.untold:
            continue
        if not record.past:
            record.past = True
            done.append(Touched("gone", order_id, "order"))
        elif order.ts < old:
            book.forget(order_id)
    for gtt_id, gtt in list(book.gtts.items()):
        if gtt.state.gtt.mode is fact.account and not gtt.state.gtt.live:
            book.forget_gtt(gtt_id)
            done.append(Touched("gone", gtt_id, "gtt"))
    for fill_id, fill in list(book.fills.items()):
        if fill.mode is fact.account:
            del book.fills[fill_id]
            done.append(Touched("gone", fill_id, "fill"))
    for switch in book.strategies.values():
        switch.signals = 0
    done.append(Touched("accounts"))


def _positions(book: Book, fact: facts.DayOpened) -> list[tuple[TradingMode, PositionRecord]]:
    return [(fact.account, each) for each in book.account(fact.account).positions.values()] if fact.account else []


def _alerted(_: Book, fact: facts.Alerted, done: list[Touched]) -> None:
    about = {"order_id": fact.order_id, "gtt_id": fact.gtt_id, "account": fact.account, **fact.data}
    told = {name: value for name, value in about.items() if value}
    done.append(Touched("alert", fact.message, told))


_FOLDS: Final[Mapping[type, Callable[[Book, Any, list[Touched]], None]]] = {
    facts.Approved: _approved,
    facts.Refused: _refused,
    facts.CancelAsked: fold_orders.cancel_asked,
    facts.ChangeAsked: fold_orders.change_asked,
    facts.Commanded: _commanded,
    facts.Replied: _replied,
    facts.Sending: _sending,
    facts.Answered: _call,
    facts.TurnedDown: _call,
    facts.NotSent: _call,
    facts.Lost: _call,
    facts.Denied: _call,
    facts.Found: fold_gtts.found,
    facts.Seen: fold_orders.seen,
    facts.Filled: fold_orders.filled,
    facts.Adopted: fold_orders.adopted,
    facts.Ended: fold_orders.ended,
    facts.Linked: fold_orders.linked,
    facts.FlattenAsked: fold_accounts.flatten_asked,
    facts.FlattenDone: fold_accounts.flatten_done,
    facts.PositionSeen: fold_accounts.position_seen,
    facts.FundsSeen: fold_accounts.funds_seen,
    facts.GttAccepted: _gtt_accepted,
    facts.GttChanged: fold_gtts.changed,
    facts.GttAsked: fold_gtts.asked,
    facts.GttSeen: fold_gtts.seen,
    facts.Halted: _halted,
    facts.Resumed: _resumed,
    facts.StrategySwitched: _switched,
    facts.DayOpened: _day_opened,
    facts.Marked: fold_accounts.marked,
    facts.Breached: fold_accounts.breached,
    facts.Alerted: _alerted,
}
