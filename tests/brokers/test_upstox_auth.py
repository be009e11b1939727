"""The token: where it comes from, who can read it, what replaces it; the code that it is exchanged for."""

import base64
import multiprocessing
import os
import stat
from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest
from cryptography.fernet import Fernet

from brokers.upstox.auth import TOKEN_PATH, TokenStore, claims, exchange_code, expires_ms, user_of
from brokers.upstox.rest import NeedsLogin, Throttled, http_client
from bus.settings import Settings
from schemas.errors import Misconfigured, Unavailable
from sim.auth import Auth
from sim.settings import SimSettings
from tests.brokers.scripted import Answer, scripted
from tests.conftest import settings_in


def given(home: Path, token: str = "") -> Settings:
    return settings_in(home, upstox_access_token=token)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_a_login_there_is_no_token_and_looking_for_it_leaves_nothing(tmp_path: Path) -> None:
    assert TokenStore(given(tmp_path / "home")).current() is None
    assert not (tmp_path / "home").exists()


def test_a_login_is_found_by_every_process_that_runs_already(tmp_path: Path) -> None:
    reader = TokenStore(given(tmp_path))
    assert reader.current() is None
    for token in ("first", "second"):
        TokenStore(given(tmp_path)).save(token)
        assert reader.current() == token


def test_a_token_of_the_environment_comes_first(tmp_path: Path) -> None:
    TokenStore(given(tmp_path)).save("of-the-login")
    assert TokenStore(given(tmp_path, " of-the-environment\n")).current() == "of-the-environment"


def test_a_refused_token_is_not_offered_again_and_the_next_login_is(tmp_path: Path) -> None:
    store = TokenStore(given(tmp_path, "given"))
    TokenStore(given(tmp_path)).save("stored")
    store.refuse("given")
    assert store.current() == "stored"
    store.refuse("stored")
    assert store.current() is None
    TokenStore(given(tmp_path)).save("fresh")
    assert store.current() == "fresh"


@pytest.mark.parametrize("token", ["two words", "tab\there", "ключ"])
def test_a_token_of_the_environment_that_is_none_is_a_sentence_without_it(tmp_path: Path, token: str) -> None:
    with pytest.raises(Misconfigured, match="UPSTOX_ACCESS_TOKEN") as raised:
        TokenStore(given(tmp_path, token))
    assert token not in str(raised.value)


def test_on_disk_the_token_is_sealed_and_only_its_owner_may_look(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "home" / "secrets"
        folder.mkdir(parents=True, mode=0o755)
        TokenStore(given(tmp_path / "home")).save("eyJ-a-secret")
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir() if path.name != "lock"} == {
        "key": 0o600,
        "upstox.token": 0o600,
    }
    assert all(b"eyJ-a-secret" not in path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", Fernet(Fernet.generate_key()).encrypt(b"x")],
    ids=["empty", "garbage", "sealed with another key"],
)
def test_a_damaged_token_is_none_and_a_login_replaces_it(tmp_path: Path, damage: bytes) -> None:
    store = TokenStore(given(tmp_path))
    store.save("good")
    (tmp_path / "secrets" / "upstox.token").write_bytes(damage)
    assert store.current() is None
    store.save("better")
    assert store.current() == "better"


@pytest.mark.parametrize(
    "key",
    [b"", b"short", b"\xff" * 44, None, Fernet.generate_key()],
    ids=["empty", "short", "no base64", "gone", "another"],
)
def test_without_the_right_key_there_is_no_token_until_the_next_login(tmp_path: Path, key: bytes | None) -> None:
    TokenStore(given(tmp_path)).save("good")
    path = tmp_path / "secrets" / "key"
    path.unlink() if key is None else path.write_bytes(key)
    store = TokenStore(given(tmp_path))
    assert store.current() is None
    store.save("better")
    assert store.current() == TokenStore(given(tmp_path)).current() == "better"


def _save_often(home: Path, name: str) -> None:
    store = TokenStore(given(home))
    for number in range(20):
        store.save(f"{name}-{number}")


def test_processes_that_log_in_at_once_do_not_lock_one_another_out(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_save_often, args=(tmp_path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    store, seen = TokenStore(given(tmp_path)), set()
    while any(writer.is_alive() for writer in writers):
        seen.add(store.current())
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert TokenStore(given(tmp_path)).current() in ("a-19", "b-19")
    assert all(token is None or token.split("-")[0] in "ab" for token in seen)
    assert [path.name for path in sorted((tmp_path / "secrets").iterdir())] == ["key", "lock", "upstox.token"]


def test_a_home_that_cannot_be_written_is_a_sentence_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("a file, no folder")
    with pytest.raises(Misconfigured, match="set TEJI_HOME"):
        TokenStore(given(tmp_path)).save("token")


def test_a_forgotten_token_is_gone_for_everybody_but_that_of_the_environment_stays(tmp_path: Path) -> None:
    reader = TokenStore(given(tmp_path))
    TokenStore(given(tmp_path)).save("stored")
    assert reader.current() == "stored"
    assert TokenStore(given(tmp_path)).forget()
    assert reader.current() is None
    assert TokenStore(given(tmp_path)).forget()  # there is nothing to forget
    held = TokenStore(given(tmp_path, "given"))
    assert not held.forget()
    assert held.current() == "given"


def test_whose_the_last_token_was_is_known_also_when_it_is_dead(tmp_path: Path) -> None:
    store = TokenStore(given(tmp_path))
    assert store.user() == ""
    token = Auth(SimSettings()).token(1_794_973_500_000)
    store.save(token)
    store.refuse(token)
    assert (store.current(), store.user()) == (None, "SIM001")
    store.save("opaque")
    assert store.user() == ""


@pytest.mark.parametrize("exp", [None, "soon", -1, 10**12, True])
def test_an_odd_expiry_is_none(exp: object) -> None:
    body = base64.urlsafe_b64encode(orjson.dumps({"exp": exp, "sub": 7})).decode().rstrip("=")
    assert expires_ms(f"e30.{body}.c2ln") is None
    assert user_of(f"e30.{body}.c2ln") == ""


# The code


async def exchanged(home: Path, *answers: Answer) -> str:
    async with scripted() as venue, http_client() as client:
        venue.on(TOKEN_PATH, *answers)
        settings = settings_in(
            home, upstox_api_url=venue.url, upstox_api_key="key", upstox_api_secret="hush",
            upstox_redirect_uri="http://127.0.0.1/callback",
        )  # fmt: skip
        token = await exchange_code(client, settings, "the-code")
        form = {name: value for name, (value,) in parse_qs(venue.requests[0].body.decode()).items()}
    assert form == {
        "code": "the-code", "client_id": "key", "client_secret": "hush", "grant_type": "authorization_code",
        "redirect_uri": "http://127.0.0.1/callback",
    }  # fmt: skip
    return token


async def test_a_code_is_exchanged_for_a_token(tmp_path: Path) -> None:
    body = orjson.dumps({"access_token": "eyJ.a.b", "user_id": "X"})
    assert await exchanged(tmp_path, Answer(200, body)) == "eyJ.a.b"


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer(401, b'{"errors":[{"errorCode":"UDAPI100069"}]}'), NeedsLogin, "UDAPI100069"),
        (Answer(400, b'{"errors":[{"error_code":"UDAPI100057"}]}'), NeedsLogin, "UDAPI100057"),
        (Answer(403, b"<html>"), NeedsLogin, "403"),
        (Answer(200, b"<html>"), NeedsLogin, "200"),
        (Answer(200, b"{}"), NeedsLogin, "200"),
        (Answer(200, b'{"access_token": null}'), NeedsLogin, "200"),
        (Answer(200, b'{"access_token": "with a blank"}'), NeedsLogin, "200"),
        (Answer(429), Throttled, "429"),
        (Answer(423), Unavailable, "423"),
        (Answer(500), Unavailable, "500"),
        (Answer(hang_up=True), Unavailable, "does not answer"),
    ],
)
async def test_a_code_that_is_refused_says_why_and_shows_no_secret(
    tmp_path: Path, answer: Answer, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        await exchanged(tmp_path, answer)
    assert type(raised.value) is kind
    assert not any(secret in str(raised.value) for secret in ("hush", "the-code"))


def test_what_a_token_says_of_itself_can_be_read() -> None:
    token = Auth(SimSettings()).token(1_794_973_500_000)
    assert claims(token)["exp"] == 1_795_039_200  # 03:30 IST of the next day
    assert claims(token)["isPlusPlan"] is False


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "a.!!.c", "a.WzFd.c", "a.e30.c", "a.eyJ4IjoxfQ.c.d"])
def test_what_is_no_jwt_says_nothing(token: str) -> None:
    assert claims(token) == {}
