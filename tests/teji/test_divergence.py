"""`teji report shadow` as a person runs it, on a real Postgres."""

import json
from pathlib import Path

from schemas.orders import Side, TradingMode
from schemas.streams import instrument_id
from tests.brokers.paper_house import house
from tests.brokers.paper_market import OPTION, T0, batch, order, tick
from tests.teji.commands import teji

BIDS = [(99.95, 130), (99.9, 260)]
ASKS = [(100.05, 130), (100.1, 260)]
_BAR = (
    "INSERT INTO bars (instrument_id, ts, open, high, low, close, volume, vwap, ticks, source, complete, rev)"
    " VALUES ($1, $2, 100, $3, $4, 100, $5, $6, 5, 'live', true, 1)"
)


async def traded(url: str) -> None:
    async with house(url, teji_brokerage="none") as home:
        async with home.venue(TradingMode.SHADOW) as venue:
            venue.feed(batch(tick(bids=BIDS, asks=ASKS)))
            await venue.place(order(Side.BUY, 195, "100.10", tag="tjfilled"))
            await venue.place(order(Side.SELL, 65, "105", tag="tjwaiting"))
        number = instrument_id(OPTION.key)
        await home.pool.execute(_BAR, number, T0, 100.05, 100.0, 6500, 100.0)
        await home.pool.execute(_BAR, number, T0 + 60_000, 106.0, 100.0, 130, 101.0)


async def test_the_report_says_what_the_market_confirms(postgres_url: str, tmp_path: Path) -> None:
    await traded(postgres_url)
    places = {"DATABASE_URL": postgres_url, "REDIS_URL": "redis://unused"}
    told = teji(tmp_path, "report", "shadow", "--date", "2026-11-20", "--json", **places)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert (report["account"], report["date"], report["orders"]) == ("shadow", "2026-11-20", 2)
    assert report["verdicts"] == {"through": 2, "at": 0, "not_reached": 0, "no_bar": 0}
    assert [(each["order_id"], each["quantity"], each["volume"]) for each in report["missed"]] == [
        ("tjwaiting", 65, 130)
    ]
    words = teji(tmp_path, "report", "shadow", **places)
    assert "Friday, 20 November 2026, account shadow: 2 orders, 2 fills" in words.stdout
    assert "SELL 65 NSE_FO|61755 at 105, while 130 traded beyond  tjwaiting" in words.stdout


async def test_without_orders_there_is_nothing_to_report(postgres_url: str, tmp_path: Path) -> None:
    places = {"DATABASE_URL": postgres_url, "REDIS_URL": "redis://unused"}
    told = teji(tmp_path, "report", "shadow", **places)
    assert (told.returncode, told.stdout) == (0, "The account shadow had no order.\n")
    wrong = teji(tmp_path, "report", "shadow", "--date", "yesterday", **places)
    assert (wrong.returncode, "is no date" in wrong.stderr) == (2, True)
