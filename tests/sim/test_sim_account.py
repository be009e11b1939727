"""Registered addresses, the kill switch, and a login that is approved elsewhere, by the venue's SDK."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
import upstox_client
from upstox_client import IndieUserTokenRequest, KillSwitchSegmentUpdateRequest, UpdateUserIpRequest

from sim.account import Account
from sim.auth import next_death_ms
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.hours import DAY_MS
from sim.orders import Order, PlaceBody, Status
from tests.sim.prints import trade_at
from tests.sim.simtools import RELIANCE, served, visitor
from tests.sim.vendor import called, refused, sdk

MONDAY_MS = 1_795_372_200_000  # 2026-11-23, 00:00 IST


async def test_addresses_are_told_and_changed_once_a_week_and_the_change_ends_every_login() -> None:
    async with served() as exchange:
        async with sdk(exchange) as client:
            user = upstox_client.UserApi(client)
            assert (await called(user.get_user_ips)).data.primary_ip == "127.0.0.1"
            for body, code, path in (
                ({}, "UDAPI1182", "primary_ip"),
                ({"primary_ip": "300.1.1.1"}, "UDAPI1183", "primary_ip"),
                ({"primary_ip": "10.0.0.1", "secondary_ip": "x"}, "UDAPI1183", "secondary_ip"),
                ({"primary_ip": "10.0.0.1", "secondary_ip": "::ffff:10.0.0.1"}, "UDAPI1184", "secondary_ip"),
                ({"primary_ip": 7}, "UDAPI100036", "primary_ip"),
            ):
                assert await refused(user.update_user_ip, body) == (400, code, path)
            changed = (await called(user.update_user_ip, UpdateUserIpRequest("10.0.0.1", "10.0.0.2"))).data
            assert (changed.primary_ip, changed.secondary_ip) == ("10.0.0.1", "10.0.0.2")
            assert (changed.access_tokens_invalidated, changed.primary_ip_updated_at) == (True, "2026-11-20 10:30:00")
            assert (await refused(user.get_user_ips)).status == 401
        async with sdk(exchange) as client:
            failure = await refused(upstox_client.UserApi(client).update_user_ip, UpdateUserIpRequest("10.0.0.3"))
            assert failure.code == "UDAPI1185"


def test_a_week_ends_on_sunday_and_loopback_is_registered_until_something_else_is() -> None:
    account = Account()
    assert account.may_order_from("127.0.0.1")
    assert account.may_order_from("::ffff:127.0.0.1")
    assert not account.may_order_from("10.0.0.1")
    assert not account.may_order_from("nobody")
    account.set_ips("10.0.0.1", None, MONDAY_MS)
    assert account.may_order_from("10.0.0.1")
    assert not account.may_order_from("127.0.0.1")
    with pytest.raises(ApiError, match="UDAPI1185"):
        account.set_ips("10.0.0.2", None, MONDAY_MS + 7 * DAY_MS - 1)
    account.set_ips("10.0.0.2", None, MONDAY_MS + 7 * DAY_MS)


@contextlib.asynccontextmanager
async def notifier() -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, Any]]]]:
    """An app's address for tokens, and what was posted there."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        told.put_nowait(orjson.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/told/unguessable", told


async def test_a_pushed_login_posts_a_token_that_works() -> None:
    async with (
        notifier() as (url, told),
        served(notifier_url=url, approval_s=0.01) as exchange,
        sdk(exchange) as client,
    ):
        ask = upstox_client.LoginApi(client).init_token_request_for_indie_user
        reply = (await called(ask, IndieUserTokenRequest("sim-secret"), "sim-key")).data
        assert reply.notifier_url == url
        assert int(reply.authorization_expiry) == next_death_ms(exchange.now_ms())
        message = await asyncio.wait_for(told.get(), 10)
        assert (message["client_id"], message["user_id"]) == ("sim-key", "SIM001")
        assert (message["token_type"], message["message_type"]) == ("Bearer", "access_token")
        assert int(message["issued_at"]) < int(message["expires_at"])
        async with visitor(exchange) as somebody:
            headers = {"Authorization": f"Bearer {message['access_token']}"}
            assert (await somebody.get("/v2/user/profile", headers=headers)).status_code == 200


async def test_a_token_is_asked_for_by_the_app_alone_and_told_only_where_it_listens() -> None:
    async with served(approval_s=None) as exchange, sdk(exchange) as client:
        ask = upstox_client.LoginApi(client).init_token_request_for_indie_user
        assert (await refused(ask, {}, "sim-key")).code == "UDAPI1024"
        assert await refused(ask, IndieUserTokenRequest("sim-secret"), "other") == (401, "UDAPI100068", None)
        assert await refused(ask, IndieUserTokenRequest("wrong"), "sim-key") == (401, "UDAPI100069", None)
        assert (await refused(ask, IndieUserTokenRequest("sim-secret"), "sim-key")).path == "notifier_url"
        exchange.account.notifier_url = "http://127.0.0.1:1/nobody"
        assert (await called(ask, IndieUserTokenRequest("sim-secret"), "sim-key")).data.notifier_url


def switch(segment: str, action: str) -> KillSwitchSegmentUpdateRequest:
    return KillSwitchSegmentUpdateRequest(segment, action)


def is_off(rows: list[Any], segment: str) -> bool:
    return bool(next(row["kill_switch_enabled"] for row in rows if row["segment"] == segment))


async def test_the_kill_switch_blocks_a_segment_for_twelve_hours() -> None:
    async with served(always_open=True) as exchange:
        async with sdk(exchange) as client:
            user = upstox_client.UserApi(client)
            assert not is_off((await called(user.get_kill_switch)).data, "NSE_FO")
            assert (await refused(user.update_kill_switch, [switch("NYSE", "DISABLE")])).code == "UDAPI1186"
            assert (await refused(user.update_kill_switch, [switch("NSE_FO", "OFF")])).code == "UDAPI1188"
            both = [switch("NSE_FO", "DISABLE"), switch("MCX_FO", "DISABLE")]
            assert (await refused(user.update_kill_switch, both)).code == "UDAPI1187"
            assert not exchange.account.blocks("NSE_FO")
            rows = (await called(user.update_kill_switch, [switch("NSE_FO", "DISABLE")])).data
            assert is_off(rows, "NSE_FO")
            assert not is_off(rows, "NSE_EQ")
            assert (await refused(user.get_kill_switch)).status == 401  # a new token is needed
        async with sdk(exchange) as client:
            again = upstox_client.UserApi(client).update_kill_switch
            assert (await refused(again, [switch("NSE_FO", "ENABLE")])).code == "UDAPI1185"
        exchange.clock.move_to(exchange.now_ms() + DAY_MS // 2)  # type: ignore[attr-defined]
        async with sdk(exchange) as client:
            rows = (await called(upstox_client.UserApi(client).update_kill_switch, [switch("NSE_FO", "ENABLE")])).data
            assert not is_off(rows, "NSE_FO")


def order(exchange: Exchange, side: str, price: float) -> Order:
    body = PlaceBody(
        instrument_token=RELIANCE, transaction_type=side, quantity=5, product="I", order_type="LIMIT",
        price=Decimal(str(price)),
    )  # fmt: skip
    return exchange.trading.place(body, at_ms=exchange.now_ms())[0]


async def test_a_segment_is_switched_off_flat_its_orders_cancelled_and_new_ones_rejected() -> None:
    async with served() as exchange:
        trade_at(exchange, RELIANCE, 1_480)
        assert order(exchange, "BUY", 1_481).status is Status.COMPLETE
        waiting = order(exchange, "BUY", 1_470)
        async with sdk(exchange) as client:
            update = upstox_client.UserApi(client).update_kill_switch
            assert (await refused(update, [switch("NSE_EQ", "DISABLE")])).code == "UDAPI1184"
            assert exchange.trading.order(waiting.order_id) == waiting
            assert order(exchange, "SELL", 1_479).status is Status.COMPLETE
            assert is_off((await called(update, [switch("NSE_EQ", "DISABLE")])).data, "NSE_EQ")
        assert exchange.trading.ledger.ever[waiting.order_id][-1].status is Status.CANCELLED
        turned_down = order(exchange, "BUY", 1_481)
        assert (turned_down.status, turned_down.status_message) == (
            Status.REJECTED,
            "The kill switch is on for NSE_EQ",
        )
