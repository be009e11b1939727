import asyncio
from pathlib import Path

import pytest

from brokers.upstox.auth import TokenStore, claims
from brokers.upstox.rest import READ_BUDGET, Budget, Rest, http_client
from bus import clock
from bus.settings import Calendar, Settings
from schemas.errors import Unavailable
from sim.server import running
from sim.settings import SimSettings
from teji import demo
from tests.conftest import settings_in


def settings_for(home: Path, exchange_port: int, **more: object) -> Settings:
    exchange = SimSettings(port=exchange_port)
    return settings_in(home, **(demo.overrides(exchange, 8000) | more))


async def profile(settings: Settings) -> object:
    async with http_client() as client:
        rest = Rest(
            client, settings.upstox_api_url, TokenStore(settings).current, Budget(READ_BUDGET, clock.monotonic_s)
        )
        return await rest.get("/v2/user/profile")


async def test_the_demo_logs_in_by_the_steps_of_a_person(tmp_path: Path) -> None:
    async with running(SimSettings(port=0, instruments=30)) as exchange, http_client() as client:
        settings = settings_for(tmp_path, int(exchange.url.rpartition(":")[2]))
        token = await demo.log_in(client, settings)
    assert claims(token)["sub"] == exchange.settings.user_id


async def test_a_dead_token_is_replaced_before_anybody_asks(tmp_path: Path) -> None:
    async with running(SimSettings(port=0, instruments=30)) as exchange:
        settings = settings_for(tmp_path, int(exchange.url.rpartition(":")[2]))
        TokenStore(settings).save("a.dead.token")
        logged_in, stop = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(demo.stay_logged_in(settings, logged_in, stop))
        await asyncio.wait_for(logged_in.wait(), 30)

        assert await profile(settings)
        stop.set()
        await asyncio.wait_for(task, 30)


async def test_a_wrong_key_is_said_to_be_the_dialogs_answer(tmp_path: Path) -> None:
    async with running(SimSettings(port=0, instruments=30)) as exchange, http_client() as client:
        settings = settings_for(tmp_path, int(exchange.url.rpartition(":")[2]), upstox_api_key="another")
        with pytest.raises(Unavailable, match="401 and no code"):
            await demo.log_in(client, settings)


def test_no_real_key_or_token_goes_to_the_simulated_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UPSTOX_API_KEY", "UPSTOX_API_SECRET", "UPSTOX_ACCESS_TOKEN", "UPSTOX_FEED_URL", "UPSTOX_API_URL"):
        monkeypatch.setenv(name, "https://real.example")
    settings = settings_for(tmp_path, 8100)

    assert TokenStore(settings).current() is None
    assert "real" not in settings.upstox_api_key + settings.upstox_api_secret.get_secret_value()
    urls = {settings.upstox_api_url, settings.upstox_order_url, settings.upstox_assets_url}
    assert urls == {"http://127.0.0.1:8100"}
    assert settings.upstox_feed_url == ""
    assert settings.teji_calendar is Calendar.ALWAYS
