"""`teji`: every command, its options and their help. What a command does is in a file of its own.

Those files are imported by the commands that need them, so that `teji --help` answers in a tenth of a second.
Exit codes: 0 done, 1 failed (one sentence on standard error), 2 wrong usage.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from schemas.errors import TejiError
from teji import __version__, modules
from teji.modules import WORKERS

app = typer.Typer(
    help="Trading pipeline for the Indian markets: ticks to bars to browsers, over Redis Streams.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its help takes a quarter of a second to draw
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

audit = typer.Typer(help="Check bars against the venue; show what became of each order.", no_args_is_help=True)
app.add_typer(audit, name="audit")
report = typer.Typer(help="What became of orders.", no_args_is_help=True)
app.add_typer(report, name="report")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def main() -> None:
    _reach_this_machine_directly()
    failure: BaseException | None = None
    try:
        app(prog_name="teji")
    except* TejiError as group:
        failure = _first(group)
    if failure is not None:
        print(f"teji: {failure}", file=sys.stderr)
        sys.exit(1)


def _reach_this_machine_directly() -> None:
    """A proxy that the environment names is for the venue, never for what runs on this machine."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", "::1"]))


def _first(group: BaseExceptionGroup[TejiError]) -> BaseException:
    """The error itself, from however deep the task groups have wrapped it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _version(wanted: bool) -> None:
    if wanted:
        print(f"teji {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None: ...


@app.command()
def up(
    venue: Annotated[
        Literal["sim", "upstox"] | None, typer.Option(help="Whose feed: the simulated exchange, or a broker's.")
    ] = None,
    mode: Annotated[Literal["paper", "shadow", "live"] | None, typer.Option(help="How orders are treated.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes.")] = None,
    instruments: Annotated[int | None, typer.Option(help="Instruments of the simulated market, about.")] = None,
) -> None:
    """Start everything: servers, exchange, workers, page."""
    from teji import up as supervisor

    given = {"teji_venue": venue, "teji_mode": mode, "teji_port": port, "teji_sim_instruments": instruments}
    overrides = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(supervisor.main(overrides, minutes))


@app.command()
def run(worker: Annotated[str, typer.Argument(metavar="WORKER", help=f"One of {', '.join(WORKERS)}.")]) -> None:
    """Run one worker as this process."""
    if worker not in WORKERS:
        raise typer.BadParameter(f"there is no worker {worker!r}; there are {', '.join(WORKERS)}")
    modules.become(worker, [])


@app.command()
def sim(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same market.")] = 7,
    instruments: Annotated[int, typer.Option(help="How many are listed, about.")] = 500,
    clock: Annotated[
        Literal["open", "real", "fast"],
        typer.Option(help="open: always trading; real: the exchange's hours; fast: quicker than real."),
    ] = "open",
    speed: Annotated[float, typer.Option(help="Market seconds per second of the fast clock.")] = 20.0,
    start: Annotated[
        str | None, typer.Option(help="First instant of the fast clock, in IST: 2026-11-20T09:14.")
    ] = None,
    conflation_ms: Annotated[int, typer.Option(help="An instrument sends once in so long; 0 sends all.")] = 300,
    ping_s: Annotated[float, typer.Option(help="The feed pings this often.")] = 20.0,
    plus_plan: Annotated[bool, typer.Option("--plus-plan", help="30 levels of depth, five connections.")] = False,
    fault: Annotated[
        list[str] | None, typer.Option(help="What fails when: 'at 09:20 mute for 30s; after 2m drop 1011'.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="The login dialog waits for its button.")] = False,
) -> None:
    """Run the simulated exchange alone."""
    from teji import simulated

    given = {
        "host": host,
        "port": port,
        "seed": seed,
        "instruments": instruments,
        "clock": clock,
        "speed": speed,
        "start": start,
        "conflation_ms": conflation_ms,
        "ping_s": ping_s,
        "plus_plan": plus_plan,
        "fault": fault or [],
        "auto_approve": not ask,
    }
    modules.become("sim", simulated.arguments(simulated.checked(given)))


@app.command()
def login(
    _: Annotated[Literal["upstox"], typer.Argument(metavar="VENUE", help="upstox.")],
    push: Annotated[bool, typer.Option("--push", help="Approve it in the venue's app, without a browser.")] = False,
    token: Annotated[bool, typer.Option("--token", help="Read a token from standard input, without an echo.")] = False,
    browser: Annotated[bool, typer.Option(help="Open one, on a terminal.")] = True,
    minutes: Annotated[float, typer.Option(min=0.01, max=60, help="Wait so long.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Log in at a venue: a link to open, and a token that every worker finds by itself."""
    from teji import login as logging_in

    logging_in.main(logging_in.Options(push, token, browser, minutes, as_json))


@app.command()
def tail(
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="ticks, candles, intervals, chain, events, commands, orders, signals or a key."
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Lines from before to begin with.")] = 10,
    follow: Annotated[bool, typer.Option(help="Go on with what is written from now on.")] = True,
    as_json: Json = False,
) -> None:
    """Show the end of a stream, readable, and follow it."""
    from teji import tail as tailing

    tailing.main(stream, count=count, follow=follow, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check machine, servers, venue and workers, and say what to do about what is wrong."""
    from teji.doctor import run as examination

    raise typer.Exit(examination.main(as_json=as_json))


@app.command()
def config(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table of settings.")] = False,
) -> None:
    """Show every setting, its value and where it comes from. Secrets are masked."""
    from teji import config as configuration

    configuration.main(as_json=as_json, markdown=markdown)


@audit.command("bars")
def audit_bars(
    date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The day; today where it is not said.")] = None,
    instruments: Annotated[str, typer.Option(help="Keys, comma-separated; else all that have a bar that day.")] = "",
    price_tolerance: Annotated[float, typer.Option(min=0, help="Rupees that are no difference.")] = 0.0,
    volume_tolerance: Annotated[int, typer.Option(min=0, help="Units that are no difference.")] = 0,
    from_first_bar: Annotated[
        bool, typer.Option("--from-first-bar", help="Not what was before our first bar.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Let ingest ask history for what is missing.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the venue again for candles that are kept.")] = False,
    shown: Annotated[int, typer.Option("--list", min=0, help="Differences shown; 0 shows all.")] = 40,
    as_json: Json = False,
) -> None:
    """Compare every bar of a day with the venue's candle. 0: all right, 1: something differs, 2: wrong usage."""
    from teji import audit as auditing

    try:
        options = auditing.chosen(
            date, instruments, price_tolerance, volume_tolerance, from_first_bar, repair=repair, refresh=refresh
        )
        raise typer.Exit(auditing.main(options, as_json=as_json, shown=shown))
    except auditing.WrongUsage as error:
        raise typer.BadParameter(str(error)) from None


@report.command("shadow")
def report_shadow(
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The day; the last one with orders where it is not said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the simulated fills of shadow trading with what the market did."""
    from teji import divergence

    try:
        raise typer.Exit(divergence.main(date, as_json))
    except divergence.WrongUsage as error:
        raise typer.BadParameter(str(error)) from None


@audit.command("orders")
def audit_orders(
    date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The day; today where it is not said.")] = None,
    mode: Annotated[str | None, typer.Option(help="Of one account: paper, shadow or live; else all.")] = None,
    order: Annotated[str, typer.Option(metavar="ID", help="One order, GTT or intent, with every rule it passed.")] = "",
    file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every fact into a table.")] = None,
    shown: Annotated[int, typer.Option("--list", min=0, help="Orders shown, the last ones; 0 shows all.")] = 40,
    as_json: Json = False,
) -> None:
    """Show each order of a day from intent to charges. 0: all resolved, 1: something is not, 2: wrong usage."""
    from teji import audit_orders as auditing

    try:
        options = auditing.chosen(date, mode, order, file)
    except auditing.WrongUsage as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(auditing.main(options, as_json=as_json, shown=shown))


@app.command()
def record(
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes; else Ctrl-C does.")] = None,
    as_json: Json = False,
) -> None:
    """Record what the feed brings on a tape, from a running system."""
    from teji import record as recording

    raise typer.Exit(recording.main(minutes, as_json=as_json))


@app.command()
def replay(
    tape: Annotated[Path | None, typer.Argument(metavar="[TAPE]", help="A tape's folder, or one of its files.")] = None,
    speed: Annotated[str, typer.Option(metavar="N|max", help="Times the speed at which it was recorded.")] = "max",
    verify: Annotated[bool, typer.Option("--verify", help="Compare with what was published, byte for byte.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Show the tapes that there are.")] = False,
    redis_url: Annotated[str, typer.Option("--redis", metavar="URL", help="An empty Redis; else a scratch one.")] = "",
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Go on behind what cannot be read.")] = False,
    as_json: Json = False,
) -> None:
    """Play a tape through the whole pipeline. 0: done, and equal; 1: not equal; 2: wrong usage."""
    from teji import replay as replaying

    if listing:
        replaying.list_tapes(as_json)
        return
    if tape is None:
        raise typer.BadParameter("which tape? `teji replay --list` shows those that there are")
    try:
        options = replaying.chosen(
            tape, speed, verify=verify, as_json=as_json, redis_url=redis_url, skip_damaged=skip_damaged
        )
    except replaying.WrongUsage as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(replaying.main(options))


@app.command()
def halt(
    why: Annotated[str, typer.Argument(metavar="WHY", help="The reason; everybody sees it.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel all orders and GTTs, too.")] = False,
    flatten: Annotated[bool, typer.Option("--flatten", help="Cancel, and close all positions.")] = False,
) -> None:
    """Halt trading: every worker obeys within a second. What reduces risk passes."""
    from teji import halt as halting

    halting.halt(why, cancel=cancel, flatten=flatten)


@app.command()
def resume() -> None:
    """End a halt."""
    from teji import halt as halting

    halting.resume()


@app.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which; `all` for every one. Without it: what there is.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a number of the README beside its peer."""
    from teji import benches

    try:
        benches.main(name, as_json=as_json)
    except benches.Unknown as error:
        raise typer.BadParameter(str(error)) from None


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def redis(context: typer.Context) -> None:
    """Open redis-cli on our Redis, or run a command there.

    For instance: teji redis XLEN events
    """
    from teji import redis_cli

    raise typer.Exit(redis_cli.main(context.args))
