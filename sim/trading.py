"""The user's dealings with the exchange: orders in, fills, positions and funds out.

One user. An order goes through the venue's states at once, and whoever wants to know of them listens; a listener may
place and cancel in turn. What waits is matched when a market interval ends (see `matching`), in the order in which the
interval was made: quotes first, then trades, then the stops that those trades have triggered.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from market.instruments import Instrument
from schemas.errors import Misconfigured
from sim import order_body, phases, rules
from sim.account import Account
from sim.errors import ApiError
from sim.faults import Faults
from sim.floor import Floor
from sim.hours import MINUTE_MS, Hours, day_of
from sim.ledger import Ledger
from sim.market import Market, Update
from sim.matching import Fill
from sim.orders import (
    AFTER_MARKET,
    IOC,
    MARKET,
    STOP,
    STOP_MARKET,
    ZERO,
    ModifyBody,
    Order,
    PlaceBody,
    Status,
    Trade,
    decimal,
)  # fmt: skip
from sim.phases import Stage
from sim.portfolio import Funds, Portfolio
from sim.positions import Holding, Position
from sim.settings import SimSettings

#: Every change, one after the other: a state of an order, a position after a fill, a holding after a sale.
Told = Order | Position | Holding
Listener = Callable[[Told], None]

_SLICES_MAX: Final = 25
_SESSION_OVER: Final = "Cancelled by the exchange at the end of the session"
_AUCTION_BEGINS: Final = "Cancelled by the exchange before the closing auction"
_TURNED_DOWN: Final = "RMS: turned down on demand"


class Trading:
    def __init__(self, settings: SimSettings, hours: Hours, faults: Faults, account: Account, market: Market) -> None:
        self.settings, self.hours, self.faults, self.account, self.market = settings, hours, faults, account, market
        self.ledger = Ledger()
        self.portfolio = Portfolio(settings.funds, holdings=_holdings(settings, market))
        self.floor = Floor(market, faults)
        self._on_the_way: list[tuple[int, str]] = []  # a heap of due, order: accepted, not at the exchange yet
        self._listeners: list[Listener] = []
        self._news: deque[Told] = deque()
        self._telling = False
        self._stepped_ms = market.now_ms
        self._minute = market.now_ms // MINUTE_MS

    # --- what others ask ---------------------------------------------------------------------------------------------

    def listen(self, callback: Listener) -> None:
        """Be told of every change, in the order in which they happen."""
        self._listeners.append(callback)

    def order(self, order_id: str) -> Order | None:
        """Its latest state."""
        return self.ledger.order(order_id)

    def history(self, order_id: str) -> list[Order]:
        return self.ledger.history(order_id)

    def tagged(self, tag: str) -> list[Order]:
        """The latest state of each order with that tag."""
        return self.ledger.tagged(tag)

    def trades_of(self, order_id: str) -> list[Trade]:
        return list(self.ledger.trades.get(order_id, ())) if self.ledger.order(order_id) else []

    def positions(self) -> list[Position]:
        return list(self.portfolio.positions.values())

    def holdings(self) -> list[Holding]:
        return list(self.portfolio.holdings.values())

    def funds(self) -> Funds:
        return self.portfolio.funds(self.ledger.live.values(), self.last)

    def last(self, key: str) -> Decimal:
        """The last price of an instrument; zero for what is not listed."""
        return self.floor.last(key)

    def close(self, key: str) -> Decimal:
        """The last day's close."""
        return self.floor.close(key)

    # --- requests ----------------------------------------------------------------------------------------------------

    def place(self, body: PlaceBody, *, source: str = "api", at_ms: int) -> list[Order]:
        """The orders that the request became (several where it is sliced), each as it stands after it was matched
        at once. What the exchange turns down comes back `rejected`; what the API refuses raises ApiError."""
        instrument = self.instrument(body.instrument_token)
        quantities = slices(body, instrument)
        placed = [self._place(body, instrument, quantity, source, at_ms) for quantity in quantities]
        self._tell()
        return [self.ledger.ever[each][-1] for each in placed]

    def modify(self, body: ModifyBody, *, at_ms: int) -> Order:
        """Raises ApiError for an order that is unknown or finished."""
        order = self._alive(body.order_id, "UDAPI100041", "Modification is not allowed for a finished order")
        order = replace(order, request=order.request + 1)
        wanted = self._rewritten(order, body)
        if order.status in AFTER_MARKET:
            self._put(wanted.became(Status.AFTER_MARKET_MODIFIED, at_ms))
        else:
            alive = order.status
            for status in (Status.MODIFY_PENDING, Status.MODIFY_VALIDATING):
                order = self._put(order.became(status, at_ms))
            if reason := self._why_not_modified(order, wanted, alive, at_ms):
                order = self._put(order.became(Status.NOT_MODIFIED, at_ms, reason))
                self._put(order.became(alive, at_ms))
            else:
                self._put(wanted.became(Status.MODIFIED, at_ms))
                self._reenter(order, wanted, alive, at_ms)
        self._tell()
        return self.ledger.ever[body.order_id][-1]

    def cancel(self, order_id: str, *, at_ms: int) -> Order:
        """Raises ApiError for an order that is unknown or finished."""
        order = self._alive(order_id, "UDAPI100040", "Cancellation is not allowed for a finished order")
        order = replace(order, request=order.request + 1)
        if order.status in AFTER_MARKET:
            self._put(order.became(Status.AFTER_MARKET_CANCELLED, at_ms))
        else:
            alive = order.status
            order = self._put(order.became(Status.CANCEL_PENDING, at_ms))
            if reason := self._why_not_touched(order, at_ms):
                order = self._put(order.became(Status.NOT_CANCELLED, at_ms, reason))
                self._put(order.became(alive, at_ms))
            else:
                self.floor.withdraw(order)
                self._put(order.became(Status.CANCELLED, at_ms))
        self._tell()
        return self.ledger.ever[order_id][-1]

    def convert(self, key: str, old: str, new: str, quantity: int) -> None:
        """Make units of a position, bought (or sold, negative) today, another product's. Raises ApiError."""
        changed = self.portfolio.convert(key, old, new, quantity)
        if not changed:
            raise ApiError(400, "UDAPI1035", "Conversion of the position failed", "quantity", abs(quantity))
        self._news.extend(changed)
        self._tell()

    def instrument(self, key: str) -> Instrument:
        """One that orders may name. Raises ApiError."""
        if key.startswith("MCX_"):
            raise ApiError(400, "UDAPI1161", "Orders in this segment are not allowed by API", "instrument_token", key)
        found = self.market.listing.get(key)
        if found is None or found.is_index:
            raise ApiError(400, "UDAPI100011", "Invalid Instrument key", "instrument_token", key)
        return found

    # --- time --------------------------------------------------------------------------------------------------------

    def step(self, update: Update) -> None:
        """A market interval has ended: match what waits."""
        if self.ledger.live:
            if update.ts // MINUTE_MS != self._minute:
                self._keep_hours(update.ts)
            while self._on_the_way and self._on_the_way[0][0] <= update.ts:
                order_id = heapq.heappop(self._on_the_way)[1]
                if order_id in self.ledger.live:
                    self._arrive(self.ledger.live[order_id], update.ts)
            for auction, fills in self.floor.settled(self._stepped_ms, update.ts):
                self._fill(fills, auction.match_ms)
            self.floor.match(update, lambda fills: self._fill(fills, update.ts))
            for waiting in self.floor.triggered(update):
                self._enter(self.ledger.live[waiting.order_id], update.ts)
            self._tell()
        self._minute, self._stepped_ms = update.ts // MINUTE_MS, update.ts

    def move_to(self, market: Market) -> None:
        """A new trading day."""
        for order in [each for each in self.ledger.live.values() if each.status not in AFTER_MARKET]:
            self._put(order.became(Status.CANCELLED, self._stepped_ms, _SESSION_OVER))
        self.portfolio.next_day(self.last, self._expired(market))
        self.ledger.next_day()
        self.market = market
        self.floor.move_to(market)
        self._tell()

    def _expired(self, market: Market) -> dict[str, Decimal]:
        """What the next day does not list any more, and what it is worth at the end."""
        found = {}
        for position in self.positions():
            each = position.instrument
            if each.key in market.listing.row_of:
                continue
            value = self.last(each.key)
            if each.expiry is not None and each.expiry <= self.market.on:
                spot = self.last(each.underlying_key or "")
                strike = Decimal(str(each.strike or 0))
                value = max(spot - strike if each.instrument_type != "PE" else strike - spot, ZERO)
            found[each.key] = value
        return found

    # --- an order's way to the book ----------------------------------------------------------------------------------

    def _place(self, body: PlaceBody, instrument: Instrument, quantity: int, source: str, at_ms: int) -> str:
        order = Order(
            order_id=self.ledger.next_id(at_ms),
            user_id=self.settings.user_id,
            instrument=instrument,
            transaction_type=body.transaction_type,
            quantity=quantity,
            product=body.product,
            order_type=body.order_type,
            validity=body.validity,
            price=body.price,
            trigger_price=body.trigger_price,
            disclosed_quantity=body.disclosed_quantity,
            tag=body.tag,
            market_protection=body.market_protection,
            limit_price=ZERO,
            status=Status.RECEIVED,
            source=source,
            placed_ms=at_ms,
            at_ms=at_ms,
        )
        self._put(order)
        if self.stage(instrument, at_ms).is_out_of_session:
            self._put(order.became(Status.AFTER_MARKET, at_ms, is_amo=True))
        else:
            self._admit(order, at_ms)
        return order.order_id

    def _admit(self, order: Order, at_ms: int) -> None:
        """To the exchange, in a session."""
        order = replace(order, limit_price=rules.limit_of(order, self.floor.quote(order.instrument)))
        order = self._put(order.became(Status.VALIDATING, at_ms))
        if reason := self._why_rejected(order, at_ms):
            self._put(order.became(Status.REJECTED, at_ms, reason))
            return
        order = self._put(order.became(Status.OPENING, at_ms))
        if self.faults.order_pending_ms:
            heapq.heappush(self._on_the_way, (at_ms + self.faults.order_pending_ms, order.order_id))
        else:
            self._arrive(order, at_ms)

    def _arrive(self, order: Order, at_ms: int) -> None:
        """At the exchange."""
        number = f"1100{self.ledger.next_number():012d}"
        self._open(replace(order, exchange_order_id=number, exchange_ms=at_ms), at_ms)

    def _why_rejected(self, order: Order, at_ms: int) -> str:
        if self.faults.use("order_reject"):
            return _TURNED_DOWN
        instrument = order.instrument
        if self.account.blocks(instrument.segment):
            return f"The kill switch is on for {instrument.segment}"
        if instrument.key not in self.market.listing.row_of:
            return "The instrument is not traded any more"
        late_stops = self.settings.late_stops == "release"
        stage = self.stage(instrument, at_ms)
        return rules.refusal(order, self.floor.quote(instrument), stage, late_stops=late_stops) or self._unaffordable(
            order
        )

    def _unaffordable(self, order: Order, before: Order | None = None) -> str:
        others = [each for each in self.ledger.live.values() if each.order_id != order.order_id]
        return self.portfolio.shortfall(order, before, others, self.last)

    def _open(self, order: Order, at_ms: int) -> None:
        """Into the book, or to the stops."""
        key = order.instrument.key
        stops = order.order_type in (STOP, STOP_MARKET)
        if stops:
            order = self._put(order.became(Status.TRIGGER_PENDING, at_ms))
            if not rules.is_triggered(order, self.last(key)):
                self.floor.wait(order)
                return
        self._enter(order, at_ms)

    def _enter(self, order: Order, at_ms: int) -> None:
        order = self._put(order.became(Status.OPEN, at_ms))
        number, rests = self.ledger.next_number(), order.validity != IOC
        if self.stage(order.instrument, at_ms) is not Stage.CONTINUOUS:
            self.floor.collect(order, number)
            return
        self._fill(self.floor.enter(order, number, rests=rests), at_ms)
        latest = self.ledger.ever[order.order_id][-1]
        if not rests and not latest.is_final:
            self._put(latest.became(Status.CANCELLED, at_ms, "The rest of an IOC order is cancelled"))

    def _fill(self, fills: list[Fill], at_ms: int) -> None:
        for fill in fills:
            price = Decimal(fill.price) / 100
            order = self.ledger.live[fill.order_id]
            # An order may come between the end of an interval and its matching.
            order = self.ledger.filled(order, fill.quantity, price, max(at_ms, order.at_ms))
            position, holding = self.portfolio.traded(order, fill.quantity, price)
            self._news.append(order)
            self._news.append(position)
            if holding is not None:
                self._news.append(holding)

    # --- changes of an order -----------------------------------------------------------------------------------------

    def _rewritten(self, order: Order, body: ModifyBody) -> Order:
        wanted = replace(
            order,
            order_type=body.order_type,
            validity=body.validity,
            price=body.price,
            trigger_price=body.trigger_price,
            quantity=order.quantity if body.quantity is None else body.quantity,
            disclosed_quantity=(
                order.disclosed_quantity if body.disclosed_quantity is None else body.disclosed_quantity
            ),
            market_protection=order.market_protection if body.market_protection is None else body.market_protection,
        )
        if not wanted.market_protection:
            wanted = replace(wanted, market_protection=Decimal(str(self.settings.default_protection)))
        order_body.check_protected(wanted.order_type, wanted.market_protection)
        return replace(wanted, limit_price=rules.limit_of(wanted, self.floor.quote(order.instrument)))

    def _why_not_modified(self, order: Order, wanted: Order, alive: Status, at_ms: int) -> str:
        if reason := self._why_not_touched(order, at_ms):
            return reason
        if alive is Status.OPENING:
            return "The order is not at the exchange yet"
        if wanted.quantity <= order.filled_quantity:
            return f"Quantity {wanted.quantity} is not above the filled quantity {order.filled_quantity}"
        late_stops = alive is Status.OPEN or self.settings.late_stops == "release"
        stage = self.stage(order.instrument, at_ms)
        refusal = rules.refusal(wanted, self.floor.quote(order.instrument), stage, late_stops=late_stops)
        return refusal or self._unaffordable(wanted, order)

    def _why_not_touched(self, order: Order, at_ms: int) -> str:
        if self.faults.use("order_reject"):
            return _TURNED_DOWN
        stage = self.stage(order.instrument, at_ms)
        if stage is Stage.FROZEN or (stage is Stage.LIMITS_ONLY and order.order_type == MARKET):
            return "The order cannot be changed in this phase of the session"
        return ""

    def _reenter(self, order: Order, wanted: Order, alive: Status, at_ms: int) -> None:
        """A smaller quantity keeps its place in the queue; anything else begins again at its end."""
        if _terms(wanted) == _terms(order) and wanted.quantity <= order.quantity:
            self.floor.shrink(self._put(wanted.became(alive, at_ms)))
            return
        self.floor.withdraw(order)
        if alive is Status.OPEN and order.order_type in (STOP, STOP_MARKET) and wanted.order_type == order.order_type:
            self._enter(wanted, at_ms)  # its trigger is behind it
        else:
            self._open(wanted, at_ms)

    def _alive(self, order_id: str, code: str, message: str) -> Order:
        order = self.ledger.order(order_id)
        if order is None:
            raise ApiError(400, "UDAPI100010", f"Unknown order id {order_id}", "order_id", order_id)
        if order.is_final:
            raise ApiError(400, code, message, "order_id", order_id)
        return order

    # --- the market goes on ------------------------------------------------------------------------------------------

    def _keep_hours(self, now_ms: int) -> None:
        """A minute begins: some sessions may have begun or ended."""
        for order in list(self.ledger.live.values()):
            stage = self.stage(order.instrument, now_ms)
            if order.status in AFTER_MARKET:
                if not stage.is_out_of_session and not rules.session_refusal(order, stage):
                    self._admit(order, now_ms)
            elif stage.is_out_of_session or day_of(now_ms) != self.market.on:
                self.floor.withdraw(order)
                self._put(order.became(Status.CANCELLED, now_ms, _SESSION_OVER))
            elif self._dies_before_auction(order, now_ms):
                self.floor.withdraw(order)
                self._put(order.became(Status.CANCELLED, now_ms, _AUCTION_BEGINS))

    def _dies_before_auction(self, order: Order, now_ms: int) -> bool:
        """Neither untriggered stops nor hidden quantities join the closing auction."""
        if not order.waits_for_trigger and not order.disclosed_quantity:
            return False
        starts_ms = phases.closing_auction_from(self.hours, order.instrument, day_of(now_ms))
        return starts_ms is not None and now_ms >= starts_ms

    # --- small things ------------------------------------------------------------------------------------------------

    def stage(self, instrument: Instrument, at_ms: int) -> Stage:
        """What is done with its orders at a moment."""
        found = phases.stage(self.hours, instrument, at_ms)
        if found.is_auction and any(
            each.close_ms <= at_ms <= each.match_ms
            for each in self.market.auctions
            if self.market.listing.instruments[each.row].key == instrument.key
        ):
            return Stage.FROZEN  # it has closed, at a moment of its own choice
        return found

    def _put(self, order: Order) -> Order:
        self.ledger.put(order)
        self._news.append(order)
        return order

    def _tell(self) -> None:
        """Pass on what has happened. What a listener does is told after what it was told of."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._news:
                told = self._news.popleft()
                for listener in self._listeners:
                    listener(told)
        finally:
            self._telling = False


def _terms(order: Order) -> tuple[object, ...]:
    """What decides an order's place in the queue."""
    return order.order_type, order.validity, order.limit_price, order.trigger_price, order.disclosed_quantity


def slices(body: PlaceBody, instrument: Instrument) -> list[int]:
    """The quantities of the orders that a request becomes. Raises ApiError."""
    most = instrument.freeze_quantity // instrument.lot_size * instrument.lot_size
    if not body.slice or not most or body.quantity <= most:
        return [body.quantity]
    full, rest = divmod(body.quantity, most)
    if full + bool(rest) > _SLICES_MAX:
        raise ApiError(400, "UDAPI1118", f"At most {_SLICES_MAX} slices are allowed", "quantity", body.quantity)
    return [most] * full + [rest] * bool(rest)


def _holdings(settings: SimSettings, market: Market) -> dict[str, Holding]:
    found = {}
    for key, quantity in settings.holdings.items():
        row = market.listing.row_of.get(key)
        if row is None:
            raise Misconfigured(f"holdings: {key} is not listed at the simulated exchange")
        cost = decimal(float(market.cp[row]))
        found[key] = Holding(instrument=market.listing.instruments[row], quantity=quantity, average_price=cost)
    return found
