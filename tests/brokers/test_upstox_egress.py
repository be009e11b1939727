"""The address that orders leave from, against the registered ones."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from brokers.upstox import egress
from brokers.upstox.egress import is_loopback, judged, own_address, parsed, registered_in
from schemas.errors import Misconfigured, Unavailable
from teji.doctor import venue as doctor
from teji.doctor.findings import Level
from tests.brokers.dying import At, dying, http, self_signed
from tests.brokers.upstox_venue import settings_at, trading
from tests.conftest import settings_in

OURS, OTHER = ip_address("203.0.113.7"), ip_address("198.51.100.9")


def test_a_registered_address_may_send_orders_and_another_may_not() -> None:
    assert judged(OURS, (OTHER, OURS), loopback=False).ok
    found = judged(OURS, (OTHER,), loopback=False)
    assert (found.ok, found.address, found.registered) == (False, "203.0.113.7", ("198.51.100.9",))
    assert "register 203.0.113.7" in found.sentence


def test_an_address_that_nobody_tells_is_no_registered_one() -> None:
    found = judged(None, (OURS,), loopback=False)
    assert (found.ok, found.address) == (False, "")
    assert "TEJI_EGRESS_IP" in found.sentence
    assert not judged(OURS, (), loopback=False).ok


@pytest.mark.parametrize(
    ("registered", "ok"), [(("127.0.0.1",), True), (("::1", "127.0.0.1"), True), (("203.0.113.7",), False), ((), False)]
)
def test_on_this_machine_the_exchange_itself_says_who_may(registered: tuple[str, ...], ok: bool) -> None:
    assert judged(None, tuple(map(ip_address, registered)), loopback=True).ok is ok


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8100", True), ("http://localhost", True), ("http://[::1]:1", True),
        ("https://api-hft.upstox.com", False), ("http://127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_on_this_machine(url: str, here: bool) -> None:
    assert is_loopback(url) is here


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"primary_ip": "203.0.113.7", "secondary_ip": None}, (OURS,)),
        ({"primary_ip": "::ffff:203.0.113.7", "secondary_ip": "198.51.100.9"}, (OURS, OTHER)),
        ({"primary_ip": "not yet"}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_what_is_registered(data: Any, found: tuple[Any, ...]) -> None:
    assert registered_in(data) == found


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"203.0.113.7\n", OURS),
        (b'{"ip":"203.0.113.7"}', OURS),
        (b"::ffff:203.0.113.7", OURS),
        (b"<html>", None),
        (b"", None),
        (b"{}", None),
        (b"{", None),
        (b"\xff\xfe", None),
    ],
)
def test_who_tells_our_address_says_it_plainly_or_in_json(body: bytes, address: Any) -> None:
    assert parsed(body) == address


async def test_our_address_may_be_set_or_asked_for(tmp_path: Path) -> None:
    assert await own_address(settings_in(tmp_path)) is None
    assert await own_address(settings_in(tmp_path, teji_egress_ip=" 203.0.113.7 ")) == OURS
    for wrong in ("http://127.0.0.1", "an address", "203.0.113.700"):
        with pytest.raises(Misconfigured, match="TEJI_EGRESS_IP"):
            await own_address(settings_in(tmp_path, teji_egress_ip=wrong))


async def test_whoever_tells_it_has_to_be_vouched_for(tmp_path: Path) -> None:
    async with dying(At.NEVER, http(200, b"203.0.113.7"), self_signed(tmp_path)) as server:
        with pytest.raises(Unavailable):
            await own_address(settings_in(tmp_path, teji_egress_ip=server.url))
        assert server.requests == []


@pytest.mark.parametrize("answer", [http(500, b"203.0.113.7"), http(200, b"<html>"), http(302, b"203.0.113.7")])
async def test_an_answer_without_an_address_is_none(answer: bytes) -> None:
    async with dying(At.NEVER, answer) as server:
        with pytest.raises(Unavailable):
            await egress._asked(server.url)


async def test_an_answer_with_one_is_it() -> None:
    async with dying(At.NEVER, http(200, b"203.0.113.7\n")) as server:
        assert await egress._asked(server.url) == OURS


async def test_the_simulated_exchange_takes_orders_from_this_machine_until_it_is_told_otherwise(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange):
        assert (await venue.egress()).ok
        settings = settings_at(exchange, tmp_path, teji_mode="live")
        (line,) = await doctor.egress_findings(settings, exchange.url)
        assert (line.level, line.detail) == (Level.OK, "orders go to this machine, from 127.0.0.1, as registered there")
        exchange.account.primary_ip = "203.0.113.7"
        (line,) = await doctor.egress_findings(settings, exchange.url)
        assert line.level is Level.FAIL
        assert "egress" in {each.name for each in await doctor.examine(settings, None)}
        (line,) = await doctor.egress_findings(settings_at(exchange, tmp_path / "nobody"), exchange.url)
        assert (line.level, "login" in line.fix) == (Level.WARN, True)
        found = await venue.egress()
        assert (found.ok, found.registered) == (False, ("203.0.113.7",))
        assert found.sentence
