"""Who may ask for a change. For now: pages of this gateway and programs on this machine; keys and roles come on top."""

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request

from gateway.context import Here
from gateway.hosts import refuse_foreign
from gateway.problems import Problem


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request acts; `name` is written into the command."""

    name: str


def _own_address(request: Request, here: Here) -> None:
    refuse_foreign(request.headers.get("host", ""), here.settings.teji_host)


def _same_origin(request: Request, _: Annotated[None, Depends(_own_address)]) -> None:
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Problem.field(403, "header.origin", f"pages of {origin} may not ask for changes here", kind="foreign")


def _caller(request: Request, _: Annotated[None, Depends(_same_origin)]) -> Caller:
    return Caller(f"api:{request.client.host}" if request.client else "api")


#: Every route that tells of accounts depends on this: a browser adds no Origin to what a page of its own site reads.
OWN_ADDRESS: Final = Depends(_own_address)

#: Every route that changes something depends on this.
MayChange = Annotated[Caller, Depends(_caller)]
