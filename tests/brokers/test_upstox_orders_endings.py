"""Every write ends in exactly one of four ways, whatever becomes of the line; and leaves once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from brokers.upstox import sdk
from brokers.upstox.auth import TokenStore
from brokers.upstox.orders import UpstoxOrders
from brokers.upstox.outcome import NoLogin
from brokers.upstox.rest import Blocked, NeedsLogin, Throttled
from brokers.venue import Lost, NewOrder, NotSent, Refused
from schemas.errors import Misconfigured, Unavailable
from schemas.orders import OrderType, Product, Side, Validity
from tests.brokers.dying import At, Dying, dying, http, self_signed
from tests.brokers.scripted import Answer, Scripted, scripted, success
from tests.conftest import settings_in

ORDER = NewOrder(
    order_id="tj0123456789abcdefgh",
    instrument="NSE_FO|61755",
    side=Side.BUY,
    quantity=75,
    product=Product.INTRADAY,
    order_type=OrderType.LIMIT,
    price=Decimal("101.55"),
    trigger_price=Decimal(0),
    validity=Validity.DAY,
)
TAKEN = b'{"status":"success","data":{"order_ids":["260105000000101"]},"metadata":{"latency":3}}'
PLACE = "/v3/order/place"
PROFILE = "/v2/user/profile"


@contextlib.asynccontextmanager
async def venue_at(home: Path, url: str, timeout_s: float = 0.4, **more: Any) -> AsyncIterator[UpstoxOrders]:
    given = {"upstox_access_token": "eyJ.to.ken", "upstox_api_url": url, "upstox_order_url": url, **more}
    settings = settings_in(home, teji_order_timeout_s=timeout_s, **given)
    async with UpstoxOrders.open(settings, TokenStore(settings)) as venue:
        yield venue


async def ending(home: Path, at: At, answer: bytes = b"") -> tuple[BaseException | str, Dying]:
    async with dying(at, answer) as server, venue_at(home, server.url) as venue:
        try:
            return await venue.place(ORDER), server
        except (Refused, NotSent, Lost) as error:
            return error, server


def told(code: str, spelling: str = "error_code") -> bytes:
    return orjson.dumps({"status": "error", "errors": [{spelling: code, "message": "words"}]})


@pytest.mark.parametrize("at", [each for each in At if each not in (At.NEVER, At.IDLE)])
async def test_a_write_that_has_left_and_has_no_answer_is_lost_and_is_not_sent_again(tmp_path: Path, at: At) -> None:
    error, server = await ending(tmp_path, at)
    assert type(error) is Lost
    assert server.connections == 1
    assert len(server.requests) <= 1


async def test_where_nobody_listens_nothing_was_sent(tmp_path: Path) -> None:
    async with dying(At.NEVER) as server:
        url = server.url
    async with venue_at(tmp_path, url) as venue:
        with pytest.raises(NotSent) as raised:
            await venue.place(ORDER)
    assert raised.value.again_s > 0


async def test_to_a_server_that_nobody_vouches_for_nothing_is_sent(tmp_path: Path) -> None:
    async with dying(At.NEVER, http(200, TAKEN), self_signed(tmp_path)) as server:
        async with venue_at(tmp_path, server.url, 5.0) as venue:
            with pytest.raises(NotSent, match="SSL"):
                await venue.place(ORDER)
        assert server.requests == []


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, told("UDAPI1052"), Refused, "UDAPI1052: words"),
        (400, told("UDAPI1052", "errorCode"), Refused, "UDAPI1052: words"),
        (400, b"", Refused, "400"),
        (400, told("UDAPI100500"), Lost, "UDAPI100500"),
        (200, told("UDAPI100500"), Lost, "UDAPI100500"),
        (403, told("UDAPI1154"), NotSent, "UDAPI1154"),
        (403, told("UDAPI100058"), NotSent, "UDAPI100058"),
        (403, b"<html>error code: 1010</html>", NotSent, "edge"),
        (404, told("UDAPI100060"), Refused, "UDAPI100060"),
        (405, b"", Refused, "405"),
        (408, b"", Lost, "408"),
        (422, told("UDAPI1007"), Refused, "UDAPI1007"),
        (423, told("UDAPI100074"), NotSent, "UDAPI100074"),
        (429, told("UDAPI10005"), NotSent, "429"),
        (200, told("UDAPI100010"), Refused, "UDAPI100010"),
        (200, b"<html>", Lost, "what happened"),
        (200, b"", Lost, "what happened"),
        (200, b'{"status":"success"}', Lost, "no id"),
        (200, b'{"status":"success","data":{"order_ids":[]}}', Lost, "no id"),
        (200, b'{"status":"success","data":[]}', Lost, "no id"),
        (204, b"", Lost, "204"),
        (302, b"", Lost, "302"),
        (500, told("UDAPI100500"), Lost, "UDAPI100500"),
        (502, b"<html>", Lost, "502"),
        (503, b"", Lost, "503"),
    ],
)
async def test_an_answer_has_one_meaning(
    tmp_path: Path, status: int, body: bytes, kind: type[Exception], says: str
) -> None:
    elsewhere = b"Location: http://127.0.0.1:1/elsewhere"
    error, server = await ending(tmp_path, At.NEVER, http(status, body, elsewhere))
    assert type(error) is kind
    assert says in str(error)
    assert len(server.requests) == 1
    assert "eyJ" not in str(error)


async def test_a_refusal_carries_code_words_and_status(tmp_path: Path) -> None:
    error, _ = await ending(tmp_path, At.NEVER, http(400, told("UDAPI1158")))
    assert isinstance(error, Refused)
    assert (error.code, error.message, error.status) == ("UDAPI1158", "words", 400)


async def test_the_venue_may_say_when_to_come_again(tmp_path: Path) -> None:
    error, _ = await ending(tmp_path, At.NEVER, http(429, b"", b"Retry-After: 17"))
    assert isinstance(error, NotSent)
    assert error.again_s == 17


async def test_an_order_that_was_taken_has_an_id_and_left_as_we_wrote_it(tmp_path: Path) -> None:
    named: Any = {"teji_algo_name": "My algo"}
    async with dying(At.NEVER, http(200, TAKEN)) as server, venue_at(tmp_path, server.url, **named) as venue:
        assert await venue.place(ORDER) == "260105000000101"
        await venue.cancel("260105000000101")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert lines[0] == "POST /v3/order/place HTTP/1.1"
    assert headers["authorization"] == "Bearer eyJ.to.ken"
    assert headers["x-algo-name"] == "My algo"
    assert headers["user-agent"].startswith("teji/")
    assert orjson.loads(body) == {
        "quantity": 75, "product": "I", "validity": "DAY", "price": 101.55, "trigger_price": 0.0,
        "instrument_token": "NSE_FO|61755", "order_type": "LIMIT", "transaction_type": "BUY",
        "disclosed_quantity": 0, "is_amo": False, "slice": False, "tag": "tj0123456789abcdefgh",
    }  # fmt: skip
    assert server.requests[1].startswith(b"DELETE /v3/order/cancel?order_id=260105000000101 HTTP/1.1")
    assert server.connections == 1  # kept open for the next one


async def test_an_idle_line_that_the_venue_has_closed_costs_no_order(tmp_path: Path) -> None:
    async with dying(At.IDLE, http(200, TAKEN)) as server, venue_at(tmp_path, server.url, 2.0) as venue:
        for number in range(1, 4):
            await venue.place(ORDER)
            async with asyncio.timeout(5):
                while server.closed < number:  # noqa: ASYNC110 - the server's side of it
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        assert len(server.requests) == 3


async def test_a_line_that_was_idle_for_long_is_not_trusted_with_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dying(At.NEVER, http(200, TAKEN)) as server, venue_at(tmp_path, server.url, 2.0) as venue:
        for idle_max_s, connections in ((25.0, 1), (25.0, 1), (0.0, 2), (25.0, 2)):
            monkeypatch.setattr(sdk, "_IDLE_MAX_S", idle_max_s)
            await venue.place(ORDER)
            assert server.connections == connections
        assert len(server.requests) == 4


async def test_one_that_finds_no_free_thread_in_its_time_was_not_sent_and_never_is(tmp_path: Path) -> None:
    async with dying(At.MUTE) as server, venue_at(tmp_path, server.url, 0.5) as venue:
        ends = await asyncio.gather(*(venue.place(ORDER) for _ in range(6)), return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["Lost"] * 4 + ["NotSent"] * 2
        assert len(server.requests) == 4
        server.at, server.answer = At.NEVER, http(200, TAKEN)
        assert await venue.place(ORDER) == "260105000000101"  # their threads are free again
        assert len(server.requests) == 5


@pytest.mark.parametrize("seed", [1, 2])
async def test_in_a_crowd_at_a_slow_venue_what_was_not_sent_is_never_there_and_what_was_taken_is_there_once(
    tmp_path: Path, seed: int
) -> None:
    draw = Random(seed)
    async with dying(At.NEVER, http(200, TAKEN)) as server, venue_at(tmp_path, server.url, 0.12) as venue:
        server.delay_s = lambda: draw.choice([0.0, 0.005, 0.02, 0.3])
        orders = [replace(ORDER, order_id=f"tj{number:03}") for number in range(80)]
        ends = await asyncio.gather(*(venue.place(order) for order in orders), return_exceptions=True)
        counts = [sum(order.order_id.encode() in request for request in server.requests) for order in orders]
    seen: dict[type, set[int]] = {}
    for end, count in zip(ends, counts, strict=True):
        seen.setdefault(type(end), set()).add(count)
    assert seen.keys() <= {str, Lost, NotSent}
    assert seen[str] == {1}
    assert seen[NotSent] == {0}
    assert seen.get(Lost, set()) <= {0, 1}


async def test_a_cancelled_write_that_has_not_left_never_does(tmp_path: Path) -> None:
    async with dying(At.MUTE) as server, venue_at(tmp_path, server.url, 5.0) as venue:
        tasks = [asyncio.create_task(venue.place(ORDER)) for _ in range(5)]
        async with asyncio.timeout(5):
            while len(server.requests) < 4:  # noqa: ASYNC110 - the server's side of it
                await asyncio.sleep(0.001)
        for task in tasks[::-1]:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )
        server.at, server.answer = At.NEVER, http(200, TAKEN)
        await venue.place(ORDER)
        assert len(server.requests) == 5


# The token


async def refused_at(venue: Scripted, home: Path, profile: Answer) -> tuple[BaseException, TokenStore]:
    venue.on(PLACE, Answer(401, told("UDAPI100050")), Answer(200, TAKEN))
    venue.on(PROFILE, profile)
    settings = settings_in(
        home, upstox_access_token="given", upstox_api_url=venue.url, upstox_order_url=venue.url
    )  # fmt: skip
    tokens = TokenStore(settings)
    async with UpstoxOrders.open(settings, tokens) as orders:
        with pytest.raises(NotSent) as raised:
            await orders.place(ORDER)
        assert orders._doubting
        await orders._doubting
        if tokens.current() is not None:
            assert await orders.place(ORDER) == "260105000000101"
    return raised.value, tokens


async def test_a_token_that_the_profile_refuses_too_is_given_up(tmp_path: Path) -> None:
    async with scripted() as venue:
        error, tokens = await refused_at(venue, tmp_path, Answer(401, told("UDAPI100050")))
    assert isinstance(error, NeedsLogin)
    assert tokens.current() is None


async def test_a_token_that_is_good_for_the_profile_is_kept(tmp_path: Path) -> None:
    async with scripted() as venue:
        _, tokens = await refused_at(venue, tmp_path, success({"user_id": "X"}))
    assert tokens.current() == "given"


async def test_without_a_token_nothing_leaves_and_a_login_is_found_without_a_restart(tmp_path: Path) -> None:
    async with scripted() as venue:
        venue.on(PLACE, Answer(200, TAKEN))
        async with venue_at(tmp_path, venue.url, upstox_access_token="") as orders:
            with pytest.raises(NoLogin):
                await orders.place(ORDER)
            with pytest.raises(NeedsLogin):
                await orders.orders()
            assert venue.requests == []
            for token in ("first", "second"):
                TokenStore(settings_in(tmp_path)).save(token)
                await orders.place(ORDER)
        assert [each.headers["authorization"] for each in venue.requests] == ["Bearer first", "Bearer second"]


# Reads


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(401, b"{}"), NeedsLogin),
        (Answer(403, b"<html>"), Blocked),
        (Answer(429), Throttled),
        (Answer(423), Unavailable),
        (Answer(400, told("UDAPI1023")), Unavailable),
        (Answer(500), Unavailable),
        (Answer(200, b"<html>"), Unavailable),
        (Answer(200, b'{"status":"success","data":{}}'), Unavailable),
        (Answer(200, b'{"status":"success","data":[{"tag":"tjx"}]}'), Unavailable),
        (Answer(hang_up=True), Unavailable),
    ],
)
async def test_a_read_that_fails_is_unavailable_and_never_an_empty_book(
    tmp_path: Path, answer: Answer, kind: type[Exception]
) -> None:
    async with scripted() as venue, venue_at(tmp_path, venue.url) as orders:
        venue.on(PROFILE, success({}))
        for path in ("/v2/order/retrieve-all", "/v2/order/history"):
            venue.on(path, answer)
        for read in (orders.orders(), orders.tagged("tjx")):
            with pytest.raises(kind):
                await read


async def test_what_is_read_beside_the_sdk_is_unavailable_too_when_it_is_turned_down(tmp_path: Path) -> None:
    async with scripted() as venue, venue_at(tmp_path, venue.url) as orders:
        for path in ("/v2/user/ip", "/v2/market-quote/quotes"):
            venue.on(path, Answer(400, told("UDAPI1179")))
        for read in (orders.egress(), orders.quoted(["NSE_EQ|X"])):
            with pytest.raises(Unavailable, match="UDAPI1179"):
                await read


@pytest.mark.parametrize("code", ["UDAPI1109", "UDAPI100010"])
async def test_a_tag_that_the_venue_does_not_know_has_no_orders(tmp_path: Path, code: str) -> None:
    async with scripted() as venue, venue_at(tmp_path, venue.url) as orders:
        venue.on("/v2/order/history", Answer(400, told(code)))
        assert await orders.tagged("tjx") == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80", "http://", "http://host:port"])
def test_an_address_that_is_none_is_a_sentence(tmp_path: Path, url: str) -> None:
    settings = settings_in(tmp_path, upstox_order_url=url)
    with pytest.raises(Misconfigured, match="UPSTOX_ORDER_URL"):
        UpstoxOrders(settings, TokenStore(settings))
