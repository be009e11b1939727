"""A market whose next trade is chosen: quotes beside a price, a trade at it, told as any interval is."""

import numpy as np

from sim.exchange import Exchange
from sim.market import Trades, Update


def trade_at(exchange: Exchange, key: str, price: float, *, quantity: int = 5_000, spread: float = 0.0) -> None:
    """The instrument trades at `price`; its quotes lie a tick beside it, or `spread` rupees."""
    market = exchange.market
    row = market.listing.row_of[key]
    beside = spread or float(market.columns.tick[row])
    market.bid[row], market.ask[row] = round(price - beside, 2), round(price + beside, 2)
    market.epoch[row] += 1
    market.ltp[row], market.ltt[row] = price, exchange.now_ms()
    rows = np.array([row])
    trades = Trades(row=rows, ts=np.array([exchange.now_ms()]), price=np.array([price]), quantity=np.array([quantity]))
    update = Update(exchange.now_ms(), rows, trades)
    exchange.hub.publish(update)
    exchange.trading.step(update)
    exchange.gtts.step(update)
    exchange.portfolio.step(update.ts)


def last(exchange: Exchange, key: str) -> float:
    return float(exchange.market.ltp[exchange.market.listing.row_of[key]])
