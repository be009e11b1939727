"""Whether a request was sent to this gateway, or to another name that was pointed at this machine."""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from gateway.problems import Problem

#: A name or an address, and perhaps a port: nothing that a parser could take for something else.
_HOST: Final = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)
_LOOPBACK_NAMES: Final = ("localhost", "ip6-localhost")


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


def refuse_foreign(host: str, bound_to: str) -> None:
    """What one owns, and asks to be changed, is told and taken under the gateway's own address only."""
    if not is_ours(host, bound_to):
        raise Problem.field(
            403,
            "header.host",
            f"{host!r} is not this gateway: accounts and changes are asked for under its own address",
            kind="foreign",
        )
