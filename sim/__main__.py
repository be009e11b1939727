"""`python -m sim`: the simulated exchange alone."""

import argparse
import asyncio
import logging
import signal
import sys
from typing import get_args

from pydantic import ValidationError

from schemas.errors import Misconfigured
from sim.server import serve
from sim.settings import SimSettings


def main(arguments: list[str] | None = None) -> int:
    settings = _settings(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(settings))
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _serve(settings: SimSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, stop)


def _settings(arguments: list[str] | None) -> SimSettings:
    fields = SimSettings.model_fields
    parser = argparse.ArgumentParser(
        "python -m sim", description="A simulated exchange: OAuth, REST and the feed on one port."
    )
    parser.add_argument("--host", default=fields["host"].default)
    parser.add_argument("--port", type=int, default=fields["port"].default)
    parser.add_argument("--seed", type=int, default=fields["seed"].default)
    parser.add_argument("--instruments", type=int, default=fields["instruments"].default, help="about so many")
    parser.add_argument("--clock", choices=get_args(fields["clock"].annotation)[:3], default="open")
    parser.add_argument("--speed", type=float, default=fields["speed"].default, help="of the fast clock")
    parser.add_argument("--start", help="first instant of the fast clock, 2026-11-20T09:14")
    parser.add_argument(
        "--conflation-ms", type=int, default=fields["conflation_ms"].default, help="0 sends every event"
    )
    parser.add_argument("--ping-s", type=float, default=fields["ping_s"].default)
    parser.add_argument(
        "--partial-blocks", action="store_true", help="leave out the parts of a block that did not change"
    )
    parser.add_argument("--plus-plan", action="store_true", help="30 levels of depth, five connections")
    parser.add_argument("--funds", default=fields["funds"].default, help="rupees in the account when it opens")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="TIMELINE", help="what fails when: 'at 09:20 mute for 30s'"
    )
    parser.add_argument("--notifier-url", default="", help="where the token of a pushed login is posted")
    parser.add_argument("--ask", dest="auto_approve", action="store_false", help="show the login dialog's button")
    try:
        return SimSettings.model_validate(vars(parser.parse_args(arguments)))
    except ValidationError as error:
        parser.error(
            "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
            )
        )


if __name__ == "__main__":
    sys.exit(main())
