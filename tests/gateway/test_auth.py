"""The login through a real gateway, at the simulated exchange: its dialog, its tokens, its notifier."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson

from brokers.upstox.auth import TokenStore
from bus.settings import Settings
from sim.auth import Auth
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.server import running as sim_running
from sim.settings import SimSettings
from tests.conftest import settings_in
from tests.gateway.house import House, running, until

API = "/api/v1"
SECRET = "0123456789-0123456789-0123456789"
PEOPLE = {"accept": "text/html,application/xhtml+xml"}


@asynccontextmanager
async def logging_in(
    tmp_path: Path, redis_url: str, postgres_url: str, **more: Any
) -> AsyncIterator[tuple[House, Exchange]]:
    """A gateway and the exchange that it logs in at."""
    async with sim_running(SimSettings(port=0, instruments=30, **more.pop("exchange", {}))) as exchange:
        given = {
            "upstox_api_url": exchange.url,
            "upstox_api_key": "sim-key",
            "upstox_api_secret": "sim-secret",
            "upstox_redirect_uri": "http://127.0.0.1:1/callback",
            "teji_notifier_secret": SECRET,
        }
        servers = {"redis_url": redis_url, "database_url": postgres_url}
        async with running(settings_in(tmp_path / "home", **{**servers, **given, **more})) as house:
            yield house, exchange


def store(tmp_path: Path) -> TokenStore:
    return TokenStore(settings_in(tmp_path / "home"))


async def approved(house: House, begun: dict[str, Any]) -> dict[str, str]:
    """What the venue sends along with the browser, after the user has said yes."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(begun["url"], follow_redirects=False)
    assert answer.status_code == 302
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == "http://127.0.0.1:1/callback"
    return {name: value for name, (value,) in parse_qs(back.query).items()}


async def test_a_login_begun_here_ends_with_a_token_that_is_kept_and_never_shown(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, _):
        nobody = (await house.http.get(f"{API}/auth/status")).json()
        assert (nobody["logged_in"], nobody["user"], nobody["expires"]) == (False, "", None)
        assert "/api/v1/auth/login" in nobody["hint"]

        answer = await house.http.get(f"{API}/auth/login")
        begun = answer.json()
        assert begun.keys() == {"url", "state", "expires"}
        assert answer.headers["cache-control"] == "no-store"
        back = await approved(house, begun)
        assert back["state"] == begun["state"]
        pages = await asyncio.gather(
            *(house.http.get("/callback", params=back, headers=PEOPLE) for _ in range(5))
        )  # the state is good once
        assert sorted(page.status_code for page in pages) == [200, 400, 400, 400, 400]
        page = next(page for page in pages if page.status_code == 200)
        assert "Logged in as Simulated Trader (SIM001), until" in page.text
        assert "script" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")

        token = store(tmp_path).current()
        assert token
        status = (await house.http.get(f"{API}/auth/status", params={"verify": True})).json()
        assert (status["logged_in"], status["user"], status["verified"]) == (True, "SIM001", True)
        assert status["expires"] % 86_400_000 == 22 * 3_600_000  # 03:30 in India
        assert all(token not in text for text in (page.text, str(status), str(begun)))

        again = await house.http.get("/callback", params=back)
        assert again.status_code == 400
        assert again.json()["type"] == "urn:teji:problem:bad-state"
        assert store(tmp_path).current() == token


async def test_what_comes_back_wrong_is_a_page_that_says_so_and_changes_nothing(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, _):
        begun = (await house.http.get(f"{API}/auth/login")).json()
        code = (await approved(house, begun))["code"]
        for query in ({}, {"code": code}, {"code": code, "state": "another"}, {"code": code, "state": "x" * 200}):
            answer = await house.http.get(f"{API}/callback", params=query, headers=PEOPLE)
            assert answer.status_code == 400
            assert "Not logged in" in answer.text
            assert code not in answer.text
        denied = {"state": begun["state"], "error": "<b>access_denied</b>"}
        answer = await house.http.get("/callback", params=denied, headers=PEOPLE)
        assert answer.status_code == 400
        assert "&lt;b&gt;access_denied" in answer.text

        begun = (await house.http.get(f"{API}/auth/login")).json()
        answer = await house.http.get("/callback", params={"state": begun["state"], "code": "no-code-of-theirs"})
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:teji:problem:refused"
        too_long = await house.http.get("/callback", params={"state": "x" * 300})
        assert too_long.status_code == 422
        assert store(tmp_path).current() is None


async def test_a_browser_is_sent_to_the_dialog_and_a_foreign_page_is_not_served(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, exchange):
        answer = await house.http.get(f"{API}/auth/login", headers=PEOPLE)
        assert answer.status_code == 302
        assert answer.headers["location"].startswith(f"{exchange.url}/v2/login/authorization/dialog?")
        for header in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
            for method, path in (("GET", "login"), ("POST", "request"), ("DELETE", "")):
                answer = await house.http.request(method, f"{API}/auth/{path}".rstrip("/"), headers=header)
                assert answer.status_code == 403
        answers = await asyncio.gather(*(house.http.get(f"{API}/auth/login") for _ in range(31)))
        assert {answer.status_code for answer in answers} == {200, 429}


async def test_while_the_venue_is_away_a_login_says_so(tmp_path: Path, redis_url: str, postgres_url: str) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url, upstox_api_url="http://127.0.0.1:9") as (house, _):
        begun = (await house.http.get(f"{API}/auth/login")).json()
        answer = await house.http.get("/callback", params={"state": begun["state"], "code": "123456"}, headers=PEOPLE)
        assert answer.status_code == 503
        assert "does not answer" in answer.text


async def test_a_token_whose_user_the_venue_cannot_tell_just_now_is_kept(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, exchange):
        back = await approved(house, (await house.http.get(f"{API}/auth/login")).json())
        exchange.order_fault(FaultRequest(refuse_rest=503))
        page = await house.http.get("/callback", params=back, headers=PEOPLE)
        assert "Logged in as SIM001" in page.text
        assert store(tmp_path).current()


async def test_a_logout_ends_the_token_at_the_venue_and_here(tmp_path: Path, redis_url: str, postgres_url: str) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, exchange):
        back = await approved(house, (await house.http.get(f"{API}/auth/login")).json())
        await house.http.get("/callback", params=back)
        token = store(tmp_path).current()
        assert token
        assert (await house.http.delete(f"{API}/auth")).json()["message"] == "Logged out."
        assert store(tmp_path).current() is None
        assert exchange.auth.claims(token, exchange.now_ms()) is None
        assert (await house.http.delete(f"{API}/auth")).json()["message"] == "Nobody was logged in."
        store(tmp_path).save(token)
        assert (await house.http.get(f"{API}/auth/status?verify=true")).json()["verified"] is False
        assert "already" in (await house.http.delete(f"{API}/auth")).json()["message"]


# The notifier


def message(exchange: Exchange, **more: Any) -> dict[str, Any]:
    return {
        "client_id": "sim-key", "user_id": "SIM001", "access_token": exchange.auth.token(exchange.now_ms()),
        "token_type": "Bearer", "issued_at": "1", "expires_at": "2", "message_type": "access_token", **more,
    }  # fmt: skip


async def test_a_pushed_token_is_kept_only_when_all_of_it_is_right(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, exchange):
        path = f"{API}/auth/notify/{SECRET}"
        for secret in ("", "x", SECRET[:-1], SECRET + "0"):
            answer = await house.http.post(f"{API}/auth/notify/{secret}", json=message(exchange))
            assert answer.status_code in (404, 405)
        wrong: list[dict[str, Any]] = [
            {"client_id": "another"}, {"client_id": None}, {"user_id": ""}, {"user_id": "ANOTHER"},
            {"access_token": ""}, {"access_token": 7}, {"access_token": "two words"}, {"access_token": "eyJ.a.b"},
            {"message_type": "order"},
        ]  # fmt: skip
        for change in wrong:
            answer = await house.http.post(path, json=message(exchange, **change))
            assert answer.status_code == 422, change
            assert "eyJ" not in answer.text
        for body in (b"", b"no json", b"[]", b'"text"'):
            assert (await house.http.post(path, content=body)).status_code == 422
        assert (await house.http.post(path, content=b" " * 20_000)).status_code == 413
        assert store(tmp_path).current() is None

        good = message(exchange)
        answer = await house.http.post(path, json=good, headers={"host": "teji.example"})  # it comes from outside
        assert (answer.status_code, answer.json()) == (200, {"message": "Taken."})
        assert store(tmp_path).current() == good["access_token"]

        other = Auth(SimSettings(user_id="OTHER")).token(exchange.now_ms())
        store(tmp_path).save(other)  # whoever logged in last is the one whose tokens are taken
        answer = await house.http.post(path, json=message(exchange))
        assert (answer.status_code, "user" in answer.json()["detail"]) == (422, True)
        assert store(tmp_path).current() == other


async def test_without_an_app_or_a_long_secret_there_is_no_login_and_no_notifier(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    lacking = {"upstox_api_secret": "", "teji_notifier_secret": "short"}
    async with logging_in(tmp_path, redis_url, postgres_url, **lacking) as (house, exchange):
        for answer in (await house.http.get(f"{API}/auth/login"), await house.http.post(f"{API}/auth/request")):
            assert answer.status_code == 422
            assert "UPSTOX_API_SECRET" in answer.json()["detail"]
        assert (await house.http.post(f"{API}/auth/notify/short", json=message(exchange))).status_code == 404


async def test_a_login_that_the_user_approves_elsewhere_arrives_by_itself(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    async with logging_in(tmp_path, redis_url, postgres_url) as (house, exchange):
        elsewhere = await house.http.post(f"{API}/auth/request")
        assert elsewhere.status_code == 422  # the app has no notifier
        exchange.account.notifier_url = f"{house.url}{API}/auth/notify/{SECRET}"

        async def asked() -> bool:
            answer = await house.http.post(f"{API}/auth/request")
            if answer.status_code == 429:
                return False
            body = orjson.loads(answer.content)
            assert (answer.status_code, body["notifier"]) == (200, True)
            assert body["until"] > exchange.now_ms()
            return True

        async def arrived() -> bool:
            return store(tmp_path).current() is not None

        await until(asked)
        await until(arrived)
        assert (await house.http.get(f"{API}/auth/status")).json()["user"] == "SIM001"


def test_settings_of_a_login_are_secrets(tmp_path: Path) -> None:
    settings: Settings = settings_in(tmp_path, teji_notifier_secret=SECRET, upstox_api_secret="hush")
    assert {SECRET, "hush"} <= set(settings.secrets)
