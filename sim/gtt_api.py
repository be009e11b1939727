"""The venue's GTT calls, and a window for whoever judges: every GTT ever, with its orders."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim import gtt as machine
from sim import gtt_body
from sim.account_api import body_of
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.gtt import Gtt
from sim.order_door import accepted, order_read, order_write
from sim.orders import payload
from sim.replies import json_reply, success

WINDOW: Final = "/sim/gtts"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


def routes(exchange: Exchange) -> list[Route]:
    desk = exchange.gtts

    async def place(request: Request) -> Response:
        gtt = desk.place(gtt_body.placement(await body_of(request)), exchange.now_ms())
        return _done(request, gtt)

    async def modify(request: Request) -> Response:
        gtt = desk.modify(gtt_body.change(await body_of(request)), exchange.now_ms())
        return _done(request, gtt)

    async def cancel(request: Request) -> Response:
        gtt = desk.cancel(gtt_body.order_id(await body_of(request)), exchange.now_ms())
        return _done(request, gtt)

    async def details(request: Request) -> Response:
        """The live book, or one of it: what is finished is told by nobody."""
        if "gtt_order_id" not in request.query_params:
            return success([machine.detail(gtt) for gtt in desk.live()])
        number = gtt_body.order_id(request.query_params)
        gtt = desk.ever.get(number)
        if gtt is None:
            raise gtt_body.wrong("UDAPI100010", "Unknown GTT order", "gtt_order_id", number)
        return success([machine.detail(gtt)] if gtt.is_live else [])

    async def window(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            raise ApiError(403, "SIM403", "this window opens to this machine only")
        return json_reply({"status": "success", "data": [_ever(exchange, gtt) for gtt in desk.ever.values()]})

    return [
        Route("/v3/order/gtt/place", order_write(exchange, place), methods=["POST"]),
        Route("/v3/order/gtt/modify", order_write(exchange, modify), methods=["PUT"]),
        Route("/v3/order/gtt/cancel", order_write(exchange, cancel), methods=["DELETE"]),
        Route("/v3/order/gtt", order_read(exchange, "gtt", details)),
        Route(WINDOW, window),
    ]


def _done(request: Request, gtt: Gtt) -> Response:
    return accepted(request, {"gtt_order_ids": [gtt.gtt_order_id]})


def _ever(exchange: Exchange, gtt: Gtt) -> dict[str, Any]:
    ledger = exchange.trading.ledger.ever
    orders = [ledger[rule.order_id][-1] for rule in gtt.rules if rule.order_id in ledger]
    return machine.detail(gtt) | {
        "live": gtt.is_live,
        "transaction_type": gtt.side.value,
        "entered": gtt.entry.filled,
        "exited": sum(rule.filled for rule in gtt.exits),
        "steps": [
            {"at_ms": at_ms, **{leg.value: status.value for leg, status in statuses.items()}}
            for at_ms, statuses in exchange.gtts.steps[gtt.gtt_order_id]
        ],
        "orders": [payload(order) for order in orders],
    }
