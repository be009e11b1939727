"""When the markets trade, what is listed: status, timings, holidays, search."""

from datetime import date
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market import sessions
from market.instruments import Instrument
from market.sessions import Holiday, Interval, Phase, UncoveredDate
from proto import feed_pb2 as pb
from schemas.ticks import SessionClass
from sim import instrument_file
from sim.exchange import Exchange
from sim.hours import day_of, midnight_ms
from sim.options_api import expiry_of
from sim.replies import ApiError, guarded, success
from sim.status import segment_status

#: The names that these calls use for segments.
_SEGMENTS: Final = {
    "NSE": "NSE_EQ",
    "NFO": "NSE_FO",
    "CDS": "NCD_FO",
    "BSE": "BSE_EQ",
    "BFO": "BSE_FO",
    "BCD": "BCD_FO",
    "MCX": "MCX_FO",
    "NSCOM": "NSE_COM",
}
_NAMES: Final = {segment: name for name, segment in _SEGMENTS.items()}
_RECORDS_MAX: Final = 30
_FOUND_MAX: Final = 10_000


def routes(exchange: Exchange) -> list[Route]:
    async def status(request: Request) -> Response:
        name = request.path_params["exchange"]
        if name not in _SEGMENTS:
            raise ApiError(400, "UDAPI1089", "Invalid exchange", "exchange", name)
        return success({"exchange": name, **_status(exchange, _SEGMENTS[name])})

    async def timings(request: Request) -> Response:
        on = _date(request.path_params["date"])
        return success([row for segment in _NAMES for row in _timing(segment, _intervals(exchange, segment, on))])

    async def holidays(request: Request) -> Response:
        on = _date(request.path_params["date"]) if "date" in request.path_params else None
        try:
            days = sessions.holidays(on.year if on else day_of(exchange.now_ms()).year)
        except UncoveredDate:
            days = ()
        return success([_holiday(each) for each in days if on in (None, each.date)])

    async def search(request: Request) -> Response:
        found = _search(exchange, request)
        page = _number(request, "page_number", 1, 1_000_000)
        records = _number(request, "records", _RECORDS_MAX, _RECORDS_MAX)
        shown = found[(page - 1) * records : page * records]
        pages = {
            "page_number": page,
            "total_pages": -(-len(found) // records),
            "records": len(shown),
            "total_records": len(found),
        }
        return success([instrument_file.row(each) for each in shown], meta_data={"page": pages})

    return [
        Route("/v2/market/status/{exchange}", guarded(exchange, "status", status)),
        Route("/v2/market/timings/{date}", guarded(exchange, "timings", timings, login=False)),
        Route("/v2/market/holidays", guarded(exchange, "holidays", holidays, login=False)),
        Route("/v2/market/holidays/{date}", guarded(exchange, "holidays", holidays, login=False)),
        Route("/v2/instruments/search", guarded(exchange, "search", search)),
    ]


def _status(exchange: Exchange, segment: str) -> dict[str, Any]:
    """`last_updated` is when the phase began; before the day's first one, midnight."""
    now_ms = exchange.now_ms()
    intervals = _intervals(exchange, segment, day_of(now_ms))
    edges = [edge for each in intervals for edge in (each.start_ms, each.end_ms) if edge <= now_ms]
    return {
        "status": pb.MarketStatus.Name(segment_status(exchange.hours, segment, now_ms)),
        "last_updated": max(edges, default=midnight_ms(day_of(now_ms))),
        "cas_eligible_status": _auction_status(exchange, segment, now_ms),
    }


def _auction_status(exchange: Exchange, segment: str, now_ms: int) -> str:
    """The phase of the shares that join the closing auction."""
    for each in exchange.hours.day(segment, SessionClass.CLOSING_AUCTION_SHARE, day_of(now_ms)):
        if each.phase is Phase.CLOSING_AUCTION and each.start_ms <= now_ms < each.end_ms:
            return pb.MarketStatus.Name(pb.MarketStatus.CLOSING_START)
    return pb.MarketStatus.Name(segment_status(exchange.hours, segment, now_ms))


def _intervals(exchange: Exchange, segment: str, on: date) -> tuple[Interval, ...]:
    try:
        return exchange.hours.day(segment, SessionClass.ORDINARY, on)
    except UncoveredDate:
        return ()


def _timing(segment: str, intervals: tuple[Interval, ...]) -> list[dict[str, Any]]:
    trading = [each for each in intervals if each.phase is Phase.CONTINUOUS]
    return [{"exchange": _NAMES[segment], "start_time": each.start_ms, "end_time": each.end_ms} for each in trading]


def _holiday(day: Holiday) -> dict[str, Any]:
    closed = [_NAMES[segment] for segment in day.closed if segment in _NAMES]
    opened = [row for segment, intervals in day.open if segment in _NAMES for row in _timing(segment, intervals)]
    if "NSE" in closed:
        kind = "TRADING_HOLIDAY"
    else:
        kind = "SPECIAL_TIMING" if any(row["exchange"] == "NSE" for row in opened) else "SETTLEMENT_HOLIDAY"
    return {
        "date": day.date.isoformat(),
        "description": day.description,
        "holiday_type": kind,
        "closed_exchanges": closed,
        "open_exchanges": opened,
    }


def _search(exchange: Exchange, request: Request) -> list[Instrument]:
    query = request.query_params
    text = query.get("query", "")
    if not text:
        raise ApiError(400, "UDAPI100036", "Invalid Input", "query", text)
    found = exchange.market.listing.catalogue.search(text, limit=_FOUND_MAX)
    for name, attribute in (
        ("exchanges", "exchange"),
        ("segments", "segment"),
        ("instrument_types", "instrument_type"),
    ):
        wanted = {each.strip() for each in query.get(name, "").split(",") if each.strip()}
        if wanted - {"ALL"}:
            found = [each for each in found if getattr(each, attribute) in wanted]
    if query.get("expiry"):
        expiry = expiry_of(found, query["expiry"])
        found = [each for each in found if each.expiry == expiry]
    if query.get("atm_offset"):
        found = _near_the_money(exchange, found, _signed(query["atm_offset"]))
    return found


def _near_the_money(exchange: Exchange, found: list[Instrument], offset: int) -> list[Instrument]:
    """The options that are `offset` strikes above the one nearest to the index."""
    market = exchange.market
    kept = []
    for each in found:
        if not each.is_option or each.underlying_key is None or each.expiry is None:
            continue
        spot = float(market.ltp[market.listing.row_of[each.underlying_key]])
        strikes = [strike for strike, _, _ in market.listing.catalogue.chain(each.underlying_key, each.expiry)]
        money = min(range(len(strikes)), key=lambda place: abs(strikes[place] - spot))
        if 0 <= money + offset < len(strikes) and strikes[money + offset] == each.strike:
            kept.append(each)
    return kept


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ApiError(400, "UDAPI100036", "Invalid Input", name, text)
    return int(text)


def _signed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, "UDAPI100036", "Invalid Input", "atm_offset", text) from None


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ApiError(400, "UDAPI1088", "Invalid date", "date", text) from None
