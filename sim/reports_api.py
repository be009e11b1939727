"""What the account has done: its trades of any day, profit and loss by trade, and what they cost."""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market import charges
from market.charges import Traded
from market.instruments import Instrument
from schemas.money import Charges
from schemas.orders import Product, Side
from sim import profit
from sim.charges_api import PLAN
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.hours import day_of
from sim.orders import ZERO, Order, Trade, rounded
from sim.profit import Closed, Deed
from sim.replies import guarded, success

_SEGMENTS: Final = ("EQ", "FO", "COM", "CD", "MF")
_PAGE_MAX: Final = 5_000
_DIGITS_MAX: Final = 9
_IN_URL: Final = "%d-%m-%Y"


def routes(exchange: Exchange) -> list[Route]:
    reports = _Reports(exchange)
    calls = {
        "/v2/charges/historical-trades": reports.trades,
        "/v2/trade/profit-loss/metadata": reports.metadata,
        "/v2/trade/profit-loss/data": reports.data,
        "/v2/trade/profit-loss/charges": reports.charges,
    }
    return [Route(path, guarded(exchange, path, handler)) for path, handler in calls.items()]


class _Reports:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    # --- trades ------------------------------------------------------------------------------------------------------

    async def trades(self, request: Request) -> Response:
        query = request.query_params
        first = _day(query.get("start_date"), "start_date", "UDAPI1068", "%Y-%m-%d")
        last = _day(query.get("end_date"), "end_date", "UDAPI1069", "%Y-%m-%d")
        _check_order(first, last)
        segment = query.get("segment")
        if segment is not None and segment not in _SEGMENTS:
            raise ApiError(400, "UDAPI1066", "The segment is invalid", "segment", segment)
        found = [
            _trade_row(order, trade)
            for order, trade in self._ever()
            if first <= day_of(trade.at_ms) <= last and segment in (None, _segment(order.instrument))
        ]
        page, size = _page(request)
        told = {
            "page_number": page,
            "page_size": size,
            "total_records": len(found),
            "total_pages": -(-len(found) // size),
        }
        return success(found[(page - 1) * size : page * size], meta_data={"page": told}, metaData={"page": told})

    def _ever(self) -> Iterator[tuple[Order, Trade]]:
        """Every trade with the last state of its order, as they happened."""
        ledger = self.exchange.trading.ledger
        found = [
            (states[-1], trade) for number, states in ledger.ever.items() for trade in ledger.trades.get(number, ())
        ]
        yield from sorted(found, key=lambda pair: (pair[1].at_ms, pair[1].trade_id))

    # --- profit and loss ---------------------------------------------------------------------------------------------

    async def metadata(self, request: Request) -> Response:
        return success({"trades_count": len(self._closed(*_period(request))), "page_size_limit": _PAGE_MAX})

    async def data(self, request: Request) -> Response:
        found = self._closed(*_period(request))
        page, size = _page(request)
        rows = [_closed_row(each) for each in found[(page - 1) * size : page * size]]
        return success(rows, metadata={"page": {"page_number": page, "page_size": size}})

    async def charges(self, request: Request) -> Response:
        segment, first, last = _period(request)
        executed: dict[tuple[str, date], Traded] = {}
        for order, trade in self._ever():
            on = day_of(trade.at_ms)
            if _segment(order.instrument) == segment and first <= on <= last:
                name = (order.order_id, on)
                executed[name] = (executed.get(name) or _nothing(order, on)).plus(trade.quantity, trade.price)
        try:
            cost = charges.note(executed.values())
        except charges.UnknownCharges as unknown:
            raise ApiError(400, "UDAPI100036", str(unknown)) from None
        return success({"charges_breakdown": _cost_row(cost)})

    def _closed(self, segment: str, first: date, last: date) -> list[Closed]:
        """All that ended in a period, wherever it began."""
        deeds = (
            Deed(order.instrument, order.product, _signed(order, trade), trade.price, trade.at_ms)
            for order, trade in self._ever()
            if _segment(order.instrument) == segment
        )
        return [each for each in profit.closed(deeds) if first <= day_of(each.ended_ms) <= last]


def _period(request: Request) -> tuple[str, date, date]:
    """Segment, first and last day: within the financial year that is named."""
    query = request.query_params
    segment, year = query.get("segment"), query.get("financial_year")
    if not segment:
        raise ApiError(400, "UDAPI1067", "The segment is required", "segment")
    if segment not in _SEGMENTS:
        raise ApiError(400, "UDAPI1066", "The segment is invalid", "segment", segment)
    if not year:
        raise ApiError(400, "UDAPI1070", "The financial year is required", "financial_year")
    if len(year) != 4 or not (year.isascii() and year.isdigit()):
        raise ApiError(400, "UDAPI1074", "The financial year is of invalid format", "financial_year", year)
    begins, ends = int(year[:2]), int(year[2:])
    if ends != (begins + 1) % 100:
        raise ApiError(400, "UDAPI100051", "Unrecognised financial year", "financial_year", year)
    whole = date(2000 + begins, 4, 1), date(2001 + begins, 3, 31)
    given = query.get("from_date"), query.get("to_date")
    first = _day(given[0], "from_date", "UDAPI1068", _IN_URL) if given[0] else whole[0]
    last = _day(given[1], "to_date", "UDAPI1069", _IN_URL) if given[1] else whole[1]
    _check_order(first, last)
    if first < whole[0] or last > whole[1]:
        message = "The provided dates do not fall within the specified financial year"
        raise ApiError(400, "UDAPI1105", message, "from_date" if first < whole[0] else "to_date")
    return segment, first, last


def _page(request: Request) -> tuple[int, int]:
    numbers = []
    for name, missing, low, high in (
        ("page_number", "UDAPI1071", "UDAPI1071", "UDAPI1071"),
        ("page_size", "UDAPI1072", "UDAPI1106", "UDAPI1107"),
    ):
        text = request.query_params.get(name, "")
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
            raise ApiError(400, missing, f"The {name} is required", name, text or None)
        if int(text) < 1:
            raise ApiError(400, low, f"The {name} must be 1 or more", name, text)
        if int(text) > _PAGE_MAX:
            raise ApiError(400, high, f"The {name} must be {_PAGE_MAX} or less", name, text)
        numbers.append(int(text))
    return numbers[0], numbers[1]


def _day(text: str | None, name: str, missing: str, form: str) -> date:
    if not text:
        raise ApiError(400, missing, f"The {name} is required", name)
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007 a date has no zone
    except ValueError:
        raise ApiError(400, "UDAPI1088", "The date is of invalid format", name, text) from None


def _check_order(first: date, last: date) -> None:
    if last < first:
        raise ApiError(400, "UDAPI1075", "The last date lies before the first", "to_date", last.isoformat())


def _segment(instrument: Instrument) -> str:
    return "FO" if instrument.is_derivative else "EQ"


def _signed(order: Order, trade: Trade) -> int:
    return trade.quantity if order.is_buy else -trade.quantity


def _nothing(order: Order, on: date) -> Traded:
    """Of an order that has not traded on a day yet. Shares are named: their tax is on the day's average."""
    kind = charges.kind_of(order.instrument, Product(order.product))
    name = "" if order.instrument.is_derivative else order.instrument.key
    return Traded(kind, Side(order.transaction_type), 0, ZERO, on, PLAN, name)


def _trade_row(order: Order, trade: Trade) -> dict[str, Any]:
    instrument = order.instrument
    return {
        "exchange": instrument.exchange,
        "segment": _segment(instrument),
        "option_type": instrument.instrument_type if instrument.is_option else "",
        "quantity": trade.quantity,
        "amount": _float(trade.quantity * trade.price),
        "trade_id": trade.trade_id,
        "trade_date": day_of(trade.at_ms).isoformat(),
        "transaction_type": order.transaction_type,
        "scrip_name": instrument.name,
        "strike_price": f"{instrument.strike or 0:.1f}",
        "expiry": instrument.expiry.isoformat() if instrument.expiry else "",
        "price": float(trade.price),
        "isin": instrument.isin or "",
        "symbol": instrument.trading_symbol,
        "instrument_token": instrument.key,
    }


def _closed_row(each: Closed) -> dict[str, Any]:
    instrument = each.instrument
    kind = "OPT" if instrument.is_option else "FUT" if instrument.is_derivative else "EQ"
    return {
        "quantity": float(each.quantity),
        "isin": instrument.isin or "",
        "scrip_name": instrument.trading_symbol,
        "trade_type": kind,
        "buy_date": day_of(each.bought_ms).strftime(_IN_URL),
        "buy_average": float(each.bought_at),
        "sell_date": day_of(each.sold_ms).strftime(_IN_URL),
        "sell_average": float(each.sold_at),
        "buy_amount": _float(each.quantity * each.bought_at),
        "sell_amount": _float(each.quantity * each.sold_at),
    }


def _cost_row(cost: Charges) -> dict[str, Any]:
    return {
        "total": float(cost.total),
        "brokerage": float(cost.brokerage),
        "taxes": {"gst": float(cost.gst), "stt": float(cost.stt), "stamp_duty": float(cost.stamp)},
        "charges": {
            "transaction": float(cost.transaction),
            "clearing": 0.0,
            "ipft": float(cost.ipft),
            "others": 0.0,
            "sebi_turnover": float(cost.sebi),
            "demat_transaction": float(cost.dp),
        },
    }


def _float(amount: Decimal) -> float:
    return float(rounded(amount))
