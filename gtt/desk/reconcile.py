"""Our book against the venue's: orders, trades, positions, GTTs. What differs becomes facts. Pure.

The venue is the truth about positions. Trades that the stream never told are told here; orders of other origin are
shown and not touched. A position that still differs when all trades are known is taken over as the venue has it: at
once at a start, later only when it differs twice in a row, for a trade may be on its way.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from brokers.venue import VenueOrder, VenuePosition, VenueTrade
from gtt.book import facts
from gtt.book.book import OrderRecord, PositionRecord, key_of
from gtt.desk import orders as desk_orders
from gtt.desk import venue_gtts as desk_venue_gtts
from gtt.desk.effects import Books
from gtt.desk.here import Here
from market import sessions
from schemas.money import ZERO
from schemas.orders import FINAL, OrderStatus, Product, TradingMode

_TWICE: Final = 2
_SETTLED_MS: Final = 5_000  # an order that the venue has just taken may not be on its book yet


def compare(here: Here, books: Books) -> None:
    mode, runtime = books.mode, here.runtime[books.mode]
    _orders(here, mode, books.orders)
    strays = trades(here, mode, books.trades)
    if books.gtts is not None:
        desk_venue_gtts.listed(here, mode, books.gtts, books.asked_ts, with_orders=True)
    _missing(here, books)
    if strays:
        here.alert(f"{len(strays)} trades of orders that the order book does not have", mode, once=strays[0].trade_id)
    else:
        _positions(here, books, first=not runtime.compared)
    if books.funds is not None:
        account = here.book.account(mode)
        if (account.funds, account.holdings) != (books.funds, tuple(books.holdings)):
            here.emit(facts.FundsSeen(ts=here.now_ms, account=mode, funds=books.funds, holdings=tuple(books.holdings)))
    runtime.compared = True
    runtime.reconciling = 0 < runtime.look_ts <= here.now_ms  # asked for again while these were read


def _orders(here: Here, mode: TradingMode, told: Iterable[VenueOrder]) -> None:
    """A day's book is long, and most of it is over: what is told again in the same words is passed over."""
    known, over = here.runtime[mode].over, {}
    for one in told:
        if known.get(one.venue_order_id) == one:
            over[one.venue_order_id] = one
            continue
        desk_orders.told_order(here, mode, one, "order book")
        record = here.book.at_venue(mode, one.venue_order_id) if one.status in FINAL else None
        if record is not None and not record.live and not record.written_off and not record.untold:
            over[one.venue_order_id] = one
    here.runtime[mode].over = over


def trades(here: Here, mode: TradingMode, told: Iterable[VenueTrade]) -> list[VenueTrade]:
    """Take in what is new; returns those of unknown orders. `told`: all of the day."""
    listed = {(trade.venue_order_id, trade.trade_id): trade for trade in told}
    known = here.runtime[mode].traded
    new = sorted((trade for name, trade in listed.items() if name not in known), key=lambda one: one.ts)
    strays = [trade for trade in new if not desk_orders.told_trade(here, mode, trade)]
    stray = {(trade.venue_order_id, trade.trade_id) for trade in strays}
    here.runtime[mode].traded = listed.keys() - stray
    return strays


def _missing(here: Here, books: Books) -> None:
    """Orders that we believe are there, and the book does not have. Of an earlier day: theirs is over."""
    there = {told.venue_order_id for told in books.orders}
    for record in list(here.book.live(books.mode)):
        order = record.order
        if not record.live or not order.venue_order_id or order.venue_order_id in there:
            continue
        if record.call is not None or order.ts > books.asked_ts - _SETTLED_MS:
            continue
        if _day_of(here, record) < here.today.isoformat():
            desk_orders.ended(here, record, OrderStatus.CANCELLED, "its day is over")
        else:
            message = f"order {order.order_id} ({order.status.value}) is not on the venue's book any more"
            here.alert(message, books.mode, once=f"missing:{order.order_id}", order_id=order.order_id)


def _day_of(here: Here, record: OrderRecord) -> str:
    """Of its creation. By the market's time, where the machine's date is another one (a demo, a replay)."""
    lag_ms = here.now_ms - here.market_ms
    return sessions.trading_date(record.order.created_ts - lag_ms).isoformat()


# Positions


def _positions(here: Here, books: Books, *, first: bool) -> None:
    account, runtime = here.book.account(books.mode), here.runtime[books.mode]
    told = {key_of(each.instrument, each.product): each for each in books.positions}
    differing: dict[str, int] = {}
    for key in sorted(told.keys() | account.positions.keys()):
        theirs, ours = told.get(key), account.positions.get(key)
        if not _differs(here, books, theirs, ours):
            continue
        differing[key] = runtime.differing.get(key, 0) + 1
        if first or differing[key] >= _TWICE:
            _adopt(here, books.mode, theirs, ours)
            differing.pop(key)
    runtime.differing = differing
    if differing:
        runtime.look_ts = here.now_ms + 1_000


def _differs(here: Here, books: Books, theirs: VenuePosition | None, ours: PositionRecord | None) -> bool:
    quantity = theirs.quantity if theirs else 0
    believed = ours.quantity if ours else 0
    if quantity == believed:
        return False
    key = theirs.instrument if theirs else ours.instrument if ours else ""
    product = theirs.product if theirs else ours.product if ours else Product.INTRADAY
    if here.book.held(books.mode, key, product) != believed:
        return False  # trades are on their way
    if product is Product.DELIVERY:  # shares that were delivered are holdings, and no position any more
        kept = sum(holding.quantity for holding in books.holdings if holding.instrument == key)
        return believed != quantity + kept and not (not quantity and 0 < believed <= kept)
    return True


def _adopt(here: Here, mode: TradingMode, theirs: VenuePosition | None, ours: PositionRecord | None) -> None:
    key = theirs.instrument if theirs else ours.instrument if ours else ""
    product = theirs.product if theirs else ours.product if ours else Product.INTRADAY
    quantity = theirs.quantity if theirs else 0
    before = ours.quantity if ours else 0
    here.alert(f"{key}: the venue has {quantity} units, we believed {before}: theirs count", mode, instrument=key)
    here.emit(
        facts.PositionSeen(
            ts=here.now_ms,
            account=mode,
            instrument=key,
            product=product,
            quantity=quantity,
            average_price=_average(here, theirs, ours, key),
            before=before,
        )
    )


def _average(here: Here, theirs: VenuePosition | None, ours: PositionRecord | None, key: str) -> Decimal:
    if theirs is not None and theirs.average_price:
        return theirs.average_price
    if theirs is None:  # gone: at what it is worth
        return here.price(key) or (ours.average_price if ours else ZERO)
    return (ours.average_price if ours else ZERO) or here.price(key) or ZERO
