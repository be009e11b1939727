"""The way the vendor's SDK gives: its streamer decodes each frame into dictionaries, a callback compares prices, and
its synchronous `place_order` sends. Only the addresses are others: the SDK has its feed's written into it.

    python -m bench.peer_tick_to_order PORT KEYS KEYS_PER_FRAME RUNGS
"""

import sys
from typing import Any

import upstox_client
import websocket
from upstox_client.feeder.market_data_feeder_v3 import MarketDataFeederV3

from bench import frames
from bench.order_venue import ladders, price_of


class Watching:
    """The next rung of each ladder; an order for each that is reached."""

    def __init__(self, api: Any, keys: list[str], rungs: int) -> None:
        self._api = api
        self._next = dict.fromkeys(keys, 1)
        self._rungs = rungs

    def message(self, told: dict[str, Any]) -> None:
        for key, feed in told.get("feeds", {}).items():
            rung = self._next.get(key)
            if rung is None or rung > self._rungs:
                continue
            if feed["fullFeed"]["marketFF"]["ltpc"]["ltp"] >= price_of(rung):
                self._next[key] = rung + 1
                self._place(key, rung)

    def _place(self, key: str, rung: int) -> None:
        body = upstox_client.PlaceOrderV3Request(
            quantity=75, product="I", validity="DAY", price=price_of(rung), tag=f"peer{rung}", instrument_token=key,
            order_type="LIMIT", transaction_type="BUY", disclosed_quantity=0, trigger_price=0.0, is_amo=False,
            slice=False,
        )  # fmt: skip
        self._api.place_order(body)


def main(port: int, n_keys: int, keys_per_frame: int, rungs: int) -> None:
    configuration = upstox_client.Configuration()
    configuration.access_token = "bench"
    configuration.host = configuration.order_host = f"http://127.0.0.1:{port}"
    client = upstox_client.ApiClient(configuration)
    watching = Watching(upstox_client.OrderApiV3(client), ladders(n_keys, keys_per_frame), rungs)
    keys = frames.keys(n_keys)
    streamer = upstox_client.MarketDataStreamerV3(client, keys, "full")
    streamer.on("message", watching.message)
    streamer.feeder = MarketDataFeederV3(client, keys, "full")
    streamer.feeder.ws = websocket.WebSocketApp(
        f"ws://127.0.0.1:{port + 1}/feed", on_open=streamer.handle_open, on_message=streamer.handle_message
    )
    streamer.feeder.ws.run_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
