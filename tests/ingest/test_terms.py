"""What ingest says of its instruments in `terms:{k}`."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

import ingest.catalogue
import ingest.worker
from ingest import terms
from market.instruments import Instrument, last_trade_ms
from schemas import streams
from schemas.terms import Terms, TermsKind
from tests.end_to_end.pipeline import Pipeline, log_in, pipeline
from tests.ingest import live

NIFTY = "NSE_INDEX|Nifty 50"
EXPIRY = date(2026, 11, 24)


def instrument(key: str, kind: str, **more: Any) -> Instrument:
    segment = key.partition("|")[0]
    told = {"exchange": segment[:3], "name": "NIFTY", "trading_symbol": f"NIFTY {kind}", "lot_size": 65}
    return Instrument(key=key, segment=segment, instrument_type=kind, tick_size=0.05, **{**told, **more})


def derivative(kind: str, **more: Any) -> Instrument:
    about = {"expiry": EXPIRY, "underlying_key": NIFTY, "underlying_symbol": "NIFTY"}
    return instrument("NSE_FO|1", kind, **{**about, **more})


@pytest.mark.parametrize(("kind", "is_call"), [("CE", True), ("PE", False)])
def test_an_option_has_strike_side_and_the_second_of_its_last_trade(kind: str, is_call: bool) -> None:
    option = derivative(kind, strike=25_900.0)
    assert terms.of(option, {NIFTY}) == Terms(
        kind=TermsKind.OPTION,
        underlying=NIFTY,
        expiry=EXPIRY,
        last_trade_ms=last_trade_ms(option),
        strike=25_900.0,
        is_call=is_call,
        lot_size=65,
    )


def test_a_future_has_no_side() -> None:
    told = terms.of(derivative("FUT"), {NIFTY})
    assert told is not None
    assert (told.kind, told.strike, told.is_call, told.expiry) == (TermsKind.FUTURE, None, None, EXPIRY)


def test_only_what_derivatives_are_written_on_is_a_spot() -> None:
    index = instrument(NIFTY, "INDEX")
    assert terms.of(index, {NIFTY}) == Terms(kind=TermsKind.SPOT, underlying=NIFTY, lot_size=65)
    assert terms.of(index, ()) is None


def test_a_currency_contract_names_its_underlying_by_symbol() -> None:
    told = terms.of(derivative("FUT", underlying_key=None, underlying_symbol="USDINR"), ())
    assert told is not None
    assert told.underlying == "USDINR"


def test_a_segment_that_the_calendar_does_not_know_has_no_last_trade() -> None:
    told = terms.of(instrument("XYZ_FO|1", "FUT", expiry=EXPIRY, underlying_symbol="X"), ())
    assert told is not None
    assert told.last_trade_ms is None


def test_the_hash_holds_what_has_terms_and_reads_back() -> None:
    option, index, share = derivative("CE", strike=1.0), instrument(NIFTY, "INDEX"), instrument("NSE_EQ|A", "EQ")
    found = terms.fields([option, index, share, None], {NIFTY})
    assert {key: Terms.model_validate_json(body) for key, body in found.items()} == {
        option.key: terms.of(option, {NIFTY}),
        NIFTY: terms.of(index, {NIFTY}),
    }


async def told(line: Pipeline) -> dict[str, Terms]:
    found = await line.bus.redis.hgetall(streams.terms(0))
    return {key.decode(): Terms.model_validate_json(body) for key, body in found.items()}


def listed(line: Pipeline) -> dict[str, Terms]:
    universe = line.market.market.listing.catalogue
    written_on = set(universe.underlyings())
    of = {each.key: terms.of(each, written_on) for each in universe}
    return {key: one for key, one in of.items() if one is not None}


async def test_terms_are_there_before_the_feed_is_asked_and_anew_every_morning(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.catalogue, "_LOOK_S", 0.05)
    evening = {"start": "2026-11-17T23:59:58"}  # of a Tuesday, on which contracts expire
    async with pipeline(redis_url, tmp_path / "home", evening) as line:
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.subscribed(line.market), "asked")
        before, asked = listed(line), live.subscribed(line.market)
        assert before.keys() & asked
        assert (await told(line)).items() >= {key: one for key, one in before.items() if key in asked}.items()
        stays = next(key for key, one in before.items() if key in asked and one.kind is TermsKind.SPOT)
        wrong = Terms(kind=TermsKind.SPOT, underlying="yesterday's").model_dump_json()
        await line.bus.redis.hset(streams.terms(0), stays, wrong)
        await line.market.advance(7 * 3_600_000 + 3000)
        await line.until(lambda: live.feed_is(line, "needs_login"), "the token died in the night")
        await log_in(line.settings)
        after = listed(line)
        assert after.keys() - before.keys()
        assert stays in after

        async def anew() -> bool:
            return (await told(line)).items() >= after.items()

        await line.until(anew, "the terms of the next day")
