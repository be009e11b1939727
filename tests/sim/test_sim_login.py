"""OAuth as the venue does it: codes once, tokens until 03:30 IST."""

import base64
import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.auth import Auth, next_death_ms
from sim.clock import ist
from tests.sim.simtools import CALLBACK, code_of, served, settings, token_form, trader, visitor

NOW_MS = 1_795_167_000_000

DIALOG = "/v2/login/authorization/dialog"
TOKEN = "/v2/login/authorization/token"


def code_in(reply: Any) -> str:
    return str(reply.json()["errors"][0]["error_code"])


async def test_the_dialog_redirects_with_a_code_and_the_state() -> None:
    async with served() as exchange, visitor(exchange) as client:
        query = {"client_id": "sim-key", "redirect_uri": CALLBACK, "response_type": "code", "state": "a b&c"}
        reply = await client.get(DIALOG, params=query)
        assert reply.status_code == 302
        target = urlsplit(reply.headers["location"])
        assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
        assert parse_qs(target.query)["state"] == ["a b&c"]
        assert len(parse_qs(target.query)["code"][0]) == 6


async def test_without_auto_approval_a_person_presses_the_button() -> None:
    async with served(auto_approve=False) as exchange, visitor(exchange) as client:
        query = {"client_id": "sim-key", "redirect_uri": CALLBACK, "response_type": "code"}
        page = await client.get(DIALOG, params=query)
        assert page.status_code == 200
        assert "<button>" in page.text
        assert (await client.post(DIALOG, params=query)).status_code == 302


@pytest.mark.parametrize(
    "wrong",
    [{"client_id": "other"}, {"redirect_uri": "https://elsewhere.example/cb"}, {"redirect_uri": ""}],
)
async def test_a_wrong_client_or_redirect_is_refused(wrong: dict[str, str]) -> None:
    async with served() as exchange, visitor(exchange) as client:
        query = {"client_id": "sim-key", "redirect_uri": CALLBACK, "response_type": "code"} | wrong
        reply = await client.get(DIALOG, params=query)
        assert (reply.status_code, code_in(reply)) == (401, "UDAPI100068")


async def test_a_registered_redirect_is_matched_exactly() -> None:
    async with served(redirect_uri="https://app.example/cb") as exchange, visitor(exchange) as client:
        query = {"client_id": "sim-key", "redirect_uri": CALLBACK, "response_type": "code"}
        assert (await client.get(DIALOG, params=query)).status_code == 401
        query["redirect_uri"] = "https://app.example/cb"
        assert (await client.get(DIALOG, params=query)).status_code == 302


async def test_the_token_reply_is_flat_and_complete() -> None:
    async with served() as exchange, visitor(exchange) as client:
        reply = await client.post(TOKEN, data=token_form(await code_of(client)))
        assert reply.status_code == 200
        body = reply.json()
        assert {"email", "user_id", "exchanges", "products", "order_types", "access_token", "poa"} <= body.keys()
        assert (body["broker"], body["user_type"], body["is_active"]) == ("UPSTOX", "individual", True)


async def test_a_code_is_good_once_even_where_the_exchange_failed() -> None:
    async with served() as exchange, visitor(exchange) as client:
        code = await code_of(client)
        assert (await client.post(TOKEN, data=token_form(code))).status_code == 200
        again = await client.post(TOKEN, data=token_form(code))
        assert (again.status_code, code_in(again)) == (401, "UDAPI100057")
        code = await code_of(client)
        assert (await client.post(TOKEN, data=token_form(code, client_secret="wrong"))).status_code == 401
        assert (await client.post(TOKEN, data=token_form(code))).status_code == 401


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("client_id", "UDAPI1017"),
        ("redirect_uri", "UDAPI1018"),
        ("code", "UDAPI1022"),
        ("grant_type", "UDAPI1023"),
        ("client_secret", "UDAPI1024"),
    ],
)
async def test_each_missing_field_of_the_token_form_has_its_code(field: str, code: str) -> None:
    async with served() as exchange, visitor(exchange) as client:
        form = token_form("abc123")
        del form[field]
        reply = await client.post(TOKEN, data=form)
        assert (reply.status_code, code_in(reply)) == (400, code)


async def test_logging_out_kills_the_token_at_once() -> None:
    async with served() as exchange, trader(exchange) as client:
        assert (await client.get("/v2/user/profile")).json()["data"]["user_id"] == "SIM001"
        assert (await client.delete("/v2/logout")).json() == {"status": "success", "data": True}
        reply = await client.get("/v2/user/profile")
        assert (reply.status_code, code_in(reply)) == (401, "UDAPI100050")


async def test_a_login_outlives_a_restart_of_the_exchange() -> None:
    async with served() as exchange, trader(exchange) as client:
        token = client.headers["Authorization"]
    async with served() as exchange, visitor(exchange) as client:
        assert (await client.get("/v2/user/profile", headers={"Authorization": token})).status_code == 200


def test_a_token_is_a_jwt_that_dies_at_half_past_three() -> None:
    token = Auth(settings()).token(NOW_MS)
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["iss"] == "udapi-gateway-service"
    assert claims["exp"] * 1_000 == next_death_ms(NOW_MS)
    assert (claims["sub"], claims["isPlusPlan"]) == ("SIM001", False)


@given(st.integers(1_600_000_000_000, 2_000_000_000_000))
def test_death_is_the_next_half_past_three_in_india(now_ms: int) -> None:
    death = ist(next_death_ms(now_ms))
    assert (death.hour, death.minute, death.second) == (3, 30, 0)
    assert timedelta(0) < death - datetime.fromtimestamp(now_ms / 1_000, death.tzinfo) <= timedelta(days=1)


@given(
    st.text(max_size=60)
    | st.from_regex(r"[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}", fullmatch=True)
)
def test_no_text_passes_for_a_token(text: str) -> None:
    assert Auth(settings()).claims(text, NOW_MS) is None


@given(st.integers(0, 10_000))
def test_a_token_with_one_changed_character_is_refused(place: int) -> None:
    auth = Auth(settings())
    token = auth.token(NOW_MS)
    place %= len(token) - 1  # the last character of a signature has spare bits
    changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
    assert auth.claims(changed, NOW_MS) is None
