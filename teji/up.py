"""`teji up`: everything at once, on one machine.

Servers, the simulated exchange and the workers, each in a process of its own; a dead one is started again. The workers
are the very programs that a cluster runs, told by their environment where everything is. They see no `.env` and no
folder of the caller's, so they have the settings that were checked here, and no others.
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import SecretStr

from brokers.upstox.egress import is_loopback
from bus import embedded, life
from bus.embedded import Servers
from bus.settings import Settings, Venue, load
from schemas.errors import Misconfigured
from schemas.orders import TradingMode
from sim.settings import SimSettings
from teji import demo, modules, ports, running, simulated
from teji.child import Program
from teji.config import environment
from teji.crew import Crew
from teji.screen import Screen

_HEALTH_EVERY_S: Final = 0.1
_HEALTH_TIMEOUT_S: Final = 5.0
_LOGIN_WAIT_S: Final = 15.0
_SERVERS_EVERY_S: Final = 1.0

_WORKERS: Final = ("ingest", "aggregator", "gtt", "gateway")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to run. `exchange` is None where the venue is a real one."""

    settings: Settings
    exchange: SimSettings | None

    @property
    def url(self) -> str:
        return f"http://{ports.reachable(self.settings.teji_host)}:{self.settings.teji_port}"

    def told(self) -> running.Running:
        return running.Running(
            pid=os.getpid(),
            venue=self.settings.teji_venue.value,
            mode=self.settings.teji_mode.value,
            url=self.url,
            sim_url=self.settings.upstox_api_url if self.exchange else "",
        )

    def program(self, name: str, servers: Servers) -> Program:
        """A worker, and the environment that gives it these settings."""
        port = self.settings.teji_metrics_port
        settings = self.settings.model_copy(
            update={
                "redis_url": servers.redis_url,
                "database_url": SecretStr(servers.postgres_url),
                "teji_metrics_port": port and port + _WORKERS.index(name),
            }
        )
        return _program(name, [], environment(settings), self.settings.home)

    def simulator(self) -> Program:
        assert self.exchange is not None
        return _program("sim", simulated.arguments(self.exchange), environment(self.settings), self.settings.home)


def _program(name: str, arguments: list[str], variables: dict[str, str], folder: Path) -> Program:
    return Program(name, modules.command(name, arguments), variables | {"TEJI_SUPERVISED": str(os.getpid())}, folder)


def main(overrides: dict[str, Any], minutes: float | None) -> int:
    """Run until a signal comes or the time is over; the exit code."""
    settings = load(**overrides)
    if missing := live_lacks(settings):
        raise Misconfigured(f"Live orders at {settings.teji_venue.value} need {', '.join(missing)}: set them first.")
    with running.claimed(settings.home, settings.teji_venue) as claim:
        screen = Screen(settings.teji_log, settings.teji_log_level)
        plan = planned(settings, overrides | {"teji_log": screen.form})
        claim.tell(plan.told())
        asyncio.run(_supervise(plan, screen, minutes))
    return 0


def live_lacks(settings: Settings) -> list[str]:
    """The settings without which no live order can leave for a real venue. The simulated one needs nothing."""
    if settings.teji_mode is not TradingMode.LIVE or settings.teji_venue is Venue.SIM:
        return []
    told = settings.teji_egress_ip or is_loopback(settings.upstox_order_url)
    lacking = [] if told else ["TEJI_EGRESS_IP (the address that is registered there)"]
    if not settings.upstox_access_token.get_secret_value():
        app = ("upstox_api_key", "upstox_api_secret", "upstox_redirect_uri")
        held = {name: getattr(settings, name) for name in app}
        lacking += [
            name.upper()
            for name, value in held.items()
            if not (value.get_secret_value() if isinstance(value, SecretStr) else value)
        ]
    return lacking


def planned(settings: Settings, overrides: dict[str, Any]) -> Plan:
    """Ports that can be had, and the settings that say so."""
    given = overrides | {"teji_port": ports.demanded(settings.teji_host, settings.teji_port)}
    if settings.teji_venue is not Venue.SIM:
        return Plan(load(**given), None)
    exchange = simulated.checked(
        {
            "port": ports.or_free("127.0.0.1", settings.teji_sim_port),
            "seed": settings.teji_sim_seed,
            "instruments": settings.teji_sim_instruments,
        }
    )
    return Plan(load(**given, **demo.overrides(exchange, given["teji_port"])), exchange)


async def _supervise(plan: Plan, screen: Screen, minutes: float | None) -> None:
    stop = asyncio.Event()
    if minutes is not None:
        asyncio.get_running_loop().call_later(minutes * 60, stop.set)
    with contextlib.ExitStack() as until_the_end:
        async with asyncio.TaskGroup() as group:
            crew = Crew(group, screen)
            _listen_to_signals(stop, crew)
            screen.say(f"starting in {plan.settings.home}")
            try:
                await _start(plan, crew, group, until_the_end, stop, screen)
                await stop.wait()
            finally:
                stop.set()
                screen.say("stopping")
                await crew.end()
    screen.say("stopped")


def _listen_to_signals(stop: asyncio.Event, crew: Crew) -> None:
    """The first signal asks for an orderly end, another one for an immediate one."""

    def on_signal() -> None:
        if stop.is_set():
            crew.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup is respected
            asyncio.get_running_loop().add_signal_handler(number, on_signal)


async def _start(
    plan: Plan, crew: Crew, group: asyncio.TaskGroup, servers: contextlib.ExitStack, stop: asyncio.Event, screen: Screen
) -> None:
    """Everything as soon as what it needs is there. A first Postgres takes two seconds to be made; ticks and bars do
    not wait for it."""
    logged_in = _start_exchange(plan, crew, group, stop)
    redis = await asyncio.to_thread(servers.enter_context, embedded.servers(plan.settings, postgres=False))
    if stop.is_set():
        return
    crew.start(plan.program("aggregator", redis))
    group.create_task(_start_ingest(plan, redis, crew, logged_in, stop))
    both = await asyncio.to_thread(servers.enter_context, embedded.servers(plan.settings))
    if not stop.is_set():
        crew.start(plan.program("gtt", both))
        crew.start(plan.program("gateway", both))
        group.create_task(_introduce(plan, both, screen, stop))
        group.create_task(_keep_servers(plan, screen, stop))


def _start_exchange(plan: Plan, crew: Crew, group: asyncio.TaskGroup, stop: asyncio.Event) -> asyncio.Event:
    """The simulated exchange, where it is the venue. Returns what is set once somebody is logged in there."""
    logged_in = asyncio.Event()
    if plan.exchange is None:
        logged_in.set()  # or not: ingest says so
    else:
        crew.start(plan.simulator())
        group.create_task(demo.stay_logged_in(plan.settings, logged_in, stop))
    return logged_in


async def _start_ingest(plan: Plan, redis: Servers, crew: Crew, logged_in: asyncio.Event, stop: asyncio.Event) -> None:
    """Before the login it would only find out that it has to wait, and then for longer."""
    await _either(logged_in, stop, _LOGIN_WAIT_S)
    if not stop.is_set():
        crew.start(plan.program("ingest", redis))


async def _keep_servers(plan: Plan, screen: Screen, stop: asyncio.Event) -> None:
    """Embedded servers that die are started again, with their data; the workers wait for them meanwhile."""
    while not await life.pause(stop, _SERVERS_EVERY_S):
        try:
            for name in await asyncio.to_thread(embedded.revive, plan.settings):
                screen.say(f"{name} had died; started again, with its data", warning=True)
        except Misconfigured as error:
            screen.say(f"{error} Trying again.", warning=True)


async def _either(one: asyncio.Event, other: asyncio.Event, timeout_s: float) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _introduce(plan: Plan, servers: Servers, screen: Screen, stop: asyncio.Event) -> None:
    """When the gateway first answers, say where everything is."""
    async with httpx.AsyncClient(timeout=_HEALTH_TIMEOUT_S, trust_env=False) as client:
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{plan.url}/health")
                break
            await life.pause(stop, _HEALTH_EVERY_S)
        else:
            return
    screen.block(f"Teji is up: {_venue(plan)}, {plan.settings.teji_mode.value} mode", rows(plan, servers, os.getpid()))


def _venue(plan: Plan) -> str:
    return "simulated exchange" if plan.exchange else plan.settings.teji_venue.value


def rows(plan: Plan, servers: Servers, pid: int) -> list[tuple[str, str]]:
    """The lines of the block: what to open, what to type; in live mode first whose orders are real."""
    live = [
        ("Live", f"orders by hand, and of strategies that are switched to live, go to the {_venue(plan)}"),
        ("Halt", "teji halt WHY, or the button of the page"),
    ]
    return [
        *(live if plan.settings.teji_mode is TradingMode.LIVE else []),
        ("Page", f"{plan.url}/"),
        ("Bars", f"curl -N {plan.url}/api/v1/stream/candles"),
        ("Orders", f"curl -N {plan.url}/api/v1/stream/orders"),
        ("Redis", servers.redis_cli),
        ("Stop", f"Ctrl-C, or kill {pid}"),
    ]
