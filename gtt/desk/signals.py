"""What a strategy says becomes a guarded order: sized, with stop and target where they are known. Pure.

A signal against what the strategy holds closes it and opens nothing: the other side takes another signal.
"""

from collections.abc import Iterable
from decimal import Decimal

from gtt.desk import checking
from gtt.desk import exits as desk_exits
from gtt.desk import gtts as desk_gtts
from gtt.desk import waits as desk_waits
from gtt.desk.here import Here
from gtt.risk import risk
from gtt.risk import terms as risk_terms
from gtt.risk.limits import Limits
from gtt.risk.sizing import Levels, Wish, levels, size, tick_of, to_tick
from gtt.risk.types import Origin, Proposal
from market.instruments import Instrument
from schemas.gtt import GttBody, GttType, Leg, Rule, TriggerType
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode
from schemas.signals import Signal, SignalSide


def intent_of(signal: Signal) -> str:
    return f"signal:{signal.id}"


def waits(here: Here, signal: Signal, entry_ms: int) -> bool:
    """Whether an entry is better decided in a moment: the books are being compared, its price or its limits are being
    fetched; and it is young."""
    mode = checking.effective(here, signal.strategy)
    if mode is StrategyMode.OFF or TradingMode(mode.value) not in here.venues:
        return False
    account = TradingMode(mode.value)
    if here.now_ms - entry_ms >= here.scene.limits(signal.strategy).intent_s * 500:
        return False
    if here.runtime[account].reconciling:
        return True
    if signal.side is SignalSide.EXIT:
        return False
    name = intent_of(signal)
    if desk_waits.for_price(here, name, signal.instrument, signal.strategy, at_market=True):
        return True
    return desk_waits.for_band(here, name, signal.instrument, account)


def heard(here: Here, signal: Signal, entry_ms: int) -> bool:
    """Decide, once: whatever comes again is left out. False: in a moment, the venue is asked what margin it needs."""
    mode = checking.effective(here, signal.strategy)
    if mode is StrategyMode.OFF or TradingMode(mode.value) not in here.venues:
        _refuse(here, signal, TradingMode.PAPER, "switch", f"the strategy {signal.strategy} is switched off")
        return True
    account = TradingMode(mode.value)
    limits = here.scene.limits(signal.strategy)
    product = _product_held(here, account, signal) or limits.product
    held = checking.held_by(here, account, signal.instrument, product, signal.strategy)
    side = _side(signal, held)
    if signal.side is SignalSide.EXIT:
        _leave(here, signal, account, here.venues)
        return True
    if held * side.sign < 0:
        _leave(here, signal, account, (account,))
        return True
    age_s = (here.now_ms - entry_ms) / 1000
    if age_s > limits.intent_s:
        words = f"the signal is {age_s:.0f} s old: more than {limits.intent_s:g} s make no entry"
        _refuse(here, signal, account, "age", words)
        return True
    return _enter(here, signal, account, limits, side)


def _side(signal: Signal, held: int) -> Side:
    if signal.side is SignalSide.EXIT:
        return Side.SELL if held > 0 else Side.BUY
    return Side(signal.side.value)


def _product_held(here: Here, mode: TradingMode, signal: Signal) -> Product | None:
    for position in here.book.account(mode).positions.values():
        if position.instrument == signal.instrument and position.strategies.get(signal.strategy):
            return position.product
    return None


def _leave(here: Here, signal: Signal, mode: TradingMode, accounts: Iterable[TradingMode]) -> None:
    """Of all these accounts: one that was switched to another mode may hold something in the one that it had before."""
    found = [(each, product) for each in accounts if (product := _stake(here, each, signal)) is not None]
    if not found:
        words = f"the strategy {signal.strategy} holds nothing of {signal.instrument}"
        _refuse(here, signal, mode, "position", words)
        return
    by, key, strategy = intent_of(signal), signal.instrument, signal.strategy
    begun = [desk_exits.flatten(here, each, key, product, by, strategy) for each, product in found]
    if not any(begun):
        _refuse(here, signal, mode, "position", "it is being closed already")


def _stake(here: Here, mode: TradingMode, signal: Signal) -> Product | None:
    """The product of what the strategy holds or has on its way there; None: it has nothing."""
    key, strategy = signal.instrument, signal.strategy
    product = _product_held(here, mode, signal) or here.scene.limits(strategy).product
    waits = any(gtt.state.gtt.strategy == strategy and gtt.state.gtt.mode is mode for gtt in here.book.live_gtts(key))
    working = any(record.order.strategy == strategy for record in here.book.working(mode, key, product))
    return product if waits or working or checking.held_by(here, mode, key, product, strategy) else None


def _enter(here: Here, signal: Signal, mode: TradingMode, limits: Limits, side: Side) -> bool:
    """False: not decided yet."""
    instrument = here.scene.instrument(signal.instrument)
    if instrument is None:
        _refuse(here, signal, mode, "instrument", f"{signal.instrument} is not known to the venue")
        return True
    price = risk_terms.market_price(checking.market_of(here, signal.instrument)) or signal.price
    if price is None:
        _refuse(here, signal, mode, "price", f"no price of {signal.instrument} is known")
        return True
    price = to_tick(price, tick_of(instrument), up=side is Side.SELL)
    bounds = levels(
        limits,
        instrument=instrument,
        side=side,
        price=price,
        stop=signal.stop_loss,
        target=signal.take_profit,
        atr=signal.atr,
    )
    quantity = signal.quantity
    if quantity is None:
        sized = size(limits, _wish(here, signal, instrument, side, price, bounds.stop))
        if not sized.quantity:
            _refuse(here, signal, mode, "size", sized.reason)
            return True
        quantity = sized.quantity
    proposal = Proposal(
        intent_id=intent_of(signal),
        instrument=signal.instrument,
        side=side,
        quantity=quantity,
        product=limits.product,
        order_type=OrderType.MARKET,
        mode=mode,
        strategy=signal.strategy,
        origin=Origin.SIGNAL,
        stop=bounds.stop,
        atr=signal.atr,
    )
    if checking.waits_for_margin(here, proposal):
        return False
    if bounds.stop is None and bounds.target is None:
        checking.decide(here, proposal)
        return True
    said = checking.examine(here, proposal)
    if isinstance(said, risk.Refused):
        checking.refuse(here, proposal, said.rule, said.reason, said.checks)
        return True
    here.margins.pop(proposal.intent_id, None)
    _guarded(here, proposal, price, bounds, checking.written(said.checks))
    return True


def _wish(here: Here, signal: Signal, instrument: Instrument, side: Side, price: Decimal, stop: Decimal | None) -> Wish:
    return Wish(
        instrument=instrument,
        side=side,
        price=price,
        capital=here.settings.teji_capital,
        on=here.today,
        stop=stop,
        atr=signal.atr,
        volatility=signal.volatility,
        win_rate=signal.win_rate,
        payoff=signal.payoff,
        underlying_price=here.price(instrument.underlying_key) if instrument.underlying_key else None,
    )


def _guarded(
    here: Here, proposal: Proposal, price: Decimal, bounds: Levels, checks: tuple[dict[str, object], ...]
) -> None:
    """Entry, stop and target in one: a GTT whose entry goes at once."""
    limits = here.scene.limits(proposal.strategy)
    try:
        body = GttBody(
            type=GttType.MULTIPLE,
            quantity=proposal.quantity,
            rules=_rules(price, bounds, limits),
            product=proposal.product,
            instrument_token=proposal.instrument,
            transaction_type=proposal.side,
            mode=proposal.mode,
            strategy=proposal.strategy,
        )
    except ValueError:
        words = f"stop {bounds.stop} and target {bounds.target} do not fit a {proposal.side.value} at {price}"
        checking.refuse(here, proposal, "levels", words)
        return
    desk_gtts.accepted(here, body, intent_id=proposal.intent_id, mode=proposal.mode, checks=checks)


def _rules(price: Decimal, bounds: Levels, limits: Limits) -> tuple[Rule, ...]:
    """A gap that would reach below nothing is none: so near to zero a stop stays where it is."""
    rules = [_rule(Leg.ENTRY, price, limits.protection)]
    if bounds.target is not None:
        rules.append(_rule(Leg.TARGET, bounds.target, None))
    if bounds.stop is not None:
        gap = bounds.trailing_gap
        rules.append(_rule(Leg.STOPLOSS, bounds.stop, limits.protection, gap if gap and gap < bounds.stop else None))
    return tuple(rules)


def _rule(leg: Leg, price: Decimal, protection: Decimal | None, gap: Decimal | None = None) -> Rule:
    return Rule(
        strategy=leg,
        trigger_type=TriggerType.IMMEDIATE,
        trigger_price=price,
        trailing_gap=gap,
        market_protection=protection,
    )


def _refuse(here: Here, signal: Signal, mode: TradingMode, rule: str, reason: str) -> None:
    limits = here.scene.limits(signal.strategy)
    proposal = Proposal(
        intent_id=intent_of(signal),
        instrument=signal.instrument,
        side=Side.SELL if signal.side is SignalSide.SELL else Side.BUY,
        quantity=signal.quantity or 0,
        product=limits.product,
        order_type=OrderType.MARKET,
        mode=mode,
        strategy=signal.strategy,
        origin=Origin.SIGNAL,
    )
    checking.refuse(here, proposal, rule, reason)
