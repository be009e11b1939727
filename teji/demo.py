"""The demo's venue: the simulated exchange as a child, and a login that renews itself."""

import asyncio
import contextlib
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

from brokers.upstox.auth import DIALOG_PATH, TokenStore, exchange_code
from brokers.upstox.rest import READ_BUDGET, Budget, NeedsLogin, Rest, http_client, translated
from bus import clock, life
from bus.settings import Calendar, Settings, load
from schemas.errors import Unavailable
from sim.settings import SimSettings

_PROFILE_PATH: Final = "/v2/user/profile"
_STARTING_S: Final = 0.1
_CHECK_S: Final = 5.0


def overrides(exchange: SimSettings, gateway_port: int) -> dict[str, Any]:
    """Settings that point every call at the simulated exchange, whatever real keys the environment holds."""
    url = f"http://{exchange.host}:{exchange.port}"
    return {
        "upstox_api_url": url,
        "upstox_order_url": url,
        "upstox_assets_url": url,
        "upstox_feed_url": "",
        "upstox_api_key": exchange.api_key,
        "upstox_api_secret": exchange.api_secret,
        "upstox_redirect_uri": f"http://127.0.0.1:{gateway_port}/callback",
        "upstox_access_token": "",
        "teji_calendar": Calendar.ALWAYS,
    }


async def stay_logged_in(settings: Settings, logged_in: asyncio.Event, stop: asyncio.Event) -> None:
    """Log in, and again whenever the exchange no longer takes the token: it dies at 03:30 IST, or by a logout."""
    store = TokenStore(settings)
    async with http_client() as client:
        rest = Rest(client, settings.upstox_api_url, store.current, Budget(READ_BUDGET, clock.monotonic_s))
        while not stop.is_set():
            with contextlib.suppress(Unavailable):  # it is starting, or starting again
                try:
                    await rest.get(_PROFILE_PATH, counted=False)
                except NeedsLogin:
                    store.save(await log_in(client, settings))
                logged_in.set()
            await life.pause(stop, _CHECK_S if logged_in.is_set() else _STARTING_S)


async def log_in(client: httpx.AsyncClient, settings: Settings) -> str:
    """A token, by the steps a person takes in the browser: the dialog redirects with a code, the code is exchanged."""
    query = {
        "response_type": "code",
        "client_id": settings.upstox_api_key,
        "redirect_uri": settings.upstox_redirect_uri,
    }
    with translated():
        answer = await client.get(settings.upstox_api_url + DIALOG_PATH, params=query, follow_redirects=False)
    codes = parse_qs(urlsplit(answer.headers.get("location", "")).query).get("code")
    if not codes:
        raise Unavailable(f"the login dialog answers {answer.status_code} and no code")
    return await exchange_code(client, settings, codes[0])


async def _keep(settings: Settings) -> None:
    await life.serve(lambda stop: stay_logged_in(settings, asyncio.Event(), stop))


if __name__ == "__main__":  # beside a simulated exchange in containers; `teji up` does the same by itself
    asyncio.run(_keep(load()))
