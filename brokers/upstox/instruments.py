"""The venue's instrument file: downloaded once a day, kept on disk, read into neutral instruments."""

import asyncio
import gzip
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from brokers.upstox.rest import http_client, translated
from bus import clock
from bus.settings import Settings
from market.instruments import Instrument, Universe
from schemas.errors import Rejected, Unavailable

log = structlog.get_logger("instruments")

_PATH: Final = "/market-quote/instruments/exchange/complete.json.gz"
_IST: Final = timedelta(hours=5, minutes=30)
_FRESH_AT: Final = timedelta(hours=6)  # the venue renews the file about 06:00 IST


async def fetch(settings: Settings) -> Universe:
    """All instruments. The file of today is not fetched twice; an old one serves where the venue does not answer."""
    path = settings.home / "instruments" / f"{settings.teji_venue.value}.json.gz"
    body = await asyncio.to_thread(_cached, path, settings.upstox_assets_url)
    if body is None:
        body = await _downloaded(settings, path)
    return await asyncio.to_thread(lambda: Universe(parse(body)))


async def _downloaded(settings: Settings, path: Path) -> bytes:
    try:
        async with http_client() as client:
            with translated():
                answer = await client.get(settings.upstox_assets_url + _PATH, timeout=60.0)
            if answer.status_code != 200:
                raise Unavailable(f"the instrument file answers {answer.status_code}")
    except Unavailable as error:
        old = await asyncio.to_thread(_read, path)
        if old is None:
            raise
        log.warning("using an old instrument file", reason=str(error))
        return old
    await asyncio.to_thread(_keep, path, answer.content, settings.upstox_assets_url)
    return answer.content


def _edition(assets_url: str) -> str:
    """Names today's file of this host: the simulator's is not the venue's."""
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC) + _IST - _FRESH_AT
    return f"{now.date()} {assets_url}"


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _cached(path: Path, assets_url: str) -> bytes | None:
    stamp = path.with_suffix(".edition")
    if path.exists() and stamp.exists() and stamp.read_text() == _edition(assets_url):
        return path.read_bytes()
    return None


def _keep(path: Path, body: bytes, assets_url: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(body)
    part.replace(path)
    path.with_suffix(".edition").write_text(_edition(assets_url))


def parse(body: bytes) -> list[Instrument]:
    """The rows that describe something tradable or an index. A row that contradicts itself is counted and left out."""
    try:
        rows = orjson.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    except (OSError, EOFError, orjson.JSONDecodeError) as error:
        raise Unavailable(f"the instrument file is damaged: {error}") from None
    found: dict[str, Instrument] = {}
    wrong = 0
    for row in rows:
        try:
            instrument = _instrument(row)
            found.setdefault(instrument.key, instrument)
        except (Rejected, KeyError, TypeError, ValueError):
            wrong += 1
    if wrong:
        log.warning("instrument rows left out", wrong=wrong, kept=len(found))
    return list(found.values())


def _instrument(row: dict[str, Any]) -> Instrument:
    kind = str(row["instrument_type"])
    strike = row.get("strike_price")
    return Instrument(
        key=row["instrument_key"],
        segment=row["segment"],
        exchange=row["exchange"],
        name=row.get("name") or row["trading_symbol"],
        trading_symbol=row["trading_symbol"],
        instrument_type=kind,
        lot_size=int(row.get("lot_size") or 1),
        tick_size=float(row.get("tick_size") or 5.0) / 100,  # the file counts in hundredths of a rupee
        freeze_quantity=int(row.get("freeze_quantity") or 0),
        expiry=_expiry(row.get("expiry")),
        strike=float(strike) if kind in ("CE", "PE") and strike is not None else None,
        underlying_key=row.get("underlying_key"),
        underlying_symbol=row.get("underlying_symbol"),
        weekly=bool(row.get("weekly", False)),
        cas_eligible=bool(row.get("cas_eligible", False)),
        isin=row.get("isin"),
        exchange_token=str(row["exchange_token"]) if row.get("exchange_token") else None,
    )


def _expiry(value: int | None) -> date | None:
    """23:59:59 IST of the last day, in epoch ms, to that day."""
    if not value:
        return None
    return (datetime.fromtimestamp(value / 1000, UTC) + _IST).date()
