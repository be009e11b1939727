"""Who may ask for a change. For now: pages of this gateway and programs on this machine; keys and roles come on top."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request

from gateway.context import Here
from gateway.problems import Problem

#: A name or an address, and perhaps a port: nothing that a parser could take for something else.
_HOST: Final = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)
_LOOPBACK_NAMES: Final = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request acts; `name` is written into the command."""

    name: str


def is_ours(host: str, bound_to: str) -> bool:
    """Whether a Host header names this machine's loopback or the address that the gateway was told to bind to.

    A page of another site whose name was pointed at this machine (DNS rebinding) sends its own name here.
    """
    if not _HOST.fullmatch(host):
        return False
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    if name in _LOOPBACK_NAMES or name == bound_to.lower():
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _same_origin(request: Request, here: Here) -> None:
    host = request.headers.get("host", "")
    if not is_ours(host, here.settings.teji_host):
        raise Problem.field(
            403,
            "header.host",
            f"{host!r} is not this gateway: changes are asked for under its own address",
            kind="foreign",
        )
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Problem.field(403, "header.origin", f"pages of {origin} may not ask for changes here", kind="foreign")


def _caller(request: Request, _: Annotated[None, Depends(_same_origin)]) -> Caller:
    return Caller(f"api:{request.client.host}" if request.client else "api")


#: Every route that changes something depends on this.
MayChange = Annotated[Caller, Depends(_caller)]
