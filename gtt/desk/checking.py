"""From a wish to a decision: gathers what the risk check has to know, asks it, and writes down what it said. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from brokers.upstox.egress import is_loopback
from brokers.venue import NewOrder
from gtt.book import facts, worth
from gtt.book.book import OrderRecord
from gtt.desk.effects import AskMargin
from gtt.desk.here import Here, decimal_of
from gtt.risk import risk
from gtt.risk.types import Check, Market, Origin, Proposal, Standing, Units
from market import sessions
from market.instruments import Instrument, class_of, trading_hours
from market.sessions import Phase
from schemas.errors import Misconfigured, Rejected
from schemas.money import ZERO
from schemas.orders import (
    Order,
    OrderStatus,
    OrderType,
    Product,
    Refusal,
    Side,
    StrategyMode,
    TradingMode,
    order_id_of,
)

_RANK = ("off", "paper", "shadow", "live")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`orders`: ids of what was approved; none: refused, by `rule`."""

    orders: tuple[str, ...] = ()
    rule: str = ""
    reason: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.orders)


def decide(here: Here, proposal: Proposal, *, gtt_id: str = "", command: str = "") -> Verdict:
    """Check a proposal; approved or refused, it is a fact from now on."""
    said = examine(here, proposal)
    here.margins.pop(proposal.intent_id, None)
    if isinstance(said, risk.Refused):
        return refuse(here, proposal, said.rule, said.reason, said.checks, gtt_id=gtt_id, command=command)
    return _approve(here, said, gtt_id, command)


def examine(here: Here, proposal: Proposal) -> risk.Approved | risk.Refused:
    """What the check says; nothing comes of it."""
    limits = here.scene.limits(proposal.strategy)
    return risk.check(proposal, market_of(here, proposal.instrument), standing_of(here, proposal), limits)


def waits_for_margin(here: Here, proposal: Proposal) -> bool:
    """Whether the venue is to be asked first what an entry needs; asks. Where it does not say, our estimate counts."""
    intent_id = proposal.intent_id
    if proposal.reduces or not here.venues[proposal.mode].margin_check or intent_id in here.margins:
        return False
    if intent_id in here.asking_margin:
        return True
    if isinstance(examine(here, proposal), risk.Refused):
        return False
    order = NewOrder(
        order_id=order_id_of(intent_id),
        instrument=proposal.instrument,
        side=proposal.side,
        quantity=proposal.quantity,
        product=proposal.product,
        order_type=OrderType.LIMIT,
        price=proposal.price or here.price(proposal.instrument) or ZERO,
        trigger_price=proposal.trigger_price,
        validity=proposal.validity,
    )
    here.asking_margin.add(intent_id)
    here.want(AskMargin(proposal.mode, intent_id, order))
    return True


def examine_ahead(here: Here, proposal: Proposal) -> risk.Approved | risk.Refused:
    """What the check would say of an order that leaves some day at its own price, whatever the market does now."""
    market = replace(
        market_of(here, proposal.instrument),
        ltp=proposal.price,
        bid=None,
        ask=None,
        band=None,
        phase=Phase.CONTINUOUS,
        part=None,
        is_open=True,
        age_ms=0,
        closes_ms=None,
    )
    return risk.check(proposal, market, standing_of(here, proposal), here.scene.limits(proposal.strategy))


def examine_change(here: Here, proposal: Proposal, record: OrderRecord) -> risk.Approved | risk.Refused:
    """The same for new terms of an order that works already: it does not stand in its own way, neither with what waits
    nor with what is filled, as the new quantity has that in it."""
    standing = standing_of(here, proposal)
    own = standing.own_units if proposal.strategy == record.order.strategy else None
    standing = replace(
        standing,
        units=_without(standing.units, record),
        own_units=standing.own_units if own is None else _without(own, record),
    )
    limits = here.scene.limits(proposal.strategy)
    return risk.check(proposal, market_of(here, proposal.instrument), standing, limits)


def _without(units: Units, record: OrderRecord) -> Units:
    order = record.order
    net = units.net - order.side.sign * order.filled_quantity
    if order.side is Side.BUY:
        return replace(units, net=net, buying=max(0, units.buying - record.rest))
    return replace(units, net=net, selling=max(0, units.selling - record.rest))


def refuse(
    here: Here,
    proposal: Proposal,
    rule: str,
    reason: str,
    checks: tuple[Check, ...] = (),
    *,
    gtt_id: str = "",
    command: str = "",
) -> Verdict:
    refusal = Refusal(
        intent_id=proposal.intent_id,
        rule=rule,
        reason=reason,
        instrument=proposal.instrument,
        side=proposal.side,
        quantity=proposal.quantity,
        mode=proposal.mode,
        strategy=proposal.strategy,
        ts=here.now_ms,
    )
    here.emit(
        facts.Refused(
            ts=here.now_ms,
            account=proposal.mode,
            refusal=refusal,
            gtt_id=gtt_id,
            checks=written(checks),
            command=command,
        )
    )
    return Verdict((), rule, reason)


def _approve(here: Here, said: risk.Approved, gtt_id: str, command: str) -> Verdict:
    proposal = said.proposal
    orders = tuple(
        Order(
            order_id=order_id_of(proposal.intent_id, number),
            gtt_id=gtt_id,
            intent_id=proposal.intent_id,
            instrument=proposal.instrument,
            side=proposal.side,
            quantity=quantity,
            price=said.price,
            trigger_price=said.trigger_price,
            order_type=said.order_type,
            product=said.product,
            validity=said.validity,
            status=OrderStatus.CHECKED,
            mode=proposal.mode,
            strategy=proposal.strategy,
            venue=here.venues[proposal.mode].venue,
            created_ts=here.now_ms,
            ts=here.now_ms,
        )
        for number, quantity in enumerate(said.slices)
    )
    limits = here.scene.limits(proposal.strategy)
    protection = None
    if said.protected:
        protection = limits.protection if proposal.protection is None else proposal.protection
    here.emit(
        facts.Approved(
            ts=here.now_ms,
            account=proposal.mode,
            intent_id=proposal.intent_id,
            origin=proposal.origin,
            orders=orders,
            reduces=said.reduces,
            protection=protection,
            reference=here.price(proposal.instrument),
            checks=written(said.checks),
            command=command,
        )
    )
    return Verdict(tuple(order.order_id for order in orders))


def written(checks: tuple[Check, ...]) -> tuple[dict[str, Any], ...]:
    return tuple({"rule": each.rule, "verdict": each.verdict, "values": each.values} for each in checks)


# What the check has to know


def market_of(here: Here, key: str) -> Market:
    quote, instrument = here.scene.quote(key), here.scene.instrument(key)
    now_ms = here.market_ms
    phase, closes_ms = phase_of(here, key, instrument)
    part = None
    if phase in (Phase.PRE_OPEN, Phase.CLOSING_AUCTION) and instrument is not None:
        part = _part(here, key, instrument)
    underlying = instrument.underlying_key if instrument is not None else None
    return Market(
        now_ms=now_ms,
        instrument=instrument,
        ltp=decimal_of(quote.ltp) if quote else None,
        bid=decimal_of(quote.bid) if quote else None,
        ask=decimal_of(quote.ask) if quote else None,
        cp=decimal_of(quote.cp) if quote else None,
        band=here.scene.band(key),
        underlying_ltp=here.price(underlying) if underlying else None,
        phase=phase,
        part=part,
        is_open=phase in (Phase.CONTINUOUS, Phase.PRE_OPEN, Phase.CLOSING_AUCTION),
        age_ms=max(0, now_ms - quote.ts_ms) if quote else None,
        closes_ms=closes_ms,
    )


def phase_of(here: Here, key: str, instrument: Instrument | None) -> tuple[Phase, int | None]:
    """By the calendar. What it does not cover is closed: a wrong `open` sends orders."""
    now_ms, always = here.market_ms, here.scene.always_open
    on = sessions.trading_date(now_ms)
    try:
        phase = sessions.phase_at(sessions.segment_of(key), class_of(instrument, on, always=always), now_ms)
    except (Rejected, Misconfigured):
        return Phase.CLOSED, None
    hours = trading_hours(key, instrument, on, always=always)
    closes_ms = next((end for start, end in hours if start <= now_ms < end), None)
    return phase, None if always else closes_ms


def _part(here: Here, key: str, instrument: Instrument) -> sessions.Part | None:
    now_ms = here.market_ms
    on = sessions.trading_date(now_ms)
    for interval in sessions.day(sessions.segment_of(key), class_of(instrument, on, always=False), on):
        if interval.start_ms <= now_ms < interval.end_ms:
            parts = sessions.auction_parts(interval)
            return next((each.part for each in parts if each.start_ms <= now_ms < each.end_ms), None)
    return None


def standing_of(here: Here, proposal: Proposal) -> Standing:
    mode, strategy = proposal.mode, proposal.strategy
    account, runtime = here.book.account(mode), here.runtime[mode]
    limits, capital = here.scene.limits(strategy), here.settings.teji_capital
    funds = account.funds
    return Standing(
        capabilities=here.venues[mode],
        ceiling=here.settings.teji_mode,
        capital=capital,
        tally=worth.tally(account, capital, here.price),
        own_tally=worth.own_tally(account, strategy, capital * limits.share, here.price) if strategy else None,
        units=units_of(here, mode, proposal.instrument, proposal.product),
        own_units=own_units(here, mode, proposal.instrument, proposal.product, strategy),
        switch=switch_of(here, strategy) if strategy else None,
        venue_opted_in=_is_named(here),
        egress=here.scene.egress,
        halted=here.book.halted or account.breached or None,
        reconciling=runtime.reconciling,
        budget=runtime.budget,
        now_ms=here.now_ms,
        queued_writes=queued(here, mode),
        funds=funds.available if funds is not None else None,
        margin=here.margins.get(proposal.intent_id),
    )


def _is_named(here: Here) -> bool:
    """Whether somebody has said which venue gets live orders. On this machine it is the simulated one: no money."""
    settings = here.settings
    return "teji_venue" in settings.model_fields_set or is_loopback(settings.upstox_order_url)


def units_of(here: Here, mode: TradingMode, key: str, product: Product) -> Units:
    """Holdings count as held: they may be sold, once. What was bought with us yesterday is both."""
    account = here.book.account(mode)
    net = here.book.held(mode, key, product)
    kept = sum(h.quantity for h in account.holdings if h.instrument == key) if product is Product.DELIVERY else 0
    if kept:  # what is sold today stays a holding until it is delivered
        position = account.positions.get(f"{key}|{product.value}")
        untold = net - position.quantity if position else net
        of_today = untold + (position.buy_quantity - position.sell_quantity if position else 0)
        net = max(net, kept + min(0, of_today, net))
    buying, selling = (here.book.on_the_way(mode, key, product, side) for side in (Side.BUY, Side.SELL))
    return Units(net=net, buying=buying, selling=selling)


def own_units(here: Here, mode: TradingMode, key: str, product: Product, strategy: str) -> Units:
    net, way = held_by(here, mode, key, product, strategy), {Side.BUY: 0, Side.SELL: 0}
    for record in here.book.working(mode, key, product):
        if record.order.strategy == strategy:
            way[record.order.side] += record.rest
    return Units(net=net, buying=way[Side.BUY], selling=way[Side.SELL])


def held_by(here: Here, mode: TradingMode, key: str, product: Product, strategy: str) -> int:
    position = here.book.account(mode).positions.get(f"{key}|{product.value}")
    units = position.strategies.get(strategy, 0) if position else 0
    for record in here.book.live(mode):
        order = record.order
        if order.strategy == strategy and order.instrument == key and order.product is product:
            units += order.side.sign * record.untold
    return units


def switch_of(here: Here, strategy: str) -> StrategyMode:
    """A person's word, else the file's."""
    held = here.book.strategies.get(strategy)
    return held.mode if held is not None and held.mode is not None else here.scene.limits(strategy).mode


def effective(here: Here, strategy: str) -> StrategyMode:
    """Its own switch, capped by TEJI_MODE."""
    own, ceiling = switch_of(here, strategy), here.settings.teji_mode
    return own if _RANK.index(own.value) <= _RANK.index(ceiling.value) else StrategyMode(ceiling.value)


def queued(here: Here, mode: TradingMode) -> int:
    return sum(record.order.status is OrderStatus.CHECKED for record in here.book.live(mode))


def exit_proposal(intent_id: str, mode: TradingMode, key: str, product: Product, units: int, strategy: str) -> Proposal:
    """Close so many units (their sign is the position's) at the market, protected."""
    return Proposal(
        intent_id=intent_id,
        instrument=key,
        side=Side.SELL if units > 0 else Side.BUY,
        quantity=abs(units),
        product=product,
        order_type=OrderType.MARKET,
        mode=mode,
        origin=Origin.EXIT,
        strategy=strategy,
        reduces=True,
    )
