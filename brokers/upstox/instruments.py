"""The venue's instrument file: downloaded once a day, kept on disk, read into neutral instruments."""

import asyncio
import gzip
import tempfile
import zlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from pydantic import TypeAdapter

from brokers.upstox.rest import http_client, translated
from bus import clock
from bus.settings import Settings
from market.instruments import Instrument, Universe
from schemas.errors import Rejected, Unavailable
from schemas.keys import InstrumentKey

log = structlog.get_logger("instruments")

_PATH: Final = "/market-quote/instruments/exchange/complete.json.gz"
_IST: Final = timedelta(hours=5, minutes=30)
_FRESH_AT: Final = timedelta(hours=7)  # the venue renews the file about 06:00 IST, and opens at 09:00
_DOWNLOAD_S: Final = 60.0
_TICK_MAX_RUPEES: Final = 100.0
_KEY: Final[TypeAdapter[str]] = TypeAdapter(InstrumentKey)


def edition(now_ms: int) -> date:
    """The day whose instrument file is the one to use."""
    return (datetime.fromtimestamp(now_ms / 1000, UTC) + _IST - _FRESH_AT).date()


async def fetch(settings: Settings, now_ms: int | None = None) -> Universe:
    """All instruments. The file of the day is not fetched twice; an old one serves where the venue does not answer.

    Raises Unavailable where neither is there.
    """
    store = _Store(settings, edition(clock.now_ms() if now_ms is None else now_ms))
    universe = await asyncio.to_thread(store.read, of_today=True)
    if universe is None:
        universe = await _renewed(store, settings.upstox_assets_url + _PATH)
    return universe


async def _renewed(store: "_Store", url: str) -> Universe:
    try:
        body = await _downloaded(url)
        universe = await asyncio.to_thread(lambda: Universe(parse(body)))
    except Unavailable as error:
        old = await asyncio.to_thread(store.read, of_today=False)
        if old is None:
            raise
        log.warning("using an old instrument file", reason=str(error))
        return old
    await asyncio.to_thread(store.keep, body)
    return universe


async def _downloaded(url: str) -> bytes:
    async with http_client() as client:
        with translated():
            answer = await client.get(url, timeout=_DOWNLOAD_S)
    if answer.status_code != 200:
        raise Unavailable(f"the instrument file answers {answer.status_code}")
    return answer.content


class _Store:
    """The file on disk, and beside it which day's and which host's it is: the simulator's is not the venue's."""

    def __init__(self, settings: Settings, on: date) -> None:
        self._path = settings.home / "instruments" / f"{settings.teji_venue.value}.json.gz"
        self._stamp = self._path.with_suffix(".edition")
        self._edition = f"{on} {settings.upstox_assets_url}"

    def read(self, of_today: bool) -> Universe | None:
        """None where there is none, or it cannot be read: then it is fetched again."""
        try:
            if of_today and self._stamp.read_text() != self._edition:
                return None
            return Universe(parse(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, Unavailable) as error:
            log.warning("the instrument file on disk is of no use", reason=str(error))
            return None

    def keep(self, body: bytes) -> None:
        """A full disk costs the next start a download, and nothing else."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stamp.unlink(missing_ok=True)  # it is never today's while it is being replaced
            _replace(self._path, body)
            _replace(self._stamp, self._edition.encode())
        except OSError as error:
            log.warning("cannot keep the instrument file", reason=str(error))


def _replace(path: Path, body: bytes) -> None:
    """Whole or not at all, whoever else does the same at this moment."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(body)
            file.close()
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def parse(body: bytes) -> list[Instrument]:
    """The rows that describe something tradable or an index. A row that contradicts itself is counted and left out.

    Raises Unavailable for a file that is damaged or lists nothing: the venue's next one may be whole.
    """
    try:
        rows = orjson.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError) as error:
        raise Unavailable(f"the instrument file is damaged: {error}") from None
    found: dict[str, Instrument] = {}
    wrong = 0
    for row in rows if isinstance(rows, list) else ():
        try:
            instrument = _instrument(row)
            found.setdefault(instrument.key, instrument)
        except (Rejected, AttributeError, KeyError, TypeError, ValueError, OverflowError):
            wrong += 1
    if not found:
        raise Unavailable(f"the instrument file lists nothing that can be used ({wrong} rows that cannot be)")
    if wrong:
        log.warning("instrument rows left out", wrong=wrong, kept=len(found))
    return list(found.values())


def _instrument(row: dict[str, Any]) -> Instrument:
    kind = str(row["instrument_type"])
    strike = row.get("strike_price")
    return Instrument(
        key=_KEY.validate_python(row["instrument_key"]),  # keys travel in comma-separated lists
        segment=row["segment"],
        exchange=row["exchange"],
        name=row.get("name") or row["trading_symbol"],
        trading_symbol=row["trading_symbol"],
        instrument_type=kind,
        lot_size=int(row.get("lot_size") or 1),
        tick_size=_tick_rupees(row.get("tick_size")),
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


def _tick_rupees(value: float | None) -> float:
    """The file counts in hundredths of a rupee; the documentation does not say so, so a sane result is asked for."""
    rupees = float(value or 5.0) / 100
    if not 0 < rupees <= _TICK_MAX_RUPEES:
        raise ValueError(f"a tick of {rupees} rupees")
    return rupees


def _expiry(value: int | None) -> date | None:
    """23:59:59 IST of the last day, in epoch ms, to that day."""
    if not value:
        return None
    return (datetime.fromtimestamp(value / 1000, UTC) + _IST).date()
