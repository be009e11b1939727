"""Runs in a peer's own interpreter, see peers.py: one-minute bars by NautilusTrader's TimeBarAggregator.

Called with the peer's name and a folder of arrays: `row` (which instrument), `ts` (epoch ms), `price`, `size` of each
trade, in order; the first `warm` of them are fed before the clock starts. The words on the input: `fold` feeds trade
objects that are there already, `all` makes them from the numbers first; the answer is trades in a second of processor
time. `open` is `fold` without the time in which minutes end; `bars` writes the bars of the last run. Imports nothing of
ours.

Generous to it: the clock moves only where a minute ends, all trades share one id, and bars without trades are off.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

MINUTE_NS = 60_000_000_000
#: One row for each bar.
BAR = np.dtype(
    [("row", "<i8"), ("end_ms", "<i8"), *((name, "<f8") for name in ("open", "high", "low", "close", "volume"))]
)


class Nautilus:
    def __init__(self, given: dict[str, Any]) -> None:
        data, objects = _module("model.data"), _module("model.objects")
        side = _module("model.enums").AggressorSide.NO_AGGRESSOR
        number = _module("model.identifiers").TradeId("1")
        provider = _module("test_kit.providers").TestInstrumentProvider
        self._types = data.TradeTick, objects.Price, objects.Quantity, side, number
        rows = int(given["row"].max()) + 1
        self._instruments = [provider.equity(symbol=f"I{n}", venue="NSE") for n in range(rows)]
        self._row = {str(one.id): row for row, one in enumerate(self._instruments)}
        self._bar_types = [data.BarType.from_str(f"{one.id}-1-MINUTE-LAST-INTERNAL") for one in self._instruments]
        self._columns = (
            given["row"].tolist(), (given["ts"] * 1_000_000).tolist(), given["price"].tolist(), given["size"].tolist()
        )  # fmt: skip
        self._warm = int(given["warm"][0])
        self._ticks = self._make(0)
        self._bars: list[Any] = []

    def run(self, what: str) -> float:
        """Trades a second."""
        clock, aggregators = self._fresh()
        end = self._feed(clock, aggregators, self._ticks[: self._warm], self._columns[0][: self._warm], 0)
        self._closing_s = 0.0
        start = process_time()
        ticks = self._make(self._warm) if what == "all" else self._ticks[self._warm :]
        end = self._feed(clock, aggregators, ticks, self._columns[0][self._warm :], end)
        self._advance(clock, end)
        spent = process_time() - start
        return len(ticks) / (spent - self._closing_s if what == "open" else spent)

    def _feed(self, clock: Any, aggregators: list[Any], ticks: list[Any], rows: list[int], end: int) -> int:
        """Returns when the minute that is open will end."""
        end = end or ticks[0].ts_event // MINUTE_NS * MINUTE_NS + MINUTE_NS
        for row, tick in zip(rows, ticks, strict=True):
            if tick.ts_event >= end:
                end = self._advance(clock, end)
            aggregators[row].handle_trade_tick(tick)
        return end

    def save(self, path: Path) -> None:
        rows = [
            (self._row[str(bar.bar_type.instrument_id)], bar.ts_event // 1_000_000,
             float(bar.open), float(bar.high), float(bar.low), float(bar.close), float(bar.volume))
            for bar in self._bars
        ]  # fmt: skip
        np.save(path, np.array(rows, BAR))

    def _make(self, first: int) -> list[Any]:
        trade, price, quantity, side, number = self._types
        ids = [one.id for one in self._instruments]
        return [
            trade(ids[row], price(paid, 2), quantity(size, 0), side, number, ts, ts)
            for row, ts, paid, size in zip(*(one[first:] for one in self._columns), strict=True)
        ]

    def _fresh(self) -> tuple[Any, list[Any]]:
        clock = _module("common.component").TestClock()
        clock.set_time(self._columns[1][0] // MINUTE_NS * MINUTE_NS)
        self._bars = []
        aggregators = [
            _module("data.aggregation").TimeBarAggregator(
                instrument, kind, self._bars.append, clock, build_with_no_updates=False
            )
            for instrument, kind in zip(self._instruments, self._bar_types, strict=True)
        ]
        for one in aggregators:
            if hasattr(one, "start_timer"):  # newer versions wait to be told
                one.start_timer()
        return clock, aggregators

    def _advance(self, clock: Any, end: int) -> int:
        start = process_time()
        for event in clock.advance_time(end):
            event.handle()
        self._closing_s += process_time() - start
        return end + MINUTE_NS


def _module(name: str) -> Any:
    return importlib.import_module(f"nautilus_trader.{name}")


def serve(folder: Path) -> None:
    warnings.simplefilter("ignore")
    peer = Nautilus({path.stem: np.load(path) for path in folder.glob("*.npy")})
    for line in sys.stdin:
        what = line.strip()
        if what == "bars":
            peer.save(folder / "bars.npy")
            print("true", flush=True)
        else:
            print(json.dumps(peer.run(what)), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[2]))
