"""What the routes are handed: the parts of this process, put together in `worker.py`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from bus.connection import Bus
from bus.inbox import Writer
from bus.postgres import Pool
from bus.settings import Settings
from gateway.chains import Chains
from gateway.directory import Directory
from gateway.frames import Candles, Events, LongBars
from gateway.history import History
from gateway.journal import Journal
from gateway.longer import Longer
from gateway.sse import Streams
from gateway.tail import Tail


@dataclass(frozen=True, slots=True)
class Gateway:
    settings: Settings
    bus: Bus
    pool: Pool
    writer: Writer
    directory: Directory
    history: History
    longer: Longer
    chains: Chains
    journal: Journal
    tails: Mapping[str, Tail]
    streams: Streams
    candles: Candles
    long_bars: LongBars
    events: Events
    migrated: asyncio.Event  # Postgres has our tables
    started_ms: int


def _gateway(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


Here = Annotated[Gateway, Depends(_gateway)]
