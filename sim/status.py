"""The market_info message: which phase each segment is in, as the venue words it. Pure."""

from collections.abc import Iterator
from typing import Final

from market.sessions import Interval, Part, Phase, auction_parts
from proto import feed_pb2 as pb
from schemas.ticks import SessionClass
from sim.hours import SEGMENTS, Hours, day_of

_PRE_OPEN: Final = {
    Part.ENTRY: "PRE_OPEN_START",
    Part.LIMIT_ONLY: "PRE_OPEN_M_END",
    Part.MATCHING: "PRE_OPEN_END",
    Part.BUFFER: "PRE_OPEN_END",
}
_CLOSING: Final = {
    Part.FROZEN: "CTS_CLOSE",
    Part.ENTRY: "CAS_LM_START",
    Part.LIMIT_ONLY: "CAS_M_STOP",
    Part.MATCHING: "CAS_STOP",
}
_ORDINARY: Final = SessionClass.ORDINARY
_AUCTION_SHARE: Final = SessionClass.CLOSING_AUCTION_SHARE


def market_info(hours: Hours, now_ms: int) -> pb.MarketInfo:
    info = pb.MarketInfo()
    for segment in SEGMENTS:
        info.segmentStatus[segment] = segment_status(hours, segment, now_ms)
        for status, since_ms in _auction(hours, segment, _AUCTION_SHARE, Phase.CLOSING_AUCTION, now_ms):
            info.casMarketStatus[segment].status = status
            info.casMarketStatus[segment].updatedTime = since_ms
        for status, since_ms in _auction(hours, segment, _ORDINARY, Phase.PRE_OPEN, now_ms):
            info.preOpenSessionStatus[segment].status = status
            info.preOpenSessionStatus[segment].updatedTime = since_ms
    return info


def segment_status(hours: Hours, segment: str, now_ms: int) -> pb.MarketStatus:
    status = pb.MarketStatus.NORMAL_CLOSE
    for interval in hours.day(segment, _ORDINARY, day_of(now_ms)):
        if now_ms < interval.start_ms:
            break
        status = _inside(interval, now_ms) if now_ms < interval.end_ms else _after(interval)
    return status


def _inside(interval: Interval, now_ms: int) -> pb.MarketStatus:
    match interval.phase:
        case Phase.PRE_OPEN:
            matching = any(
                part.part in (Part.MATCHING, Part.BUFFER) and part.start_ms <= now_ms
                for part in auction_parts(interval)
            )
            return pb.MarketStatus.PRE_OPEN_END if matching else pb.MarketStatus.PRE_OPEN_START
        case Phase.CONTINUOUS:
            return pb.MarketStatus.NORMAL_OPEN
        case Phase.POST_CLOSE:
            return pb.MarketStatus.CLOSING_START
        case _:
            return pb.MarketStatus.NORMAL_CLOSE


def _after(interval: Interval) -> pb.MarketStatus:
    match interval.phase:
        case Phase.PRE_OPEN:
            return pb.MarketStatus.PRE_OPEN_END
        case Phase.POST_CLOSE:
            return pb.MarketStatus.CLOSING_END
        case _:
            return pb.MarketStatus.NORMAL_CLOSE


def _auction(
    hours: Hours, segment: str, session_class: SessionClass, phase: Phase, now_ms: int
) -> Iterator[tuple[str, int]]:
    """What was last announced about today's auction: nothing before it began."""
    words = _PRE_OPEN if phase is Phase.PRE_OPEN else _CLOSING
    latest: tuple[str, int] | None = None
    for interval in hours.day(segment, session_class, day_of(now_ms)):
        if interval.phase is not phase:
            continue
        for part in auction_parts(interval):
            if part.start_ms <= now_ms and (latest is None or words[part.part] != latest[0]):
                latest = (words[part.part], part.start_ms)
    if latest is not None:
        yield latest
