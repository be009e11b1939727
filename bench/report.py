"""What every bench has in common: measure both sides in turns, print a table for people or one JSON object."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Report:
    """One number of the README beside its peer's, both measured in the same run. `--json` prints these fields."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float  # how many times better than the peer; the larger the better for every unit
    detail: Mapping[str, float]

    @classmethod
    def of(
        cls,
        name: str,
        value: float,
        unit: str,
        peer: str,
        peer_value: float,
        detail: Mapping[str, float],
        *,
        less_is_better: bool = False,
    ) -> "Report":
        better, worse = (peer_value, value) if less_is_better else (value, peer_value)
        return cls(name, _short(value), unit, peer, _short(peer_value), _short(better / worse), _shortened(detail))


def run(argv: Sequence[str], measure: Callable[[], Report], about: str) -> Report:
    """The main of a bench: `--json` or a table."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args(argv).json
    report = measure()
    print(json.dumps(asdict(report)) if as_json else table(report))
    return report


def table(report: Report) -> str:
    rows = [
        (report.name, f"{report.value:,} {report.unit}"),
        (report.peer, f"{report.peer_value:,} {report.unit}"),
        ("ratio", f"{report.ratio:,}"),
    ]
    rows += [(name, f"{value:,}") for name, value in report.detail.items()]
    left = max(len(name) for name, _ in rows)
    right = max(len(value) for _, value in rows)
    lines = [f"{name:<{left}}  {value:>{right}}" for name, value in rows]
    return "\n".join([*lines[:3], "-" * (left + 2 + right), *lines[3:]])


def in_turns(sides: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, float]:
    """Each side's median over rounds in which all sides run one after the other: a slow moment of the machine meets
    all of them alike. The first round only warms up."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            result = side()
            if number:
                results[name].append(result)
    return {name: median(values) for name, values in results.items()}


def rate(work: Callable[[], int], seconds: float) -> float:
    """Units a second: `work` does some and says how many; repeated until the time is over."""
    done = 0
    start = perf_counter()
    while True:
        done += work()
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


def _short(value: float) -> float:
    """Four significant digits: the rest is noise."""
    shortened = float(f"{value:.4g}")
    return int(shortened) if shortened.is_integer() else shortened


def _shortened(detail: Mapping[str, float]) -> dict[str, float]:
    return {name: _short(value) for name, value in detail.items()}
