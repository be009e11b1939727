"""What people and programs ask for: each command is decided once, and answered when what it asked for has its answer.
Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from gtt.book import facts
from gtt.book.book import CommandRecord, OrderRecord
from gtt.book.touched import Touched
from gtt.desk import checking
from gtt.desk import exits as desk_exits
from gtt.desk import gtts as desk_gtts
from gtt.desk import orders as desk_orders
from gtt.desk import waits as desk_waits
from gtt.desk.here import Here
from gtt.risk.types import Origin, Proposal
from schemas.commands import (
    GttCancel,
    GttModify,
    GttPlace,
    OrderCancel,
    OrderCancelAll,
    OrderCommand,
    OrderModify,
    OrderPlace,
    PositionExit,
    StrategySet,
)
from schemas.orders import OrderStatus, OrderType, TradingMode
from schemas.replies import UNKNOWN_ID

_ENTRIES: Final = (OrderPlace, GttPlace)
_WAITING: Final = (OrderStatus.CHECKED, OrderStatus.SENDING)


def intent_of(command: str) -> str:
    return f"command:{command}"


def waits(here: Here, command_id: str, command: OrderCommand, entry_ms: int) -> bool:
    """Whether an entry or a change is better decided in a moment: the books are being compared, its price or its limits
    are being fetched, or the venue is asked what margin it needs; and it is young. What reduces waits for no books."""
    if command_id in here.book.commands or here.now_ms - entry_ms >= here.settings.teji_intent_s * 500:
        return False
    if isinstance(command, OrderModify | GttModify):
        return _is_being_compared(here, command)
    if not isinstance(command, _ENTRIES):
        return False
    mode = mode_of(here, command.mode if isinstance(command, OrderPlace) else command.body.mode)
    runtime = here.runtime.get(mode)
    if runtime is None:
        return False
    name = intent_of(command_id)
    if not isinstance(command, OrderPlace):
        at = command.body.instrument_token
        return runtime.reconciling or desk_waits.for_price(here, name, at, command.body.strategy, at_market=False)
    proposal, at_market = desk_orders.proposal_of(here, command, name, mode), command.order_type is OrderType.MARKET
    if runtime.reconciling and not proposal.reduces:
        return True
    if proposal.reduces and not at_market:
        return False
    if desk_waits.for_price(here, name, proposal.instrument, command.strategy, at_market=at_market):
        return True
    if proposal.reduces:
        return False
    limits = desk_waits.for_band(here, name, proposal.instrument, mode)
    return checking.waits_for_margin(here, proposal) or limits


def _is_being_compared(here: Here, command: OrderModify | GttModify) -> bool:
    if isinstance(command, OrderModify):
        order = here.book.order(command.order_id)
        mode = order.order.mode if order is not None and not order.reduces else None
    else:
        gtt = here.book.gtt(command.body.gtt_order_id)
        mode = gtt.state.gtt.mode if gtt is not None else None
    runtime = here.runtime.get(mode) if mode is not None else None
    return runtime is not None and runtime.reconciling


def obey(here: Here, command_id: str, by: str, command: OrderCommand, entry_ms: int) -> None:
    """Decide. The same command again, after a crash or a repetition, is not decided again."""
    if (held := here.book.commands.get(command_id)) is not None:
        if held.replied and entry_ms > held.ts:  # asked once more, by somebody who has not heard the answer
            here.ledger.tell_again(Touched("reply", command_id))
        return
    told: dict[str, Any] = {"command": command_id, "what": command.kind, "by": by}
    told |= _HANDLERS[type(command)](here, command_id, command, entry_ms)
    here.emit(facts.Commanded(ts=here.now_ms, **told))


def mode_of(here: Here, asked: TradingMode | None) -> TradingMode:
    return here.settings.teji_mode if asked is None else asked


def _no(rule: str, reason: str, **more: Any) -> dict[str, Any]:
    return {"ok": False, "rule": rule, "reason": reason, **more}


def _place(here: Here, command_id: str, command: OrderPlace, entry_ms: int) -> dict[str, Any]:
    mode, intent_id = mode_of(here, command.mode), intent_of(command_id)
    if known := _known(here, intent_id):
        return known
    if mode not in here.venues:
        proposal = _of(command, intent_id, mode)
        return _refused(here, proposal, command_id, *_not_traded(here, mode))
    proposal = desk_orders.proposal_of(here, command, intent_id, mode)
    if why := _too_old(here, proposal, entry_ms):
        return _refused(here, proposal, command_id, "age", why)
    verdict = desk_orders.placed(here, command, intent_id, command_id, mode)
    return {"orders": verdict.orders} if verdict.ok else _no(verdict.rule, verdict.reason)


def _of(command: OrderPlace, intent_id: str, mode: TradingMode) -> Proposal:
    return Proposal(
        intent_id=intent_id,
        instrument=command.instrument_token,
        side=command.transaction_type,
        quantity=command.quantity,
        product=command.product,
        order_type=command.order_type,
        mode=mode,
        strategy=command.strategy,
        origin=Origin.MANUAL,
    )


def _known(here: Here, intent_id: str) -> dict[str, Any]:
    """Decided before, though the command's own record is gone."""
    intent = here.book.intents.get(intent_id)
    if intent is None and intent_id not in here.decided:
        return {}
    if intent is None or intent.refused:
        return _no("decided", "this was decided before: see the journal")
    return {"orders": intent.orders, "gtts": (intent.gtt,) if intent.gtt else ()}


def _not_traded(here: Here, mode: TradingMode) -> tuple[str, str]:
    return "mode", f"the mode is {here.settings.teji_mode.value}, so no {mode.value} order may leave"


def _too_old(here: Here, proposal: Proposal, entry_ms: int) -> str:
    limit_s = here.scene.limits(proposal.strategy).intent_s
    age_s = (here.now_ms - entry_ms) / 1000
    if proposal.reduces or age_s <= limit_s:
        return ""
    return f"it was asked for {age_s:.0f} s ago: more than {limit_s:g} s make no entry"


def _refused(here: Here, proposal: Proposal, command_id: str, rule: str, reason: str) -> dict[str, Any]:
    checking.refuse(here, proposal, rule, reason, command=command_id)
    return _no(rule, reason)


def _modify(here: Here, command_id: str, command: OrderModify, _: int) -> dict[str, Any]:
    record = here.book.order(command.order_id)
    if record is None:
        return _no(UNKNOWN_ID, f"there is no order {command.order_id}")
    rule, reason = desk_orders.modified(here, record, command, intent_of(command_id))
    return {"ok": not rule, "rule": rule, "reason": reason, "orders": (record.order.order_id,)}


def _cancel(here: Here, command_id: str, command: OrderCancel, _: int) -> dict[str, Any]:
    record = here.book.order(command.order_id)
    if record is None:
        return _no(UNKNOWN_ID, f"there is no order {command.order_id}")
    orders = (record.order.order_id,)
    if not record.live:
        return _no("status", f"the order is {record.order.status.value} already", orders=orders)
    desk_orders.cancelled(here, record, intent_of(command_id))
    return {"orders": orders}


def _cancel_all(here: Here, command_id: str, command: OrderCancelAll, _: int) -> dict[str, Any]:
    orders, gtts = desk_exits.cancel_all(here, command, intent_of(command_id))
    return {"orders": orders, "gtts": gtts}


def _exit(here: Here, command_id: str, command: PositionExit, _: int) -> dict[str, Any]:
    positions = desk_exits.exit_positions(here, command, intent_of(command_id))
    desk_exits.go_on(here)
    return {"positions": positions}


def _gtt_place(here: Here, command_id: str, command: GttPlace, entry_ms: int) -> dict[str, Any]:
    body = command.body
    mode, intent_id = mode_of(here, body.mode), intent_of(command_id)
    if known := _known(here, intent_id):
        return known
    proposal = Proposal(
        intent_id=intent_id,
        instrument=body.instrument_token,
        side=body.transaction_type,
        quantity=body.quantity,
        product=body.product,
        order_type=OrderType.LIMIT,
        mode=mode,
        strategy=body.strategy,
        origin=Origin.MANUAL,
    )
    if mode not in here.venues:
        return _refused(here, proposal, command_id, *_not_traded(here, mode))
    if why := _too_old(here, proposal, entry_ms):
        return _refused(here, proposal, command_id, "age", why)
    verdict = desk_gtts.accepted(here, body, intent_id=intent_id, mode=mode, command=command_id)
    return {"gtts": verdict.orders} if verdict.ok else _no(verdict.rule, verdict.reason)


def _gtt_modify(here: Here, command_id: str, command: GttModify, _: int) -> dict[str, Any]:
    record = here.book.gtt(command.body.gtt_order_id)
    if record is None:
        return _no(UNKNOWN_ID, f"there is no GTT {command.body.gtt_order_id}")
    gtts = (record.state.gtt.gtt_order_id,)
    rule, reason = desk_gtts.modified(here, record, command.body, intent_of(command_id))
    return {"ok": not rule, "rule": rule, "reason": reason, "gtts": gtts}


def _gtt_cancel(here: Here, command_id: str, command: GttCancel, _: int) -> dict[str, Any]:
    record = here.book.gtt(command.gtt_order_id)
    if record is None:
        return _no(UNKNOWN_ID, f"there is no GTT {command.gtt_order_id}")
    gtts = (record.state.gtt.gtt_order_id,)
    if not record.state.gtt.live:
        return _no("status", "nothing of this GTT is left to cancel", gtts=gtts)
    desk_gtts.cancelled(here, record, intent_of(command_id))
    return {"gtts": gtts}


def _strategy(here: Here, _: str, command: StrategySet, __: int) -> dict[str, Any]:
    here.emit(facts.StrategySwitched(ts=here.now_ms, strategy=command.strategy, mode=command.mode))
    return {"strategy": command.strategy}


_HANDLERS: Final[Mapping[type, Callable[[Here, str, Any, int], dict[str, Any]]]] = {
    OrderPlace: _place,
    OrderModify: _modify,
    OrderCancel: _cancel,
    OrderCancelAll: _cancel_all,
    PositionExit: _exit,
    GttPlace: _gtt_place,
    GttModify: _gtt_modify,
    GttCancel: _gtt_cancel,
    StrategySet: _strategy,
}


# Answers


def answer(here: Here) -> None:
    """Commands whose orders and GTTs have their answer, or are known to have none for now."""
    for command in here.book.waiting:
        held = here.book.commands[command]
        if held.told.ok and not _is_decided(here, held):
            continue
        ok, rule, reason = _said(here, held)
        here.emit(facts.Replied(ts=here.now_ms, command=command, ok=ok, rule=rule, reason=reason))


def _is_decided(here: Here, held: CommandRecord) -> bool:
    told = held.told
    for order_id in told.orders:
        record = here.book.orders.get(order_id)
        if record is None:
            continue
        if not _is_settled(record, told.what) or _is_doubted(here, record, told.what):
            return False
    return all(desk_gtts.is_decided(here, gtt_id) for gtt_id in told.gtts)


def _is_settled(record: OrderRecord, what: str) -> bool:
    if what == "order.place":
        return record.order.status not in _WAITING
    if what == "order.modify":
        return not record.live or record.change is None
    return not record.live or record.cancel_taken or not record.cancel


def _is_doubted(here: Here, record: OrderRecord, what: str) -> bool:
    """A cancellation that is turned down may have been done before: by one whose answer was lost. The books say so."""
    return what == "order.cancel" and record.live and record.order.order_id in here.asking


def _said(here: Here, held: CommandRecord) -> tuple[bool, str, str]:
    """What came of it at the venue."""
    told = held.told
    if not told.ok:
        return False, told.rule, told.reason
    records = [record for order_id in told.orders if (record := here.book.orders.get(order_id)) is not None]
    if told.what == "order.place" and records and all(_was_rejected(record) for record in records):
        return False, *_code_of(records[0].order.reason)
    if told.what in ("order.modify", "order.cancel") and records and records[0].live:
        record = records[0]
        turned_down = record.order.reason and not record.cancel_taken and not record.order.pending
        if turned_down and record.call is None:
            return False, *_code_of(record.order.reason)
    if told.what == "order.cancel" and records and records[0].order.status is OrderStatus.COMPLETE:
        return False, "status", "the order was complete before it could be cancelled"
    for gtt_id in told.gtts:
        gtt = here.book.gtts.get(gtt_id)
        if gtt is not None and not gtt.ours and gtt.words:
            return False, gtt.code or "venue", gtt.words
        if gtt is not None and told.what == "gtt.place" and not gtt.state.gtt.live and not gtt.state.gtt.entered:
            entry = next((rule for rule in gtt.state.gtt.rules if rule.message), None)
            return False, "entry", entry.message if entry else "its entry failed"
    return True, "", ""


def _was_rejected(record: OrderRecord) -> bool:
    return record.order.status is OrderStatus.REJECTED and not record.order.filled_quantity


def _code_of(reason: str) -> tuple[str, str]:
    code, colon, words = reason.partition(": ")
    return (code, words) if colon and code.isalnum() and code.isupper() else ("venue", reason)
