"""Milliseconds from a tick that meets a GTT's trigger to the order request that has arrived at the venue, at 10,000
full-mode ticks a second, open loop, with some 2,500 live GTTs.

All processes are the real ones: a venue that sends a frame of 100 instruments every 10 ms whether we keep up or not
and takes orders over HTTP; ingest; Redis; the order worker in live mode with our own GTT engine, its risk checks and
its journal in Postgres, written before the request leaves. Sixteen times a second some instrument's price reaches the
trigger of a GTT. Measured from the time that the tick was due to leave the venue to the time that the whole order
request has arrived there, by the venue's clock.

The peer is the way of the vendor's SDK in the same run, at the same pace: its streamer decodes, a callback compares
prices, its synchronous `place_order` sends. It writes nothing down, checks nothing and watches twenty prices, and most
of a core goes into decoding: where it does not keep up, its latency grows for as long as one measures. The detail has
it at a tenth of the pace, too.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import orjson
from redis import Redis

from bench import frames
from bench.order_venue import ladders, price_of
from bench.report import Report, run
from bench.stack import ROOT, Stack, free_pair, order_venue, stack
from schemas import streams

_KEYS: Final = 2000
_KEYS_PER_FRAME: Final = 100
_FRAMES_PER_S: Final = 100.0
_RUNGS_PER_S: Final = 16.0
_WARM: Final = 32  # orders that are not counted
_ORDERS: Final = 288
_RUNGS: Final = 24  # of each ladder: some are climbed more often than others
_IDLE: Final = 2_000  # GTTs whose price never comes
_WAIT_S: Final = 60.0

Arrived = list[tuple[str, int, float]]

_ENV: Final = {
    "TEJI_MODE": "live",
    "TEJI_GTT_ENGINE": "ours",
    "TEJI_ALGO_NAME": "bench",  # for a venue that takes 50 orders a second
    "TEJI_ORDER_BUDGET": "50,500,2000",
    "TEJI_CAPITAL": "1000000000000",
    "TEJI_RISK_TRADES": "100000",
    "TEJI_RISK_DUPLICATES": "true",
}


def bodies() -> Iterator[dict[str, Any]]:
    """A GTT for each rung of each ladder that is climbed, and many that only wait."""
    for rung in range(1, _RUNGS + 1):
        for key in ladders(_KEYS, _KEYS_PER_FRAME):
            yield _body(key, price_of(rung))
    others = frames.keys(_KEYS)
    for number in range(_IDLE):
        yield _body(others[number % len(others)], 100_000.0)


def _body(key: str, price: float) -> dict[str, Any]:
    rule = {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": price}
    return {
        "type": "SINGLE", "quantity": 75, "product": "I", "rules": [rule], "instrument_token": key,
        "transaction_type": "BUY", "engine": "ours",
    }  # fmt: skip


def place(running: Stack) -> int:
    """Asks for all GTTs, and waits until the worker watches them."""
    asked = list(bodies())
    with contextlib.closing(Redis.from_url(running.redis_url)) as redis:
        for number, body in enumerate(asked):
            data = orjson.dumps({"kind": "gtt.place", "body": body})
            redis.xadd(streams.COMMANDS, {"id": f"bench{number}", "kind": "gtt.place", "by": "bench", "data": data})
    running.wait("gtt", "teji_live_gtts", len(asked))
    return len(asked)


def climb(port: int, rungs: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/climb?rungs={rungs}", timeout=10) as answer:
        assert json.load(answer)["data"] == rungs


def arrived(port: int, at_least: int, within_s: float) -> Arrived:
    """The orders that have come, once there are so many or the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/arrived", timeout=10) as answer:
            found: Arrived = json.load(answer)["data"]
        if len(found) >= at_least or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def refusal(running: Stack) -> str:
    """What the worker says of the newest one that it did not send."""
    with contextlib.closing(Redis.from_url(running.redis_url)) as redis:
        entries: Any = redis.xrevrange(streams.ORDERS, count=5_000)
    told = [orjson.loads(fields[b"data"]) for _, fields in entries if fields[b"kind"] == b"refused"]
    return f": {told[0]['reason']}" if told else ""


def ours() -> dict[str, float]:
    wanted = _WARM + _ORDERS
    pace = (_KEYS, _KEYS_PER_FRAME, _FRAMES_PER_S)

    def front(port: int) -> AbstractContextManager[None]:
        return order_venue(port, *pace, _RUNGS_PER_S)

    with stack(*pace, "ingest", "gtt", env=_ENV, front=front) as running:
        port = running.ports["venue"]
        running.wait("ingest", "teji_ticks_total", 1)
        running.wait("gtt", "teji_ticks_total", 1)
        gtts = place(running)
        climb(port, wanted)
        found = arrived(port, wanted, wanted / _RUNGS_PER_S + _WAIT_S)
        if len(found) < wanted:
            raise TimeoutError(f"{len(found)} of {wanted} orders have arrived{refusal(running)}")
    at = _quantiles(found[_WARM:])
    return {**at, "orders": float(len(found) - _WARM), "live GTTs": float(gtts)}


def peer(frames_per_s: float, orders: int) -> dict[str, float]:
    """What has arrived when the last rung was due and some seconds more have passed."""
    port = free_pair()
    rungs_per_s = _RUNGS_PER_S * frames_per_s / _FRAMES_PER_S
    with order_venue(port, _KEYS, _KEYS_PER_FRAME, frames_per_s, rungs_per_s):
        command = [sys.executable, "-m", "bench.peer_tick_to_order", str(port), str(_KEYS), str(_KEYS_PER_FRAME), "99"]
        process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ))
        try:
            time.sleep(3)  # it imports, connects and subscribes
            climb(port, orders)
            found = arrived(port, orders, orders / rungs_per_s + 5)
        finally:
            process.kill()
            process.wait()
    if not found:
        raise TimeoutError("no order of the peer has arrived")
    return {**_quantiles(found), "orders": float(len(found)), "of": float(orders)}


def measure() -> Report:
    sdk, slow = peer(_FRAMES_PER_S, 160), peer(_FRAMES_PER_S / 10, 24)
    at = ours()
    detail = {**at, **{f"SDK, {name}": value for name, value in sdk.items()}}
    detail |= {f"SDK at 1,000 ticks/s, {name}": value for name, value in slow.items()}
    return Report.of(
        "tick-to-order", at["p50 ms"], "ms (p50)", "vendor SDK: streamer, callback, place_order", sdk["p50 ms"], detail,
        less_is_better=True,
    )  # fmt: skip


def _quantiles(found: Arrived) -> dict[str, float]:
    ms = sorted(each[2] for each in found)
    return {f"p{q:g} ms": ms[min(len(ms) - 1, int(len(ms) * q / 100))] for q in (50, 90, 99)} | {"most ms": ms[-1]}


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
