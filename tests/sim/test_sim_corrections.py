from sim.corrections import corrected
from sim.exchange import Exchange
from tests.sim.simtools import MINUTE, NIFTY, RELIANCE, START, served, settings, trader

ROWS = [(n * MINUTE, 10.0, 12.0, 9.0, 11.0, 500, 0) for n in range(2000)]


def test_a_share_of_the_minutes_is_told_otherwise_and_the_same_ones_each_time() -> None:
    market = Exchange(settings()).market
    for key, fields in ((RELIANCE, {2, 5}), (NIFTY, {2})):
        instrument = market.listing.get(key)
        assert instrument is not None
        told = corrected(ROWS, instrument, 7, 0.25)
        assert told == corrected(ROWS, instrument, 7, 0.25)
        other = [(one, two) for one, two in zip(ROWS, told, strict=True) if one != two]
        assert 400 < len(other) < 600
        assert {place for one, two in other for place in range(7) if one[place] != two[place]} == fields
        assert corrected(ROWS, instrument, 7, 0.0) == ROWS
        assert corrected(ROWS, instrument, 8, 0.25) != told


async def test_history_corrects_what_intraday_had_told() -> None:
    async with served(corrections=0.3, start=START.replace(hour=15, minute=20)) as exchange, trader(exchange) as client:
        path = f"/v3/historical-candle/intraday/{NIFTY}/minutes/1"
        intraday = (await client.get(path)).json()["data"]["candles"]
        await exchange.advance(24 * 60 * MINUTE)
        path = f"/v3/historical-candle/{NIFTY}/minutes/1/2026-11-20/2026-11-20"
        final = {row[0]: row for row in (await client.get(path)).json()["data"]["candles"]}
        over = intraday[1:]
        different = [row for row in over if final[row[0]] != row]
        assert 0.2 < len(different) / len(over) < 0.4
