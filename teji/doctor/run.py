"""All examinations, in the order in which things depend on one another.

Embedded servers that do not run are started meanwhile: that they can be is what a newcomer wants to know.
"""

import asyncio
from dataclasses import dataclass, field

from rich.console import Console

from bus import embedded
from bus.embedded import Servers
from bus.settings import Settings, load
from schemas.errors import Misconfigured
from teji import running
from teji.doctor import machine, servers, venue, workers
from teji.doctor.findings import Finding, fail, failed, in_json, in_words
from teji.doctor.processes import Process, table


@dataclass(frozen=True, slots=True)
class Report:
    findings: list[Finding]
    processes: list[Process] = field(default_factory=list)


def main(*, as_json: bool) -> int:
    report = examine(load())
    if as_json:
        print(in_json(report.findings, report.processes))
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(in_words(report.findings), end="")
        if report.processes:
            console.print()
            console.print(table(report.processes))
    return int(failed(report.findings))


def examine(settings: Settings) -> Report:
    found = machine.examine(settings)
    if failed(found):
        return Report(found)  # the rest would only say the same again
    try:
        with embedded.servers(settings) as places:
            report = asyncio.run(_with_servers(settings, places))
    except Misconfigured as error:
        return Report([*found, fail("servers", str(error), "Put that right, then ask again.")])
    return Report([*found, *report.findings], report.processes)


async def _with_servers(settings: Settings, places: Servers) -> Report:
    supervisor = running.found(settings.home)
    found = [*await servers.redis(places), *await servers.postgres(places)]
    found += await venue.examine(settings, supervisor)
    if failed(found[:1]):
        return Report(found)
    judged, processes = await workers.examine(settings, places, supervisor)
    return Report([*found, *judged], processes)
