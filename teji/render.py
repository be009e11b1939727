"""Stream entries as lines to read, and as objects for programs. Pure.

Ticks are packed records: each becomes a line of a table. Bars and chains are a line each; of everything else the line
says what happened. Times are Indian.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from schemas.streams import family, instrument_id
from schemas.ticks import KNOWN_SHIFT, TICK, Block, TickBatch, unpack
from teji import render_orders

Fields = Mapping[bytes, bytes]

_IST: Final = timedelta(hours=5, minutes=30)
_KEY_WIDTH: Final = 22

#: Which block makes a field of a tick known; fields that no block governs are always known.
_BLOCK_OF: Final = {
    **dict.fromkeys(("ltp", "ltt", "ltq", "cp"), Block.LTPC),
    **dict.fromkeys(("bid", "bid_qty", "ask", "ask_qty"), Block.DEPTH),
    **dict.fromkeys(("delta", "theta", "gamma", "vega", "rho"), Block.GREEKS),
    **{name: Block[name.upper()] for name in ("atp", "vtt", "oi", "iv", "tbq", "tsq", "iep", "ieq")},
}
_SHOWN: Final = [name for name in TICK.names or () if name not in ("id", "flags", "levels", "kind", "session")]

TICK_HEADER: Final = (
    f"{'time':<12} {'instrument':<{_KEY_WIDTH}} {'ltp':>10} {'volume':>13} {'bid':>10} {'qty':>8} {'ask':>10}"
    f" {'qty':>8} {'oi':>12} {'iv %':>6} {'delta':>6}"
)
BAR_HEADER: Final = (
    f"{'minute':<12} {'instrument':<{_KEY_WIDTH}} {'open':>10} {'high':>10} {'low':>10} {'close':>10} {'volume':>10}"
    f" {'oi':>12} {'iv %':>6} {'ticks':>5} rev"
)
CHAIN_HEADER: Final = (
    f"{'minute':<12} {'underlying':<{_KEY_WIDTH}} {'expiry':<10} {'spot':>10} {'forward':>10} {'ATM':>9} {'iv %':>6}"
    f" {'straddle':>9} {'PCR':>5} {'max pain':>9} {'put wall':>9} {'call wall':>9} {'GEX cr':>9} {'skew %':>6}"
    f" {'rank':>4} rev"
)


def header(stream: str) -> str:
    """The line above a stream's lines; empty where they need none."""
    headers = {"ticks": TICK_HEADER, "candles": BAR_HEADER, "intervals": BAR_HEADER, "chain": CHAIN_HEADER}
    return headers.get(family(stream), "")


def lines(stream: str, entry_id: str, fields: Fields) -> list[str]:
    """An entry for a person. What is not in our form is shown as it is; nothing reaches the terminal as a control."""
    try:
        made = _LINES.get(family(stream), _other)(entry_id, fields)
    except (LookupError, ValueError, TypeError, OverflowError, OSError):  # the last two: times out of range
        made = _other(entry_id, fields)
    return ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in made]


def objects(stream: str, entry_id: str, fields: Fields) -> list[dict[str, Any]]:
    """An entry for a program: one object, or one for each tick."""
    place = {"stream": stream, "id": entry_id}
    if family(stream) == "ticks":
        try:
            batch = unpack(fields)
        except ValueError:
            return [place | _plain(fields)]
        if len(batch.rec):
            return [place | tick for tick in _ticks(batch)]
    return [place | _plain(fields)]


def _plain(fields: Fields) -> dict[str, Any]:
    """`data` and `bars` hold JSON; everything else is text."""
    plain: dict[str, Any] = {name.decode(errors="replace"): value for name, value in fields.items()}
    for name, value in plain.items():
        text = value.decode(errors="backslashreplace")
        plain[name] = _parsed(text) if name in ("data", "bars") else text
    return plain


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


# Ticks


def _tick_lines(_: str, fields: Fields) -> list[str]:
    batch = unpack(fields)
    if not len(batch.rec):
        what = f"feed {batch.feed.decode()}" if batch.feed else "history"
        detail = f" {len(json.loads(batch.bars))} minutes" if batch.bars else ""
        of = f" of {', '.join(batch.keys[:3])}{' ...' if len(batch.keys) > 3 else ''}" if batch.keys else ""
        return [f"{_time(batch.ts)} ({what}{detail}{of})"]
    return [_tick_line(tick) for tick in _ticks(batch)]


def _ticks(batch: TickBatch) -> list[dict[str, Any]]:
    """Each record with its instrument's key; what is not known is None."""
    names = {instrument_id(key): key for key in batch.keys}
    made = []
    for record in batch.rec:
        known = int(record["flags"]) >> KNOWN_SHIFT
        tick: dict[str, Any] = {"instrument": names.get(int(record["id"]), str(record["id"]))}
        tick |= {name: _value(record[name], known, _BLOCK_OF.get(name)) for name in _SHOWN}
        made.append(tick)
    return made


def _value(value: Any, known: int, block: Block | None) -> int | float | None:
    if block is not None and not known & block:
        return None
    plain: int | float = value.item()
    return None if isinstance(plain, float) and np.isnan(plain) else plain


def _tick_line(tick: Mapping[str, Any]) -> str:
    iv = None if tick["iv"] is None else tick["iv"] * 100
    return (
        f"{_time(tick['ts'])} {tick['instrument']:<{_KEY_WIDTH}} {_price(tick['ltp'])} {_count(tick['vtt'], 13)}"
        f" {_price(tick['bid'])} {_count(tick['bid_qty'], 8)} {_price(tick['ask'])} {_count(tick['ask_qty'], 8)}"
        f" {_count(tick['oi'], 12)} {_number(iv, 6, 1)} {_number(tick['delta'], 6, 2)}"
    )


# Everything else: entries that carry JSON


def _bar_lines(_: str, fields: Fields) -> list[str]:
    bar = json.loads(fields[b"data"])
    iv = None if bar["iv"] is None else bar["iv"] * 100
    prices = " ".join(_price(bar[name]) for name in ("open", "high", "low", "close"))
    notes = ("" if bar["complete"] else " incomplete") + ("" if bar["source"] == "live" else f" {bar['source']}")
    start = f"{_time(bar['ts'])[:5]} {bar.get('interval', '')}"
    return [
        f"{start:<12} {bar['instrument']:<{_KEY_WIDTH}} {prices} {_count(bar['volume'], 10)}"
        f" {_count(bar['oi'], 12)} {_number(iv, 6, 1)} {bar['ticks']:>5} {bar['rev']}{notes}"
    ]


def _chain_lines(_: str, fields: Fields) -> list[str]:
    """A chain by its aggregates; its strikes are for programs, and for the page."""
    chain = json.loads(fields[b"data"])
    notes = "" if chain["complete"] else " incomplete"
    if chain["silent_shards"]:
        notes += f" (shards {', '.join(map(str, chain['silent_shards']))} silent)"
    return [
        f"{_time(chain['ts'])[:5]:<12} {chain['underlying']:<{_KEY_WIDTH}} {chain['expiry']} {_price(chain['spot'])}"
        f" {_price(chain['forward'])} {_strike(chain['atm_strike'])} {_number(_percent(chain['atm_iv']), 6, 2)}"
        f" {_number(chain['straddle'], 9, 2)} {_number(chain['pcr_oi'], 5, 2)} {_strike(chain['max_pain'])}"
        f" {_strike(chain['put_wall'])} {_strike(chain['call_wall'])} {_number(_crores(chain['gex']), 9, 1)}"
        f" {_number(_percent(chain['skew_25d']), 6, 2)} {_number(chain['iv_rank'], 4, 0)} {chain['rev']}{notes}"
    ]


def _event_lines(_: str, fields: Fields) -> list[str]:
    event = json.loads(fields[b"data"])
    return [f"{_time(event['ts'])} {event['kind']:<8} {event['worker']:<10} {event['message']}"]


def _order_lines(_: str, fields: Fields) -> list[str]:
    data = json.loads(fields[b"data"])
    return [f"{_time(data['ts'])} {render_orders.line(fields[b'kind'].decode(), data)}"]


def _signal_lines(_: str, fields: Fields) -> list[str]:
    data = json.loads(fields[b"data"])
    return [f"{_time(data['ts'])} {render_orders.signal(data)}"]


def _named_lines(entry_id: str, fields: Fields) -> list[str]:
    """Commands: when, which, and the content as compact JSON."""
    named = [b"kind", b"by", b"strategy", b"instrument", b"underlying", b"expiry"]
    words = [fields[name].decode() for name in named if name in fields]
    data = json.dumps(json.loads(fields[b"data"]), ensure_ascii=False, separators=(",", ":"))
    return [f"{_time(int(entry_id.partition('-')[0]))} {' '.join(words)} {data}"]


def _other(entry_id: str, fields: Fields) -> list[str]:
    shown = " ".join(f"{name.decode(errors='replace')}={_short(value)}" for name, value in fields.items())
    return [f"{_time(int(entry_id.partition('-')[0]))} {shown}"]


_LINES: Final[dict[str, Callable[[str, Fields], list[str]]]] = {
    "ticks": _tick_lines,
    "candles": _bar_lines,
    "intervals": _bar_lines,
    "events": _event_lines,
    "chain": _chain_lines,
    "orders": _order_lines,
    "signals": _signal_lines,
    "commands": _named_lines,
}


# Values


def _time(ts_ms: int) -> str:
    """`09:15:00.250`, Indian time."""
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC) + _IST:%H:%M:%S.%f}"[:-3]


def _price(value: float | None) -> str:
    return _number(value, 10, 2)


def _number(value: float | None, width: int, places: int) -> str:
    return " " * width if value is None else f"{value:>{width}.{places}f}"


def _percent(value: float | None) -> float | None:
    return None if value is None else value * 100


def _crores(rupees: float | None) -> float | None:
    return None if rupees is None else rupees / 1e7


def _strike(value: float | None) -> str:
    return " " * 9 if value is None else f"{value:>9.10g}"


def _count(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:>{width},.0f}"


def _short(value: bytes) -> str:
    """Text as it is; what is binary by its size, what is long by its beginning."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"
    if not text.isprintable():
        return f"<{len(value)} bytes>"
    return text if len(text) <= 120 else text[:117] + "..."
