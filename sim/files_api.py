"""The instrument files of the assets host, on the same port."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim import instrument_file
from sim.exchange import Exchange

_EXCHANGES = {"complete": None, "NSE": "NSE", "BSE": "BSE"}


def routes(exchange: Exchange) -> list[Route]:
    async def instruments(request: Request) -> Response:
        """No login, but a client has to say who it is."""
        if not request.headers.get("user-agent"):
            return Response("error code: 1010", 403)
        name = request.path_params["name"]
        if name not in _EXCHANGES:
            return Response(status_code=404)
        body = instrument_file.packed(exchange.market.listing, _EXCHANGES[name])
        return Response(body, media_type="application/gzip")

    return [Route("/market-quote/instruments/exchange/{name}.json.gz", instruments)]
