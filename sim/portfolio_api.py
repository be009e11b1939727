"""Positions, holdings and funds."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim.account_api import body_of
from sim.exchange import Exchange
from sim.order_body import wrong
from sim.order_door import check_hours
from sim.portfolio import funds_row, funds_row_v2
from sim.positions import Holding, Position, holding_row, position_row
from sim.replies import ApiError, guarded, success


def routes(exchange: Exchange) -> list[Route]:
    calls = _Calls(exchange)
    reads = (
        ("/v2/portfolio/short-term-positions", calls.positions),
        ("/v3/portfolio/mtf-positions", calls.mtf_positions),
        ("/v2/portfolio/long-term-holdings", calls.holdings),
        ("/v3/user/get-funds-and-margin", calls.funds),
        ("/v2/user/get-funds-and-margin", calls.funds_v2),
    )
    convert = guarded(exchange, "convert", calls.convert)
    return [
        *(Route(path, guarded(exchange, path, call)) for path, call in reads),
        Route("/v2/portfolio/convert-position", convert, methods=["PUT"]),
    ]


class _Calls:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.trading = exchange.trading

    async def positions(self, _: Request) -> Response:
        return success([self._position(each) for each in self.trading.positions()])

    async def mtf_positions(self, _: Request) -> Response:
        return success([self._position(each) for each in self.trading.positions() if each.product == "MTF"])

    async def holdings(self, _: Request) -> Response:
        return success([self._holding(each) for each in self.trading.holdings()])

    async def funds(self, _: Request) -> Response:
        check_hours(self.exchange, "UDAPI100072")
        return success(funds_row(self.trading.funds()))

    async def funds_v2(self, request: Request) -> Response:
        check_hours(self.exchange, "UDAPI100072")
        segment = request.query_params.get("segment")
        if segment not in (None, "SEC", "COM"):
            raise ApiError(400, "UDAPI100036", "Invalid Input", "segment", segment)
        return success(funds_row_v2(self.trading.funds()))

    async def convert(self, request: Request) -> Response:
        body = await body_of(request)
        for name in ("old_product", "new_product"):
            if body.get(name) not in ("I", "D", "MTF"):
                raise wrong("UDAPI1054", "The product is invalid", name, body.get(name))
        if body.get("transaction_type") not in ("BUY", "SELL"):
            raise wrong(
                "UDAPI1057", "The transaction_type is invalid", "transaction_type", body.get("transaction_type")
            )
        quantity = body.get("quantity")
        if not isinstance(quantity, int) or isinstance(quantity, bool) or quantity <= 0:
            raise wrong("UDAPI1052", "The quantity must be a whole number above zero", "quantity", quantity)
        key = self.trading.instrument(str(body.get("instrument_token"))).key
        signed = quantity if body["transaction_type"] == "BUY" else -quantity
        self.trading.convert(key, body["old_product"], body["new_product"], signed)
        return success({"status": "complete"})

    def _position(self, position: Position) -> dict[str, Any]:
        key = position.instrument.key
        return position_row(position, self.trading.last(key), self.trading.close(key))

    def _holding(self, holding: Holding) -> dict[str, Any]:
        key = holding.instrument.key
        return holding_row(holding, self.trading.last(key), self.trading.close(key))
