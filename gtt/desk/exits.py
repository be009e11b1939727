"""Getting out: cancel all, flatten, the square-off before the close, the unfilled rest of protected orders. Pure.

To flatten is a plan that is kept: first everything that works there is cancelled, then what is held is closed by one
protected order after the other, until nothing is left. An order that does not go away in time does not stop that: the
exit is for what is held now, less what other exits may still take.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from gtt.book import facts
from gtt.book.book import Flatten, OrderRecord, PositionRecord, key_of
from gtt.desk import checking
from gtt.desk import gtts as desk_gtts
from gtt.desk import orders as desk_orders
from gtt.desk.here import Here
from gtt.risk import protect
from gtt.risk import terms as risk_terms
from gtt.risk.limits import Limits
from gtt.risk.squareoff import square_off_ms
from market.instruments import Instrument
from schemas.commands import OrderCancelAll, PositionExit
from schemas.orders import OrderStatus, Product, Side, TradingMode

_PATIENCE_MS: Final = 2_000  # for cancellations, before the exit goes out all the same
_AGAIN_MS: Final = 2_000  # between the exits of one plan, at first
_PATIENT: Final = 5  # doubled so often: to about a minute
_WORKING: Final = (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING)


# Cancel all


def cancel_all(here: Here, command: OrderCancelAll, by: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """GTTs first, or they would place again what is cancelled. Ids of orders and GTTs that were asked."""
    gtts, orders = [], []
    for gtt_id, record in list(here.book.gtts.items()):
        gtt = record.state.gtt
        if gtt.live and _fits(command, gtt.mode, gtt.instrument, gtt.strategy):
            desk_gtts.cancelled(here, record, by)
            gtts.append(gtt_id)
    for held in list(here.book.live()):
        order = held.order
        if held.live and not held.foreign and _fits(command, order.mode, order.instrument, order.strategy):
            desk_orders.cancelled(here, held, by)
            orders.append(order.order_id)
    return tuple(orders), tuple(gtts)


def _fits(command: OrderCancelAll, mode: TradingMode, key: str, strategy: str) -> bool:
    return (
        command.mode in (None, mode)
        and command.instrument_token in (None, key)
        and command.strategy in (None, strategy)
    )


# Flatten


def exit_positions(here: Here, command: PositionExit, by: str) -> tuple[str, ...]:
    """Plans for all positions that fit; their names."""
    planned = []
    for mode in here.venues:
        for key, product in _open_in(here, mode):
            fits = command.mode in (None, mode) and command.instrument_token in (None, key)
            if fits and command.product in (None, product):
                units = _units(here, mode, key, product, command.strategy)
                if units and flatten(here, mode, key, product, by, command.strategy):
                    planned.append(f"{mode.value}|{key_of(key, product)}")
    return tuple(planned)


def _open_in(here: Here, mode: TradingMode) -> list[tuple[str, Product]]:
    """All that has been held today, with what orders have filled and no trade has told yet."""
    found = {(each.instrument, each.product): None for each in here.book.account(mode).positions.values()}
    found |= {(r.order.instrument, r.order.product): None for r in here.book.live(mode) if r.untold}
    return list(found)


def flatten(here: Here, mode: TradingMode, key: str, product: Product, by: str, strategy: str | None) -> bool:
    """Begin a plan; False: one is under way already."""
    if key_of(key, product) in here.book.account(mode).flattening:
        return False
    here.emit(
        facts.FlattenAsked(ts=here.now_ms, account=mode, by=by, instrument=key, product=product, strategy=strategy)
    )
    for gtt_id, record in list(here.book.gtts.items()):
        gtt = record.state.gtt
        same = (gtt.mode, gtt.instrument, gtt.product) == (mode, key, product)
        if gtt.live and same and strategy in (None, gtt.strategy):
            desk_gtts.cancelled(here, here.book.gtts[gtt_id], by)
    for held in list(here.book.working(mode, key, product)):
        if not held.foreign and strategy in (None, held.order.strategy):
            desk_orders.cancelled(here, held, by)
    return True


def go_on(here: Here) -> None:
    """Every plan that is under way."""
    for mode in here.venues:
        for plan in list(here.book.account(mode).flattening.values()):
            _go_on(here, mode, plan)


def _go_on(here: Here, mode: TradingMode, plan: Flatten) -> None:
    key, product = plan.instrument, plan.product
    working = [
        record
        for record in here.book.working(mode, key, product)
        if not record.foreign and plan.strategy in (None, record.order.strategy)
    ]
    units = _units(here, mode, key, product, plan.strategy)
    if not units and not working:
        if _is_unsure(here, mode, plan):
            return
        here.emit(facts.FlattenDone(ts=here.now_ms, account=mode, by=plan.by, instrument=key, product=product))
        return
    others = [record for record in working if not record.order.intent_id.startswith(f"{plan.by}:exit:")]
    if others and here.now_ms - plan.asked_ts < _PATIENCE_MS:
        return
    side = Side.SELL if units > 0 else Side.BUY
    leaving = sum(record.rest for record in working if record.order.side is side)
    if abs(units) > leaving and here.now_ms >= _next_ts(here, plan, key, product):
        _exit(here, mode, plan, (abs(units) - leaving) * (1 if units > 0 else -1))


def _is_unsure(here: Here, mode: TradingMode, plan: Flatten) -> bool:
    """A GTT at the venue that is being cancelled, or of which nobody knows whether it got there, may have bought."""
    for record in here.book.live_gtts(plan.instrument):
        gtt = record.state.gtt
        same = (gtt.mode, gtt.product) == (mode, plan.product) and plan.strategy in (None, gtt.strategy)
        earlier = gtt.created_at // 1000 <= plan.asked_ts
        if same and earlier and (record.call is not None or record.asked is not None):
            return True
    return False


def _tried(here: Here, plan: Flatten, key: str, product: Product) -> Iterator[int]:
    """When the exits of a plan were decided."""
    start = f"{plan.by}:exit:{key_of(key, product)}:"
    return (intent.ts for name, intent in here.book.intents.items() if name.startswith(start))


def _next_ts(here: Here, plan: Flatten, key: str, product: Product) -> int:
    """Each one leaves more time to the next: what the market does not take now it may not take for hours."""
    tried = list(_tried(here, plan, key, product))
    return max(tried) + (_AGAIN_MS << min(len(tried) - 1, _PATIENT)) if tried else 0


def _exit(here: Here, mode: TradingMode, plan: Flatten, units: int) -> None:
    key, product = plan.instrument, plan.product
    number = sum(1 for _ in _tried(here, plan, key, product))
    intent_id = f"{plan.by}:exit:{key_of(key, product)}:{number}"
    strategy = plan.strategy or _holder(here, mode, key, product)
    proposal = checking.exit_proposal(intent_id, mode, key, product, units, strategy)
    verdict = checking.decide(here, proposal)
    if verdict.ok:
        return
    here.alert(
        f"{key}: {abs(units)} units cannot be closed: {verdict.reason}",
        mode,
        once=f"{plan.by}:{key}:{verdict.rule}",
    )


def _holder(here: Here, mode: TradingMode, key: str, product: Product) -> str:
    """Whose the units are, where they are all one's."""
    position = here.book.account(mode).positions.get(key_of(key, product))
    names = list(position.strategies) if position else []
    return names[0] if len(names) == 1 else ""


def _units(here: Here, mode: TradingMode, key: str, product: Product, strategy: str | None) -> int:
    """What is to be closed; of a strategy no more than there is in all."""
    held = here.book.held(mode, key, product)
    if strategy is None:
        return held
    own = checking.held_by(here, mode, key, product, strategy)
    if own * held <= 0:
        return 0
    return min(own, held, key=abs)


# Square-off


def square_off(here: Here) -> None:
    """Positions and entries of products whose time has come, by the minutes of whoever holds them."""
    for mode in here.venues:
        for position in list(here.book.account(mode).positions.values()):
            if position.quantity:
                _square_off(here, mode, position)
        for record in list(here.book.live(mode)):
            order = record.order
            waits = record.live and not record.reduces and not record.foreign and not record.cancel
            if waits and _is_time(here, order.instrument, order.product, order.strategy):
                desk_orders.cancelled(here, record, "the square-off")


def _square_off(here: Here, mode: TradingMode, position: PositionRecord) -> None:
    """Where it is time for all who hold it, in one go; else one after the other."""
    key, product = position.instrument, position.product
    holders = list(position.strategies) or [""]
    due = [name for name in holders if _is_time(here, key, product, name)]
    by = f"squareoff:{mode.value}:{here.today.isoformat()}"
    if due and len(due) == len(holders):
        flatten(here, mode, key, product, by, None)
    elif due:
        name = next((name for name in due if _units(here, mode, key, product, name)), None)
        if name is not None:
            flatten(here, mode, key, product, f"{by}:{name or 'people'}", name)


def _is_time(here: Here, key: str, product: Product, strategy: str) -> bool:
    instrument = here.scene.instrument(key)
    minutes = here.scene.limits(strategy).square_off_min
    at_ms = square_off_ms(key, instrument, product, here.today, minutes, always=here.scene.always_open)
    if at_ms is None or here.market_ms < at_ms or here.scene.always_open:
        return False
    phase, _ = checking.phase_of(here, key, instrument)
    return phase.value == "continuous"


# Protected orders that are not filled


def leftovers(here: Here) -> None:
    """Market orders are limit orders in truth: what stays unfilled is kept, cancelled or moved after the price."""
    for record in (each for mode in here.venues for each in list(here.book.live(mode))):
        if record.protection is None or record.order.status not in _WORKING or record.cancel or record.change:
            continue
        limits = here.scene.limits(record.order.strategy)
        waiting = protect.Waiting(record.working_ts, record.chases, record.rest, record.reduces)
        said = protect.rest(waiting, limits.leftover, limits.leftover_s, here.now_ms)
        if said is protect.Rest.CANCEL:
            desk_orders.cancelled(here, record, f"unfilled after {limits.leftover_s:g} s")
        elif said is protect.Rest.CHASE:
            _chase(here, record, limits)


def _chase(here: Here, record: OrderRecord, limits: Limits) -> None:
    order = record.order
    instrument = here.scene.instrument(order.instrument)
    price = _price_now(here, record, instrument, limits) if instrument is not None else None
    here.emit(
        facts.ChangeAsked(
            ts=here.now_ms,
            account=order.mode,
            order_id=order.order_id,
            by="the price has moved on",
            quantity=order.quantity,
            order_type=order.order_type,
            price=order.price if price is None else price,
            trigger_price=order.trigger_price,
            validity=order.validity,
            chase=True,
        )
    )


def _price_now(here: Here, record: OrderRecord, instrument: Instrument, limits: Limits) -> Decimal | None:
    asked = limits.protection if record.protection is None else record.protection
    market = checking.market_of(here, instrument.key)
    return risk_terms.protected_price(market, instrument, record.order.side, asked, urgent=record.reduces)
