"""All examinations, in the order in which things depend on one another.

Embedded servers that do not run are started meanwhile: that they can be is what a newcomer wants to know.
"""

import asyncio

from rich.console import Console

from bus import embedded
from bus.embedded import Servers
from bus.settings import Settings, load
from schemas.errors import Misconfigured
from teji import running
from teji.doctor import machine, servers, venue, workers
from teji.doctor.findings import Finding, fail, failed, in_json, in_words


def main(*, as_json: bool) -> int:
    found = examine(load())
    if as_json:
        print(in_json(found))
    else:
        Console(highlight=False, soft_wrap=True).print(in_words(found), end="")
    return int(failed(found))


def examine(settings: Settings) -> list[Finding]:
    found = machine.examine(settings)
    if failed(found):
        return found  # the rest would only say the same again
    try:
        with embedded.servers(settings) as places:
            return found + asyncio.run(_with_servers(settings, places))
    except Misconfigured as error:
        return [*found, fail("servers", str(error), "Put that right, then ask again.")]


async def _with_servers(settings: Settings, places: Servers) -> list[Finding]:
    supervisor = running.found(settings.home)
    found = [*await servers.redis(places), *await servers.postgres(places)]
    found += await venue.examine(settings, supervisor)
    if not failed(found[:1]):
        found += await workers.examine(settings, places, supervisor)
    return found
