"""All GTTs of the user: what they wait for, against the very trades that the feed shows; their orders go to `Trading`.

A trigger is looked at when its instrument trades. What fires in an interval is sent at its end, and meets the book as
it stands then: the price that fired it may be gone.
"""

import heapq
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any, Final

import numpy as np

from market.instruments import Instrument
from schemas.gtt import Leg, RuleStatus
from schemas.orders import Side
from sim import gtt as machine
from sim import gtt_body, orders
from sim.errors import ApiError
from sim.gtt import Action, CancelChild, Gtt, PlaceChild, RepriceChild, Rule, Step
from sim.gtt_body import Change, Placement
from sim.gtt_triggers import Name, Triggers
from sim.hours import DAY_MS, day_of, midnight_ms
from sim.market import Market, Update
from sim.orders import ModifyBody, Order, PlaceBody
from sim.rules import Quote, protected_limit, tick_of
from sim.settings import SimSettings
from sim.trading import Told, Trading

log = logging.getLogger("sim.gtt")

_LIFE_DAYS: Final = 365
_LEAST_GAP: Final = Decimal("0.1")  # of the distance between the last price and the stop
_EVER_MAX: Final = 100_000  # finished ones are forgotten beyond that
_INTRADAY: Final = "I"

Publish = Callable[[dict[str, Any]], None]


class GttDesk:
    """One user's. `publish` gets every change, worded for the portfolio stream."""

    def __init__(self, settings: SimSettings, trading: Trading, market: Market, publish: Publish) -> None:
        self.market = market
        self.ever: dict[str, Gtt] = {}
        self.steps: dict[str, list[tuple[int, dict[Leg, RuleStatus]]]] = {}  # at ms: how the rules stood from then on
        self._settings = settings
        self._trading = trading
        self._publish = publish
        self._live: dict[str, None] = {}  # ids, oldest first
        self._parents: dict[str, str] = {}  # order -> GTT
        self._triggers = Triggers()
        self._deadlines: list[tuple[int, str]] = []  # a heap of us, id
        self._count = 0
        trading.listen(self._on_told)

    # --- what the user asks ------------------------------------------------------------------------------------------

    def place(self, asked: Placement, at_ms: int) -> Gtt:
        instrument = self._instrument(asked.instrument_token)
        self._check(instrument, asked.quantity, asked.rules)
        if asked.product == "MTF" and instrument.is_derivative:
            raise gtt_body.wrong("UDAPI1054", "The product is invalid", "product", asked.product)
        if len(self._live) >= self._settings.gtt_limit:
            raise ApiError(400, "UDAPI100010", f"At most {self._settings.gtt_limit} live GTT orders are allowed")
        gtt = Gtt(
            gtt_order_id=self._number(at_ms),
            type=asked.type,
            instrument=instrument,
            product=asked.product,
            side=asked.side,
            quantity=asked.quantity,
            created_us=at_ms * 1_000,
            expires_us=expires_us(asked.product, at_ms),
            rules=machine.rules_of(asked.rules, asked.side),
            arms_on_fill=self._settings.gtt_arms_on == "fill",
        )
        heapq.heappush(self._deadlines, (gtt.expires_us, gtt.gtt_order_id))
        self._keep(gtt, at_ms)
        self._follow(machine.started(gtt), at_ms)
        return self.ever[gtt.gtt_order_id]

    def modify(self, asked: Change, at_ms: int) -> Gtt:
        gtt = self._found(asked.gtt_order_id)
        self._check(gtt.instrument, asked.quantity, asked.rules)
        entered = gtt.entry.status is RuleStatus.COMPLETED
        gtt_body.check_sides(asked.rules, gtt.side, with_entry=not entered)
        if machine.is_open(gtt):
            self._amend(gtt, asked, at_ms)
        else:
            self._follow(machine.rewritten(gtt, asked.type, asked.quantity, asked.rules), at_ms)
        return self.ever[gtt.gtt_order_id]

    def _amend(self, before: Gtt, asked: Change, at_ms: int) -> None:
        """All of it or nothing: where the order at the exchange does not take its new price, the rules stay too."""
        gtt_body.check_open(asked, before)
        try:
            gtt, actions = machine.amended(before, asked.rules)
        except machine.NotLive:
            raise ApiError(400, "UDAPI100041", "The GTT order cannot be modified any more") from None
        self._keep(gtt, at_ms)
        for action in actions:
            try:
                self._act(gtt.gtt_order_id, action, at_ms)
            except ApiError:
                if self.ever[gtt.gtt_order_id] is gtt:
                    self._keep(before, at_ms)
                raise

    def cancel(self, gtt_order_id: str, at_ms: int) -> Gtt:
        self._follow(machine.ended(self._found(gtt_order_id), RuleStatus.CANCELLED), at_ms)
        return self.ever[gtt_order_id]

    def live(self) -> list[Gtt]:
        return [self.ever[number] for number in self._live]

    def _found(self, gtt_order_id: str) -> Gtt:
        """A live one: of a finished one the venue knows nothing any more."""
        if gtt_order_id not in self._live:
            raise gtt_body.wrong("UDAPI100010", "Unknown GTT order", "gtt_order_id", gtt_order_id)
        return self.ever[gtt_order_id]

    def _instrument(self, key: str) -> Instrument:
        if key.startswith("MCX_FO|"):
            raise gtt_body.wrong("UDAPI1161", "Orders in this segment are disabled", "instrument_token", key)
        instrument = self.market.listing.get(key)
        if instrument is None or instrument.is_index:
            raise gtt_body.wrong("UDAPI100011", "Invalid Instrument key", "instrument_token", key)
        return instrument

    def _check(self, instrument: Instrument, quantity: int, rules: tuple[machine.Terms, ...]) -> None:
        if quantity % instrument.lot_size:
            raise gtt_body.wrong("UDAPI1104", "Quantity should be multiple of lot size", "quantity", quantity)
        gtt_body.check_ticks(rules, tick_of(instrument))
        ltp = self._ltp(instrument)
        for place, each in enumerate(rules):
            gap = each.trailing_gap
            if gap is not None and gap < _LEAST_GAP * abs(ltp - each.trigger_price):
                path = f"rules[{place}].trailing_gap"
                raise gtt_body.wrong("UDAPI1151", "The trailing gap is below its minimum", path, float(gap))

    def _ltp(self, instrument: Instrument) -> Decimal:
        return orders.decimal(float(self.market.ltp[self.market.listing.row_of[instrument.key]]))

    def _number(self, at_ms: int) -> str:
        self._count += 1
        return f"GTT-C{day_of(at_ms):%y%m%d}{self._count:08d}"

    # --- what the market does ----------------------------------------------------------------------------------------

    def step(self, update: Update) -> None:
        """An interval has ended."""
        while self._deadlines and self._deadlines[0][0] <= update.ts * 1_000:
            self._expire(heapq.heappop(self._deadlines)[1], update.ts)
        if not len(self._triggers) or not len(update.trades.row):
            return
        market = self.market
        traded = np.zeros(len(market.ltp), np.bool_)
        traded[update.trades.row] = True
        for number, leg in self._triggers.left_behind(traded, market.ltp, market.columns.tick):
            self._trail(self.ever[number], leg, update.ts)
        for number, leg in self._triggers.met(traded, market.ltp):
            if self.ever[number].rule(leg) in self.ever[number].watched():  # not cancelled by the one before
                self._follow(machine.fired(self.ever[number], leg), update.ts)

    def move_to(self, market: Market, at_ms: int) -> None:
        """A new trading day: other rows, the same GTTs. What is no longer listed has expired."""
        self.market = market
        for gtt in self.live():
            instrument = market.listing.get(gtt.instrument.key)
            if instrument is None:
                self._expire(gtt.gtt_order_id, at_ms)
            else:
                self._keep(replace(gtt, instrument=instrument), at_ms)

    def _trail(self, gtt: Gtt, leg: Leg, at_ms: int) -> None:
        rule = gtt.rule(leg)
        price = machine.trailing_stop(rule, self._ltp(gtt.instrument), tick_of(gtt.instrument))
        if price != rule.terms.trigger_price:
            self._keep(machine.trailed(gtt, leg, price), at_ms)

    def _expire(self, number: str, at_ms: int) -> None:
        if number in self._live:
            self._follow(machine.ended(self.ever[number], RuleStatus.EXPIRED), at_ms)

    # --- what its orders do ------------------------------------------------------------------------------------------

    def _on_told(self, told: Told) -> None:
        if isinstance(told, Order) and (number := self._parents.get(told.order_id)):
            self._follow(machine.told(self.ever[number], told), told.at_ms)

    def _follow(self, step: Step, at_ms: int) -> None:
        """Make a step and all that comes of it."""
        gtt, actions = step
        self._keep(gtt, at_ms)
        for action in actions:
            try:
                self._act(gtt.gtt_order_id, action, at_ms)
            except ApiError as error:  # the order ended just now: it has been told
                log.info("%s: %s", gtt.gtt_order_id, error)

    def _act(self, number: str, action: Action, at_ms: int) -> None:
        match action:
            case PlaceChild(leg, quantity):
                self._send(number, leg, quantity, at_ms)
            case CancelChild(order_id):
                self._trading.cancel(order_id, at_ms=at_ms)
            case RepriceChild(leg, order_id):
                gtt = self.ever[number]
                child = self._child(gtt, gtt.rule(leg), gtt.quantity)
                self._trading.modify(
                    ModifyBody(
                        order_id=order_id, order_type=child.order_type, validity=child.validity, price=child.price
                    ),
                    at_ms=at_ms,
                )

    def _send(self, number: str, leg: Leg, quantity: int, at_ms: int) -> None:
        gtt = self.ever[number]
        try:
            order = self._trading.place(self._child(gtt, gtt.rule(leg), quantity), source="gtt", at_ms=at_ms)[-1]
        except ApiError as error:
            self._follow(machine.refused(self.ever[number], leg, error.message), at_ms)
            return
        self._parents[order.order_id] = number
        self._follow(machine.placed(self.ever[number], leg, order), at_ms)

    def _child(self, gtt: Gtt, rule: Rule, quantity: int) -> PlaceBody:
        """A limit order; of a stop an SL one, which waits for its price to come once more."""
        is_stop = rule.leg is Leg.STOPLOSS
        return PlaceBody(
            instrument_token=gtt.instrument.key,
            transaction_type=rule.side.value,
            quantity=quantity,
            product=gtt.product,
            order_type=orders.STOP if is_stop else orders.LIMIT,
            price=self._limit(gtt, rule),
            trigger_price=rule.terms.trigger_price if is_stop else orders.ZERO,
        )

    def _limit(self, gtt: Gtt, rule: Rule) -> Decimal:
        """The trigger price, or so many percent beyond it: not beyond the last price."""
        price, asked = rule.terms.trigger_price, rule.terms.market_protection
        if not asked:
            return price
        market, row = self.market, self.market.listing.row_of[gtt.instrument.key]
        last, low, high = (orders.decimal(float(each[row])) for each in (market.ltp, market.band_low, market.band_high))
        return protected_limit(gtt.instrument, Quote(last, low, high), price, asked, is_buy=rule.side is Side.BUY)

    # --- keeping -----------------------------------------------------------------------------------------------------

    def _keep(self, gtt: Gtt, at_ms: int) -> None:
        """Remember, watch and tell."""
        number = gtt.gtt_order_id
        before = self.ever.get(number)
        self.ever[number] = gtt
        self._watch(before, gtt)
        if gtt.is_live:
            self._live[number] = None
        elif number in self._live:
            del self._live[number]
            self._forget()
        self._tell(before, gtt, at_ms)

    def _tell(self, before: Gtt | None, gtt: Gtt, at_ms: int) -> None:
        if before is not None and _visible(before) == _visible(gtt):
            return
        statuses = {rule.leg: rule.status for rule in gtt.rules}
        if before is None or statuses != {rule.leg: rule.status for rule in before.rules}:
            self.steps.setdefault(gtt.gtt_order_id, []).append((at_ms, statuses))
        self._publish(machine.update(gtt))

    def _watch(self, before: Gtt | None, gtt: Gtt) -> None:
        wanted: dict[Name, Rule] = {(gtt.gtt_order_id, rule.leg): rule for rule in gtt.watched()}
        for rule in before.watched() if before else ():
            if (name := (gtt.gtt_order_id, rule.leg)) not in wanted:
                self._triggers.drop(name)
        row = self.market.listing.row_of.get(gtt.instrument.key)
        if row is None:
            return
        for name, rule in wanted.items():
            terms = rule.terms
            self._triggers.put(name, row, rule.sign, float(terms.trigger_price), float(terms.trailing_gap or 0))

    def _forget(self) -> None:
        while len(self.ever) > _EVER_MAX and (oldest := next(iter(self.ever))) not in self._live:
            gtt = self.ever.pop(oldest)
            del self.steps[oldest]
            for rule in gtt.rules:
                self._parents.pop(rule.order_id or "", None)
        if len(self._deadlines) > 2 * _EVER_MAX:
            self._deadlines = [(gtt.expires_us, gtt.gtt_order_id) for gtt in self.live()]
            heapq.heapify(self._deadlines)


def _visible(gtt: Gtt) -> tuple[Any, ...]:
    """What the venue tells of it."""
    return gtt.type, gtt.quantity, [(each.terms, each.status, each.message, each.order_id) for each in gtt.rules]


def expires_us(product: str, at_ms: int) -> int:
    """23:59:59 IST of the same day, or of the last day of its year."""
    on: date = day_of(at_ms)
    days = 0 if product == _INTRADAY else _LIFE_DAYS
    return (midnight_ms(on) + (days + 1) * DAY_MS - 1_000) * 1_000
