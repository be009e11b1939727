"""The user's account: registered addresses, the kill switch, and a login that the user approves elsewhere."""

import asyncio
import hmac
import logging
from typing import Any, Final

import httpx
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim.account import SEGMENTS
from sim.auth import next_death_ms
from sim.clock import ist
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.replies import ApiError, guarded, success

log = logging.getLogger("sim.account")

_NOTIFY_DEADLINE_S: Final = 5.0
_REQUESTS_MAX: Final = 16  # that wait for the user
_TOKEN_REQUEST: Final = "/v3/login/auth/token/request/{client_id}"  # noqa: S105 an address


def routes(exchange: Exchange) -> list[Route]:
    calls = _Account(exchange)
    return [
        Route("/v2/user/ip", guarded(exchange, "user-ip", calls.addresses)),
        Route("/v2/user/ip", guarded(exchange, "user-ip", calls.set_addresses), methods=["PUT"]),
        Route("/v2/user/kill-switch", guarded(exchange, "kill-switch", calls.switches)),
        Route("/v2/user/kill-switch", guarded(exchange, "kill-switch", calls.switch), methods=["POST"]),
        Route(_TOKEN_REQUEST, guarded(exchange, "token-request", calls.ask_token, login=False), methods=["POST"]),
    ]


class _Account:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.account = exchange.account
        self._waiting: set[asyncio.Task[None]] = set()

    # --- addresses ---------------------------------------------------------------------------------------------------

    async def addresses(self, _: Request) -> Response:
        return success(self._addresses())

    async def set_addresses(self, request: Request) -> Response:
        body = await body_of(request)
        primary, secondary = (_text(body, name) for name in ("primary_ip", "secondary_ip"))
        self.account.set_ips(primary, secondary, self.exchange.now_ms())
        self._end_tokens()
        return success(self._addresses() | {"access_tokens_invalidated": True})

    def _addresses(self) -> dict[str, Any]:
        account = self.account
        return {
            "primary_ip": account.primary_ip or "127.0.0.1",
            "secondary_ip": account.secondary_ip or None,
            "primary_ip_updated_at": _moment(account.primary_since_ms),
            "secondary_ip_updated_at": _moment(account.secondary_since_ms),
        }

    # --- kill switch -------------------------------------------------------------------------------------------------

    async def switches(self, _: Request) -> Response:
        return success(self._switches())

    async def switch(self, request: Request) -> Response:
        asked = await json_of(request)
        now_ms = self.exchange.now_ms()
        wanted = self.account.check_switches(asked, self._held(), now_ms)
        for segment, off in wanted.items():
            if off and not self.account.blocks(segment):
                self._cancel_all(segment)
        if self.account.switch(wanted, now_ms):
            self._end_tokens()
        return success(self._switches())

    def _switches(self) -> list[dict[str, Any]]:
        return [
            {
                "segment": segment,
                "segment_status": "ACTIVE" if active else "INACTIVE",
                "kill_switch_enabled": self.account.blocks(segment),
            }
            for segment, active in SEGMENTS.items()
        ]

    def _held(self) -> set[str]:
        """Segments with open positions."""
        return {each.instrument.segment for each in self.exchange.trading.positions() if each.quantity}

    def _cancel_all(self, segment: str) -> None:
        """What waits at the exchange in a segment."""
        trading, now_ms = self.exchange.trading, self.exchange.now_ms()
        waiting = [each for each in trading.ledger.live.values() if each.instrument.segment == segment]
        if not all(trading.cancel(each.order_id, at_ms=now_ms).is_final for each in waiting):
            message = "Failed to update segment status due to an error processing open orders."
            raise ApiError(400, "UDAPI1187", message, "segment", segment)

    # --- a token without a browser -----------------------------------------------------------------------------------

    async def ask_token(self, request: Request) -> Response:
        settings = self.exchange.settings
        secret = _text(await body_of(request), "client_secret")
        if not secret:
            raise ApiError(400, "UDAPI1024", "client_secret is required", "client_secret")
        if request.path_params["client_id"] != settings.api_key:
            raise ApiError(401, "UDAPI100068", "Check your 'client_id' and 'redirect_uri'; one or both are incorrect.")
        if not hmac.compare_digest(secret.encode(), settings.api_secret.encode()):
            raise ApiError(401, "UDAPI100069", "Check your 'client_id' and 'client_secret'; one or both are incorrect.")
        if not self.account.notifier_url:
            raise ApiError(400, "UDAPI100036", "No notifier URL is registered for this app", "notifier_url")
        if len(self._waiting) >= _REQUESTS_MAX:
            raise ApiError(429, "UDAPI10005", "Too Many Request Sent")
        expiry_ms = next_death_ms(self.exchange.now_ms())
        if settings.approval_s is not None:
            task = asyncio.create_task(self._approve(settings.approval_s, expiry_ms))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        return success({"authorization_expiry": str(expiry_ms), "notifier_url": self.account.notifier_url})

    async def _approve(self, after_s: float, expiry_ms: int) -> None:
        """The user says yes on the telephone; the app is told once."""
        await asyncio.sleep(after_s)
        now_ms = self.exchange.now_ms()
        if now_ms >= expiry_ms:
            return
        told = {
            "client_id": self.exchange.settings.api_key,
            "user_id": self.exchange.settings.user_id,
            "access_token": self.exchange.auth.token(now_ms),
            "token_type": "Bearer",
            "issued_at": str(now_ms),
            "expires_at": str(next_death_ms(now_ms)),
            "message_type": "access_token",
        }
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_NOTIFY_DEADLINE_S) as client:
                reply = await client.post(self.account.notifier_url, json=told)
                log.info("the notifier answered %d", reply.status_code)
        except httpx.HTTPError as error:
            log.warning("the notifier was not reached: %s", type(error).__name__)

    def _end_tokens(self) -> None:
        self.exchange.order_fault(FaultRequest(expire_tokens=True))


async def json_of(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise ApiError(400, "UDAPI100038", "Invalid JSON in the request body") from None


async def body_of(request: Request) -> dict[str, Any]:
    body = await json_of(request)
    if not isinstance(body, dict):
        raise ApiError(400, "UDAPI100038", "The request body must be an object")
    return body


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, "UDAPI100036", "Invalid Input", name, value)
    return value


def _moment(ts_ms: int | None) -> str | None:
    return None if ts_ms is None else ist(ts_ms).strftime("%Y-%m-%d %H:%M:%S")
