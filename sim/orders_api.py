"""Orders over REST: place, modify, cancel, the books; several at once; and a window for whoever judges."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim import order_body
from sim.account_api import body_of
from sim.exchange import Exchange
from sim.order_door import accepted, order_read, order_write, spend
from sim.orders import (
    BUY,
    EXCHANGES,
    MARKET,
    SELL,
    Order,
    PlaceBody,
    payload,
    trade_payload,
)
from sim.positions import Position
from sim.replies import ApiError, json_reply, success
from sim.rules import AUTOMATIC
from sim.trading import slices

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_BULK_MAX: Final = 50
WINDOW_PATH: Final = "/sim/orders"


def routes(exchange: Exchange) -> list[Route]:
    calls = _Calls(exchange)
    writes = (
        ("/v3/order/place", calls.place, "POST"),
        ("/v2/order/place", calls.place_v2, "POST"),
        ("/v3/order/modify", calls.modify, "PUT"),
        ("/v2/order/modify", calls.modify, "PUT"),
        ("/v3/order/cancel", calls.cancel, "DELETE"),
        ("/v2/order/cancel", calls.cancel, "DELETE"),
        ("/v2/order/multi/cancel", calls.cancel_many, "DELETE"),
        ("/v2/order/positions/exit", calls.exit_all, "POST"),
    )
    reads = (
        ("/v2/order/retrieve-all", calls.book),
        ("/v2/order/details", calls.details),
        ("/v2/order/history", calls.history),
        ("/v2/order/trades/get-trades-for-day", calls.trades_of_day),
        ("/v2/order/trades", calls.trades),
    )
    return [
        *(Route(path, order_write(exchange, call), methods=[method]) for path, call, method in writes),
        *(Route(path, order_read(exchange, path, call)) for path, call in reads),
        Route(WINDOW_PATH, calls.window),
    ]


class _Calls:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.trading = exchange.trading

    # --- one order ---------------------------------------------------------------------------------------------------

    async def place(self, request: Request) -> Response:
        return accepted(request, {"order_ids": await self._place(request)})

    async def place_v2(self, request: Request) -> Response:
        return accepted(request, {"order_id": (await self._place(request, may_slice=False))[0]})

    async def _place(self, request: Request, *, may_slice: bool = True) -> list[str]:
        body = await body_of(request)
        asked = order_body.placement(
            body if may_slice else body | {"slice": False}, self.exchange.settings.default_protection
        )
        spend(self.exchange, request, len(slices(asked, self.trading.instrument(asked.instrument_token))) - 1)
        return [each.order_id for each in self.trading.place(asked, at_ms=self.exchange.now_ms())]

    async def modify(self, request: Request) -> Response:
        asked = order_body.change(await body_of(request))
        return accepted(request, {"order_id": self.trading.modify(asked, at_ms=self.exchange.now_ms()).order_id})

    async def cancel(self, request: Request) -> Response:
        order_id = order_body.order_id(request.query_params.get("order_id"))
        return accepted(request, {"order_id": self.trading.cancel(order_id, at_ms=self.exchange.now_ms()).order_id})

    # --- several -----------------------------------------------------------------------------------------------------

    async def cancel_many(self, request: Request) -> Response:
        segment, tag = _segment(request), request.query_params.get("tag")
        found = [
            each
            for each in self.trading.ledger.live.values()
            if segment in (None, each.instrument.segment) and tag in (None, each.tag)
        ]
        if not found:
            code = "UDAPI1109" if tag else "UDAPI1108"
            raise ApiError(400, code, "There are no open orders to cancel", "tag" if tag else None, tag)
        if len(found) > _BULK_MAX:
            raise ApiError(400, "UDAPI1109", f"At most {_BULK_MAX} orders can be cancelled at once")
        done: list[str] = []
        errors: list[dict[str, Any]] = []
        for each in found:
            try:
                self.trading.cancel(each.order_id, at_ms=self.exchange.now_ms())
            except ApiError as error:  # a listener may have ended it meanwhile
                errors.append(_bulk_error(error, each.instrument.key, each.order_id))
            else:
                done.append(each.order_id)
        return _bulk(done, errors)

    async def exit_all(self, request: Request) -> Response:
        segment, tag = _segment(request), request.query_params.get("tag")
        wanted = [
            each
            for each in self.trading.positions()
            if each.quantity and self._may_exit(each) and segment in (None, each.instrument.segment)
        ]
        if tag is not None:
            tagged = {(each.instrument.key, each.product) for each in self.trading.tagged(tag)}
            wanted = [each for each in wanted if (each.instrument.key, each.product) in tagged]
        if not wanted:
            raise ApiError(400, "UDAPI1111", "There are no open positions to exit")
        now_ms = self.exchange.now_ms()
        if all(self.trading.stage(each.instrument, now_ms).is_out_of_session for each in wanted):
            raise ApiError(400, "UDAPI1113", "Positions are exited in market hours only")
        bodies = [_exit(each) for each in sorted(wanted, key=lambda each: each.quantity > 0)]  # buys first
        count = sum(len(slices(each, self.trading.instrument(each.instrument_token))) for each in bodies)
        if count > _BULK_MAX:
            raise ApiError(400, "UDAPI1109", f"At most {_BULK_MAX} orders can be sent at once")
        done: list[str] = []
        errors: list[dict[str, Any]] = []
        for each in bodies:
            try:
                placed = self.trading.place(each, source="exit", at_ms=self.exchange.now_ms())
            except ApiError as error:
                errors.append(_bulk_error(error, each.instrument_token, None))
            else:
                done += [order.order_id for order in placed]
        return _bulk(done, errors)

    def _may_exit(self, position: Position) -> bool:
        """Shares for delivery are not exited this way."""
        return position.instrument.is_derivative or position.product != "D"

    # --- the books ---------------------------------------------------------------------------------------------------

    async def book(self, _: Request) -> Response:
        return success([payload(each) for each in self.trading.ledger.today()])

    async def details(self, request: Request) -> Response:
        return success(payload(self._order(request)))

    async def history(self, request: Request) -> Response:
        tag = request.query_params.get("tag")
        if "order_id" in request.query_params or tag is None:
            order = self._order(request)
            orders = [order] if tag in (None, order.tag) else []
        else:
            orders = self.trading.tagged(tag)
        return success([payload(state) for each in orders for state in self.trading.history(each.order_id)])

    async def trades_of_day(self, _: Request) -> Response:
        return success([trade_payload(order, trade) for order, trade in self.trading.ledger.trades_today()])

    async def trades(self, request: Request) -> Response:
        order = self._order(request)
        return success([trade_payload(order, each) for each in self.trading.trades_of(order.order_id)])

    def _order(self, request: Request) -> Order:
        order_id = order_body.order_id(request.query_params.get("order_id"))
        order = self.trading.order(order_id)
        if order is None:
            raise ApiError(400, "UDAPI100010", f"Unknown order id {order_id}", "order_id", order_id)
        return order

    async def window(self, request: Request) -> Response:
        """Everything that ever happened to orders, for tests and judges; from this machine only."""
        if request.client is None or request.client.host not in _LOOPBACK:
            raise ApiError(403, "SIM403", "the exchange's own book is shown on this machine only")
        ledger = self.trading.ledger
        rows = []
        for order_id, states in ledger.ever.items():
            last = states[-1]
            trades = [
                {"trade_id": each.trade_id, "quantity": each.quantity, "price": float(each.price), "at_ms": each.at_ms}
                for each in ledger.trades.get(order_id, ())
            ]
            told = [
                {"status": each.status.value, "at_ms": each.at_ms, "message": each.status_message} for each in states
            ]
            extra = {"source": last.source, "placed_ms": last.placed_ms, "states": told, "trades": trades}
            rows.append(payload(last) | extra)
        return json_reply({"status": "success", "data": rows})


def _segment(request: Request) -> str | None:
    segment = request.query_params.get("segment")
    if segment is not None and segment not in EXCHANGES:
        raise ApiError(400, "UDAPI1105", "The segment is invalid", "segment", segment)
    return segment


def _exit(position: Position) -> PlaceBody:
    return PlaceBody(
        instrument_token=position.instrument.key,
        transaction_type=SELL if position.quantity > 0 else BUY,
        quantity=abs(position.quantity),
        product=position.product,
        order_type=MARKET,
        slice=True,
        market_protection=AUTOMATIC,
    )


def _bulk(done: list[str], errors: list[dict[str, Any]]) -> Response:
    status = "success" if not errors else "partial_success" if done else "error"
    summary = {"total": len(done) + len(errors), "success": len(done), "error": len(errors)}
    return json_reply(
        {"status": status, "data": {"order_ids": done}, "errors": errors or None, "summary": summary},
        200 if not errors else 207 if done else 400,
    )


def _bulk_error(error: ApiError, key: str, order_id: str | None) -> dict[str, Any]:
    return {"error_code": error.code, "message": error.message, "instrument_key": key, "order_id": order_id}
