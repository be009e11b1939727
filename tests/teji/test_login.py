"""`teji login upstox` as a person runs it: a process, a link, a browser that comes back, a token that workers find."""

import asyncio
import io
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import NeedsLogin
from schemas.errors import Misconfigured
from sim.exchange import Exchange
from sim.server import running
from sim.settings import SimSettings
from teji import login
from tests.conftest import settings_in
from tests.gateway.house import running as gateway
from tests.teji.commands import DEADLINE_S, ROOT, command, environment, teji


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def app_of(exchange: Exchange, port: int) -> dict[str, str]:
    return {
        "UPSTOX_API_URL": exchange.url,
        "UPSTOX_API_KEY": "sim-key",
        "UPSTOX_API_SECRET": "sim-secret",
        "UPSTOX_REDIRECT_URI": f"http://127.0.0.1:{port}/callback",
    }


class Command:
    """A running `teji login upstox`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def link(self) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            while not (found := re.search(r"Open this to log in: (\S+)", self.said)):
                line = await self.process.stderr.readline()
                assert line, self.said
                self.said += line.decode()
        return found[1]

    async def end(self) -> tuple[int, str, str]:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        return self.process.returncode or 0, out.decode(), self.said + err.decode()


@asynccontextmanager
async def logging_in(home: Path, *arguments: str, **more: str) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *command("login", "upstox", *arguments),
        cwd=home,
        env=environment(home, **more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def at_the_venue(home: Path, *arguments: str) -> AsyncIterator[tuple[Exchange, Command]]:
    async with (
        running(SimSettings(port=0, instruments=30)) as exchange,
        logging_in(home, *arguments, **app_of(exchange, free_port())) as started,
    ):
        yield exchange, started


async def visit(url: str, *, onward: bool = True) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as browser:
        return await browser.get(url, follow_redirects=onward)


async def test_a_person_logs_in_and_what_runs_already_finds_the_token(tmp_path: Path) -> None:
    worker = TokenStore(settings_in(tmp_path / ".teji"))  # another process's, opened before the login
    assert worker.current() is None
    async with at_the_venue(tmp_path, "--json") as (exchange, command):
        link = await command.link()
        back = urlsplit((await visit(link, onward=False)).headers["location"])
        door = f"{back.scheme}://{back.netloc}"
        assert (await visit(f"{door}/favicon.ico")).status_code == 404
        assert (await visit(f"{door}/callback?code=123456&state=another")).status_code == 400
        page = await visit(link)  # the simulated dialog approves by itself
        code, out, err = await command.end()
    assert page.status_code == 200
    assert "Logged in as Simulated Trader (SIM001), until" in page.text
    assert (code, json.loads(out)["user"]) == (0, "SIM001")
    token = worker.current()
    assert token
    assert exchange.auth.claims(token, exchange.now_ms()) is not None
    assert "Waiting for the login, 10 minutes at most." in err
    assert all(token not in text for text in (out, err, page.text))


async def test_a_code_that_the_venue_refuses_ends_the_command_with_a_sentence(tmp_path: Path) -> None:
    async with at_the_venue(tmp_path) as (_, command):
        back = (await visit(await command.link(), onward=False)).headers["location"]
        page = await visit(re.sub(r"code=\w+", "code=bad000", back))
        code, out, err = await command.end()
    assert (page.status_code, code, out) == (400, 1, "")
    assert "does not accept the login code" in page.text
    assert "does not accept the login code" in err


async def test_a_token_from_standard_input_is_kept_when_the_venue_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(SimSettings(port=0, instruments=30)) as exchange:
        token = exchange.auth.token(exchange.now_ms())
        given = app_of(exchange, 1)
        monkeypatch.setattr("sys.stdin", io.StringIO("eyJ.a.b\n"))
        bad = settings_in(tmp_path / ".teji", upstox_api_url=exchange.url)
        with pytest.raises(NeedsLogin, match="refuses the access token"):
            await login._log_in(bad, login.Options(given=True))
        assert TokenStore(bad).current() is None
        good = await asyncio.to_thread(teji, tmp_path, "login", "upstox", "--token", given=f"{token}\n", **given)
    assert good.returncode == 0
    assert "Logged in as Simulated Trader (SIM001)" in good.stdout
    assert token not in good.stdout + good.stderr
    assert TokenStore(settings_in(tmp_path / ".teji")).current() == token


async def test_where_a_gateway_waits_at_the_redirect_uri_the_login_goes_through_it(
    tmp_path: Path, redis_url: str, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port, secret = free_port(), "0123456789-0123456789-0123456789"
    home = tmp_path / ".teji"
    async with running(SimSettings(port=0, instruments=30, approval_s=0.05)) as exchange:
        app = app_of(exchange, port) | {"TEJI_NOTIFIER_SECRET": secret}
        given = {name.lower(): value for name, value in app.items()}
        servers = {"redis_url": redis_url, "database_url": postgres_url, "teji_port": port}
        async with gateway(settings_in(home, **servers, **given)):
            async with logging_in(tmp_path, **app) as started:
                page = await visit(await started.link())
                code, out, _ = await started.end()
            assert (page.json()["logged_in"], code) == (True, 0)
            assert "Logged in as SIM001, until" in out
            first = TokenStore(settings_in(home)).current()

            exchange.account.notifier_url = f"http://127.0.0.1:{port}/api/v1/auth/notify/{secret}"
            pushed = await login._log_in(settings_in(home, **given), login.Options(push=True, minutes=1))
            assert pushed.user == "SIM001"
            err = capsys.readouterr().err
            assert "Approve the login" in err
            assert "notifier URL that is registered" not in err
            assert TokenStore(settings_in(home)).current() not in (None, first)


APP = {"upstox_api_key": "k", "upstox_api_secret": "s"}
AWAY = {**APP, "upstox_redirect_uri": "https://teji.example/callback"}


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ({}, login.Options(), "UPSTOX_API_KEY is not set"),
        (APP, login.Options(), "UPSTOX_REDIRECT_URI is not set"),
        (AWAY, login.Options(), "start `teji up` first"),
        (APP, login.Options(push=True), "TEJI_NOTIFIER_SECRET"),
    ],
)
async def test_what_a_login_lacks_is_one_sentence(
    tmp_path: Path, given: dict[str, str], options: login.Options, says: str
) -> None:
    with pytest.raises(Misconfigured, match=says):
        await login._log_in(settings_in(tmp_path, **given), options)


async def test_a_real_token_does_not_go_into_the_demos_folder(tmp_path: Path) -> None:
    (tmp_path / "venue").write_text("sim")
    with pytest.raises(Misconfigured, match="TEJI_HOME"):
        await login._log_in(settings_in(tmp_path), login.Options(given=True))


async def test_a_terminal_sees_how_long_it_still_waits(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    environment_ = environment(
        tmp_path, UPSTOX_API_KEY="k", UPSTOX_API_SECRET="s", UPSTOX_REDIRECT_URI=f"http://127.0.0.1:{free_port()}/c"
    )
    process = await asyncio.create_subprocess_exec(
        *command("login", "upstox", "--no-browser", "--minutes", "0.02"),
        cwd=ROOT, env={**environment_, "TEJI_HOME": str(tmp_path)}, stdout=follower, stderr=follower,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(follower)
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 1
    shown = os.read(leader, 65_536).decode()
    os.close(leader)
    assert "nobody has logged in" in shown
    assert "Traceback" not in shown
    assert re.search(r"\rWaiting for the login, 0:0[01] left", shown)
