"""What orders would need and cost: margins of a basket, charges of an order."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market import charges
from market.instruments import Instrument
from schemas.money import Charges
from schemas.orders import Product, Side
from sim import hedges
from sim.account_api import body_of
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.hedges import Line, Margin
from sim.hours import day_of
from sim.orders import decimal
from sim.replies import guarded, success

_INSTRUMENTS_MAX: Final = 20
_PRODUCTS: Final = ("I", "D", "MTF")
_SIDES: Final = ("BUY", "SELL")
_DEPOSITORY: Final = {"name": "SIM", "min_expense": 18.5}
PLAN: Final = "upstox"


def routes(exchange: Exchange) -> list[Route]:
    calls = _Charges(exchange)
    return [
        Route("/v2/charges/margin", guarded(exchange, "margin", calls.margin), methods=["POST"]),
        Route("/v2/charges/brokerage", guarded(exchange, "brokerage", calls.brokerage)),
    ]


class _Charges:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    # --- margin ------------------------------------------------------------------------------------------------------

    async def margin(self, request: Request) -> Response:
        asked = (await body_of(request)).get("instruments")
        if not isinstance(asked, list) or not asked:
            raise ApiError(400, "UDAPI1099", "The instrument key is required", "instruments", asked)
        if len(asked) > _INSTRUMENTS_MAX:
            raise ApiError(400, "UDAPI1102", "The instrument limit has been exceeded", "instruments", len(asked))
        lines = [self._line(each, f"instruments[{place}]") for place, each in enumerate(asked)]
        keys = [line.instrument.key for line in lines]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                path = f"instruments[{place}].instrument_key"
                raise ApiError(400, "UDAPI1103", "Instrument key cannot be duplicated", path, key)
        alone = [hedges.alone(line) for line in lines]
        return success(
            {
                "margins": [_margin_row(each) for each in alone],
                "required_margin": float(sum(each.total for each in alone)),
                "final_margin": float(hedges.together(lines)),
            }
        )

    def _line(self, asked: Any, path: str) -> Line:
        if not isinstance(asked, Mapping):
            raise ApiError(400, "UDAPI1099", "The instrument key is required", path, asked)
        instrument = self._instrument(asked.get("instrument_key"), f"{path}.instrument_key", "UDAPI1099", "UDAPI1098")
        quantity = asked.get("quantity")
        if quantity is None:
            raise ApiError(400, "UDAPI1097", "The quantity is required", f"{path}.quantity")
        if not isinstance(quantity, int) or isinstance(quantity, bool) or quantity <= 0:
            message = "Quantity cannot be less than or equal to zero"
            raise ApiError(400, "UDAPI1096", message, f"{path}.quantity", quantity)
        if quantity % instrument.lot_size:
            message = "Quantity should be multiple of lot size"
            raise ApiError(400, "UDAPI1104", message, f"{path}.quantity", quantity)
        product, side, price = asked.get("product"), asked.get("transaction_type"), asked.get("price")
        if product not in _PRODUCTS:
            raise ApiError(400, "UDAPI1100", "The product is required", f"{path}.product", product)
        if side not in _SIDES:
            raise ApiError(400, "UDAPI1101", "The transaction_type is required", f"{path}.transaction_type", side)
        if price is not None and not (_is_number(price) and price > 0):
            raise ApiError(400, "UDAPI1095", "The price must be greater than zero", f"{path}.price", price)
        return Line(
            instrument=instrument,
            product=product,
            quantity=quantity if side == "BUY" else -quantity,
            price=self._last(instrument.key) if price is None else Decimal(str(price)),
            underlying=self._last(instrument.underlying_key or instrument.key),
        )

    # --- brokerage ---------------------------------------------------------------------------------------------------

    async def brokerage(self, request: Request) -> Response:
        query = request.query_params
        instrument = self._instrument(query.get("instrument_token"), "instrument_token", "UDAPI1059", "UDAPI1059")
        quantity = _number(query.get("quantity"), "quantity", "UDAPI1060", "UDAPI1064")
        product, side = query.get("product"), query.get("transaction_type")
        if not product:
            raise ApiError(400, "UDAPI1063", "The product is required", "product")
        if product not in _PRODUCTS:
            raise ApiError(400, "UDAPI1054", "The product is invalid", "product", product)
        if not side:
            raise ApiError(400, "UDAPI1062", "The transaction_type is required", "transaction_type")
        if side not in _SIDES:
            raise ApiError(400, "UDAPI1057", "The transaction_type is invalid", "transaction_type", side)
        price = _number(query.get("price"), "price", "UDAPI1061", "UDAPI1065")
        if quantity % 1:
            raise ApiError(400, "UDAPI1064", "The quantity must be a whole number", "quantity", query.get("quantity"))
        on = day_of(self.exchange.now_ms())
        try:
            kind = charges.kind_of(instrument, Product(product))
            cost = charges.of_order(kind, Side(side), int(quantity), quantity * price, on, PLAN)
        except charges.UnknownCharges as unknown:
            raise ApiError(400, "UDAPI100036", str(unknown)) from None
        return success({"charges": charges_row(cost)})

    def _instrument(self, key: object, path: str, missing: str, malformed: str) -> Instrument:
        if not key:
            raise ApiError(400, missing, "The instrument key is required", path, key)
        if not isinstance(key, str) or "|" not in key:
            raise ApiError(400, malformed, "The instrument_token is of invalid format", path, key)
        instrument = self.exchange.market.listing.get(key)
        if instrument is None or instrument.is_index:
            raise ApiError(400, "UDAPI100011", "Invalid Instrument key", path, key)
        return instrument

    def _last(self, key: str) -> Decimal:
        market = self.exchange.market
        return decimal(float(market.ltp[market.listing.row_of[key]]))


def charges_row(cost: Charges) -> dict[str, Any]:
    """In both spellings that the venue has had; the parts add up to the total."""
    exchange = {
        "transaction": float(cost.transaction),
        "clearing": 0.0,
        "ipft": float(cost.ipft),
        "sebi_turnover": float(cost.sebi),
    }
    return {
        "total": float(cost.total),
        "brokerage": float(cost.brokerage),
        "taxes": {"gst": float(cost.gst), "stt": float(cost.stt), "stamp_duty": float(cost.stamp)},
        "other_charges": exchange,
        "other_taxes": exchange,
        "otherTaxes": exchange,
        "dp_plan": _DEPOSITORY,
        "dpPlan": _DEPOSITORY,
    }


def _margin_row(margin: Margin) -> dict[str, float]:
    return {
        "span_margin": float(margin.span),
        "exposure_margin": float(margin.exposure),
        "equity_margin": float(margin.equity),
        "net_buy_premium": float(margin.premium),
        "additional_margin": 0.0,
        "total_margin": float(margin.total),
        "tender_margin": 0.0,
    }


def _number(text: str | None, name: str, missing: str, zero: str) -> Decimal:
    if not text:
        raise ApiError(400, missing, f"The {name} is required", name)
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ApiError(400, "UDAPI100036", "Invalid Input", name, text) from None
    if not value.is_finite() or not 0 < value <= 10_000_000:
        raise ApiError(400, zero, f"The {name} cannot be zero", name, text)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
