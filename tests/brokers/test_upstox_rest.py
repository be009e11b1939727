"""What each answer of the venue means, and how often it is asked."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.upstox import history
from brokers.upstox.rest import (
    READ_BUDGET,
    USER_AGENT,
    Blocked,
    Budget,
    NeedsLogin,
    Rest,
    Throttled,
    VenueError,
    complaint,
    http_client,
    path_part,
    payload,
)
from schemas.errors import Misconfigured, Rejected, Unavailable
from tests.brokers.scripted import Answer, scripted, success

HTML = b"<!DOCTYPE html><html><body><h1>Error 1010</h1></body></html>"


def error_body(code: str, message: str = "no", **more: Any) -> bytes:
    return orjson.dumps({"status": "error", "errors": [{"error_code": code, "message": message, **more}]})


def refusal(status: int, body: bytes) -> Exception:
    with pytest.raises((Unavailable, Rejected)) as raised:
        payload(httpx.Response(status, content=body))
    return raised.value


def test_a_success_gives_its_data() -> None:
    assert payload(httpx.Response(200, content=b'{"status":"success","data":{"a":1}}')) == {"a": 1}
    assert payload(httpx.Response(200, content=b'{"status":"success"}')) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, error_body("UDAPI100050"), NeedsLogin, "UDAPI100050"),
        (401, b"", NeedsLogin, "401"),
        (403, HTML, Blocked, "edge"),
        (403, b"", Blocked, "edge"),
        (403, error_body("UDAPI1154", "static IP"), Blocked, "UDAPI1154: static IP"),
        (429, error_body("UDAPI10005"), Throttled, "429"),
        (429, HTML, Throttled, "429"),
        (423, error_body("UDAPI100072"), Unavailable, "423 UDAPI100072"),
        (500, error_body("UDAPI100500"), Unavailable, "500 UDAPI100500"),
        (503, b"", Unavailable, "503"),
        (520, HTML, Unavailable, "520"),
        (400, b"", VenueError, "400"),
        (400, error_body("UDAPI1148", "too long"), VenueError, "UDAPI1148: too long"),
        (404, error_body("UDAPI100060"), VenueError, "UDAPI100060"),
        (410, b"gone", VenueError, "410"),
        (422, error_body("UDAPI100011"), VenueError, "UDAPI100011"),
        (302, b"", VenueError, "302"),
        (200, HTML, VenueError, "not in the venue's form"),
        (200, b"[1]", VenueError, "not in the venue's form"),
        (200, b'{"status":"partial_success","data":{}}', VenueError, "200"),
        (207, b'{"status":"success","data":{}}', VenueError, "207"),
    ],
)
def test_every_status_says_what_to_do_next(status: int, body: bytes, kind: type[Exception], says: str) -> None:
    error = refusal(status, body)
    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize("name", ["error_code", "errorCode"])
def test_an_error_code_is_read_in_both_spellings(name: str) -> None:
    body = orjson.dumps({"status": "error", "errors": [{name: "UDAPI1021", "message": "bad key"}]})
    error = refusal(400, body)
    assert isinstance(error, VenueError)
    assert (error.status, error.code) == (400, "UDAPI1021")


@pytest.mark.parametrize("errors", [None, {}, [], "x", [1], [None], [{}], [{"error_code": None, "message": 7}]])
def test_a_complaint_in_no_known_form_is_none(errors: Any) -> None:
    code, _ = complaint({"errors": errors})
    assert code == ""


@given(st.integers(200, 599), st.binary(max_size=40) | st.just(error_body("X" * 5000, "y" * 5000)))
def test_any_answer_is_data_or_one_of_our_errors_of_bounded_length(status: int, body: bytes) -> None:
    said = ""
    try:
        payload(httpx.Response(status, content=body))
    except (Unavailable, Rejected) as error:
        said = str(error)
    assert len(said) < 1000


def test_an_instrument_key_fits_into_a_path() -> None:
    assert path_part("NSE_INDEX|Nifty 50") == "NSE_INDEX%7CNifty%2050"


# Budget


class Stopwatch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def calls_in(made: list[float], window: float) -> int:
    """The most calls that any window of that length holds."""
    return max(sum(1 for other in made if first <= other < first + window) for first in made)


@given(st.lists(st.floats(0, 3), max_size=120))
def test_a_budget_is_never_exceeded_in_any_of_its_windows(pauses: list[float]) -> None:
    watch = Stopwatch()
    budget = Budget(((1.0, 3), (10.0, 12)), watch)
    made: list[float] = []
    for pause in pauses:
        watch.now += pause
        watch.now += budget.wait_s()
        budget.spend()
        made.append(watch.now)
    if made:
        assert calls_in(made, 1.0 - 1e-6) <= 3
        assert calls_in(made, 10.0 - 1e-6) <= 12


def test_a_budget_lets_a_burst_through_at_once() -> None:
    watch = Stopwatch()
    budget = Budget(READ_BUDGET, watch)
    for _ in range(READ_BUDGET[0][1]):
        assert budget.wait_s() == 0.0
        budget.spend()
    assert budget.wait_s() == 1.0


def test_our_budget_leaves_room_under_the_venues_own() -> None:
    assert all(ours < theirs for (_, ours), theirs in zip(READ_BUDGET, (50, 500, 2000), strict=True))


# Calls


def rest_of(client: httpx.AsyncClient, url: str, token: str | None = "secret-token") -> Rest:
    return Rest(client, url, lambda: token, Budget((), lambda: 0.0))


async def test_a_call_carries_the_token_and_says_who_it_is() -> None:
    async with scripted() as venue, http_client() as client:
        venue.on("/v2/x", success([1]))
        assert await rest_of(client, venue.url + "/").get("/v2/x", {"a": "NSE_FO|1"}) == [1]
        (request,) = venue.requests
    assert request.headers["authorization"] == "Bearer secret-token"
    assert request.headers["user-agent"] == USER_AGENT
    assert request.path == "/v2/x?a=NSE_FO%7C1"


async def test_without_a_token_nobody_is_asked() -> None:
    async with scripted() as venue, http_client() as client:
        with pytest.raises(NeedsLogin, match="no access token"):
            await rest_of(client, venue.url, None).get("/v2/x")
        assert venue.requests == []


async def test_a_venue_that_hangs_up_or_is_not_there_is_unavailable() -> None:
    async with scripted() as venue, http_client() as client:
        venue.on("/v2/x", Answer(hang_up=True))
        with pytest.raises(Unavailable, match="does not answer"):
            await rest_of(client, venue.url).get("/v2/x")
    async with http_client() as client:
        with pytest.raises(Unavailable, match="does not answer"):
            await rest_of(client, "http://127.0.0.1:9").get("/v2/x")


@pytest.mark.parametrize("token", ["eyJ.secret\n.x", "eyJ.secretäöü.x"])
async def test_a_token_that_cannot_be_sent_is_not_told_to_anybody(token: str) -> None:
    async with scripted() as venue, http_client() as client:
        with pytest.raises(Misconfigured, match="garbled") as raised:
            await rest_of(client, venue.url, token).get("/v2/x")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("url", ["no address", "ftp://host", "http://host:none"])
async def test_an_address_that_is_none_is_a_sentence_for_a_person(url: str) -> None:
    async with http_client() as client:
        with pytest.raises(Misconfigured, match="UPSTOX_API_URL"):
            await rest_of(client, url).get("/x")


async def test_calls_wait_for_their_turn_and_what_is_not_counted_does_not() -> None:
    watch = Stopwatch()
    budget = Budget(((1000.0, 2),), watch)
    async with scripted() as venue, http_client() as client:
        venue.on("/v2/x", success(1))
        rest = Rest(client, venue.url, lambda: "t", budget)
        await rest.get("/v2/x")
        await rest.get("/v2/x")
        waiting = asyncio.create_task(rest.get("/v2/x"))
        assert await rest.get("/v2/x", counted=False) == 1
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


# Candles


async def test_candles_are_read_oldest_first_with_what_they_lack() -> None:
    rows = [
        ["2026-11-18T09:17:00+05:30", 3, 4, 2, 3.5, 30],
        ["2026-11-18T09:16:00+05:30", 1.5, 2, 1, 1.25, 75, 0],
        ["2026-11-18T09:15:00+05:30", 1, 2, 1, 1.5, 150, 5025.0],
    ]
    async with scripted() as venue, http_client() as client:
        venue.on("/v3/historical-candle/intraday/NSE_FO%7C1/minutes/1", success({"candles": rows}))
        bars = await history.intraday(rest_of(client, venue.url), "NSE_FO|1")
    first = 1_794_973_500_000
    assert [(bar.ts, bar.open, bar.close, bar.volume, bar.oi) for bar in bars] == [
        (first, 1.0, 1.5, 150, 5025.0),
        (first + 60_000, 1.5, 1.25, 75, None),
        (first + 120_000, 3.0, 3.5, 30, None),
    ]


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, {"candles": None}, {"candles": [[]]}, {"candles": [["not a time", 1, 1, 1, 1, 1, 1]]},
        {"candles": [["2026-11-18T09:15:00+05:30", None, 1, 1, 1, 1, 1]]}, {"candles": [[5, 1, 1, 1, 1, 1, 1]]},
        {"candles": ["x"]}, {"candles": [["2026-11-18T09:15:00+05:30", 1, 1, 1, 1, "much", 1]]},
    ],
)  # fmt: skip
def test_candles_in_another_form_are_refused(data: Any) -> None:
    with pytest.raises(VenueError, match="candles"):
        history.parse("NSE_FO|1", data)
