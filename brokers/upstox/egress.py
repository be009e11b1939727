"""Whether orders would leave from an address that is registered with the venue.

It takes orders from registered addresses only, so a changed address is found here, at the start, and not by the exit
that is refused. Reading is not restricted: the question itself can be asked from anywhere.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from brokers.upstox.rest import USER_AGENT, Rest
from bus.settings import Settings
from schemas.errors import Misconfigured, Unavailable

_PATH: Final = "/v2/user/ip"
_TIMEOUT_S: Final = 10.0
_ANSWER_MAX_BYTES: Final = 4096

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Egress:
    """`ok`: orders may leave. `sentence` says it for people, with what to do where it is not."""

    ok: bool
    address: str  # ours; empty: not known
    registered: tuple[str, ...]
    sentence: str


async def check(rest: Rest, settings: Settings) -> Egress:
    """Raises Unavailable where the venue, or who tells our address, does not answer."""
    registered = registered_in(await rest.get(_PATH))
    own = await own_address(settings)
    return judged(own, registered, loopback=is_loopback(settings.upstox_order_url))


def is_loopback(url: str) -> bool:
    """Whether orders stay on this machine: the simulated exchange."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or ((found := _address(host)) is not None and found.is_loopback)


def judged(own: Address | None, registered: tuple[Address, ...], *, loopback: bool) -> Egress:
    names = tuple(map(str, registered))
    shown = " and ".join(names) or "none"
    if loopback:
        if own is None:
            own = next((each for each in registered if each.is_loopback), ip_address("127.0.0.1"))
        if own in registered:
            return Egress(True, str(own), names, f"orders go to this machine, from {own}, as registered there")
        return Egress(False, str(own), names, f"orders go to this machine from {own}; registered there: {shown}")
    if own is None:
        return Egress(
            False, "", names, f"set TEJI_EGRESS_IP to the address that orders leave from (registered: {shown})"
        )
    if own not in registered:
        why = f"orders would leave from {own}, the venue takes them from {shown}"
        return Egress(False, str(own), names, f"{why}: register {own} there, or leave from a registered address")
    return Egress(True, str(own), names, f"orders leave from {own}, which is registered")


async def own_address(settings: Settings) -> Address | None:
    """The one of the settings, or what the address in the settings answers. None: not told."""
    told = settings.teji_egress_ip.strip()
    if not told:
        return None
    if (address := _address(told)) is not None:
        return address
    if not told.startswith("https://"):
        raise Misconfigured("TEJI_EGRESS_IP is neither an address (203.0.113.7) nor an https address that tells it.")
    return await _asked(told)


async def _asked(url: str) -> Address:
    """The same way that orders go: over IPv4, without a proxy."""
    headers = {"User-Agent": USER_AGENT}
    way_out = httpx.AsyncHTTPTransport(local_address="0.0.0.0")  # noqa: S104 - any IPv4 address of ours
    try:
        async with httpx.AsyncClient(transport=way_out, timeout=_TIMEOUT_S, headers=headers) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"what TEJI_EGRESS_IP names does not answer: {type(error).__name__}") from None
    address = parsed(answer.content) if answer.status_code == 200 else None
    if address is None:
        raise Unavailable(f"what TEJI_EGRESS_IP names answers {answer.status_code} and no address")
    return address


def parsed(body: bytes) -> Address | None:
    """An address as plain text, or in the member `ip` of a JSON object."""
    text: Any = body[:_ANSWER_MAX_BYTES].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            text = orjson.loads(text).get("ip")
        except orjson.JSONDecodeError:
            return None
    return _address(str(text))


def registered_in(data: Any) -> tuple[Address, ...]:
    told = [data.get(name) for name in ("primary_ip", "secondary_ip")] if isinstance(data, dict) else []
    found = (_address(str(each)) for each in told if each)
    return tuple(each for each in found if each is not None)


def _address(text: str) -> Address | None:
    """An IPv4 address inside an IPv6 one is that IPv4 address."""
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found
