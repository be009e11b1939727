"""`teji up` as a whole, with real servers, a real exchange and real workers."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bus import clock
from bus.embedded import Servers
from bus.settings import Venue
from schemas.errors import Misconfigured
from schemas.orders import TradingMode
from teji import ports, up
from tests.bus.facts import until_sync
from tests.conftest import settings_in
from tests.teji.commands import command, environment, teji

START_S = 90.0
STOP_S = 25.0


class Up:
    """A running `teji up`, its lines as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = threading.Condition()
        assert process.stdout is not None
        assert process.stderr is not None
        for stream, kept in ((process.stdout, self.out), (process.stderr, self.err)):
            threading.Thread(target=self._read, args=(stream, kept), daemon=True).start()

    def _read(self, stream: Iterator[str], kept: list[str]) -> None:
        for line in stream:
            with self._news:
                kept.append(line)
                self._news.notify_all()

    def until(self, pattern: str) -> "re.Match[str]":
        """The first match in what it has printed, to come within the deadline."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            text = "".join(self.out) + "".join(self.err)
            found.extend(match for match in [re.search(pattern, text)] if match)
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, START_S), f"no {pattern!r} in:\n{''.join(self.out + self.err)}"
        return found[0]

    def until_ready(self) -> str:
        """The page's address."""
        return self.until(r"Page +(\S+)/\n").group(1)

    def pids(self) -> dict[str, int]:
        """Process ids of the workers that have started."""
        started = [json.loads(line) for line in self.err if '"event": "started"' in line]
        return {line["worker"]: line["pid"] for line in started}


@contextmanager
def running(home: Path, *arguments: str, **more: str) -> Iterator[Up]:
    process = subprocess.Popen(
        command("up", *arguments),
        cwd=home,
        env=environment(home, TEJI_SIM_INSTRUMENTS="30", TEJI_PORT="0", TEJI_SIM_PORT="0", **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as under setsid
    )
    with process:
        try:
            yield Up(process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except FileNotFoundError:
        return True


def await_gone(pids: list[int]) -> list[int]:
    """Who is still there at the deadline."""
    until_s = clock.monotonic_s() + STOP_S
    while clock.monotonic_s() < until_s and not all(map(gone, pids)):
        threading.Event().wait(0.05)
    return [pid for pid in pids if not gone(pid)]


def first_event(url: str) -> str:
    """The first event of the bars' stream."""
    with httpx.Client(trust_env=False, timeout=START_S) as client, client.stream("GET", url) as answer:
        return next(line for line in answer.iter_lines() if line.startswith("event:"))


@pytest.mark.slow
def test_a_newcomer_sees_bars_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("UPSTOX_ACCESS_TOKEN=a.real.token\nTEJI_LOG=json\n")
    (tmp_path / "sim").mkdir()  # an author's own folders stand in nobody's way
    (tmp_path / "sim" / "__main__.py").write_text("raise SystemExit('not this one')")
    with running(tmp_path, HTTP_PROXY="http://127.0.0.1:1") as started:  # nothing goes through a proxy here
        url = started.until_ready()
        assert first_event(f"{url}/api/v1/stream/candles") == "event: candle"
        block = "".join(started.out)
        assert f"curl -N {url}/api/v1/stream/candles" in block
        client = re.search(r"Redis +(.+)\n", block)
        assert client is not None
        answer = subprocess.run([*client.group(1).split(), "PING"], capture_output=True, text=True, check=True)
        assert answer.stdout == "PONG\n"
        started.until(r'"event": "started", "worker": "gtt"')
        pids = started.pids()
        assert pids.keys() == {"ingest", "aggregator", "gtt", "gateway"}

        os.killpg(started.process.pid, signal.SIGINT)
        assert started.process.wait(STOP_S) == 0

    assert "Traceback" not in "".join(started.err)
    assert await_gone(list(pids.values())) == []
    assert not (tmp_path / ".teji/postgres/postmaster.pid").exists()


@pytest.mark.slow
def test_a_dead_worker_comes_back_and_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, TEJI_LOG="json") as started:
        started.until_ready()
        started.until(r'"event": "started", "worker": "aggregator"')
        first = started.pids()["aggregator"]
        os.kill(first, signal.SIGKILL)
        started.until(r"aggregator was ended by SIGKILL; starting it again in 0.5 s")

        second = teji(tmp_path, "up")
        assert (second.returncode, "already (process" in second.stderr) == (1, True)

        started.until(r'(?s)SIGKILL.*"event": "started", "worker": "aggregator"')
        assert started.pids()["aggregator"] != first


@pytest.mark.slow
def test_servers_that_are_killed_come_back_and_everything_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, TEJI_LOG="json") as started:
        url = started.until_ready()
        assert first_event(f"{url}/api/v1/stream/candles") == "event: candle"
        for name, file in (("Redis", "redis/redis.pid"), ("Postgres", "postgres/postmaster.pid")):
            os.kill(int((tmp_path / ".teji" / file).read_text().split()[0]), signal.SIGKILL)
            started.until(f"{name} had died; started again, with its data")
        assert first_event(f"{url}/api/v1/stream/candles") == "event: candle"
        until_sync(lambda: health(url) == "ok", "everything works again", START_S)
    assert not re.search(r"(ingest|aggregator|gateway) (was ended|ended with)", "".join(started.err))


def health(url: str) -> str:
    with httpx.Client(trust_env=False) as client:
        return str(client.get(f"{url}/health").json()["status"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_nobody_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    try:
        with running(tmp_path, TEJI_LOG="json") as started:
            started.until_ready()
            started.until(r'"event": "feed"')
            pids = children(started.process.pid)
            assert len(pids) == 5
            started.process.kill()
            started.process.wait(STOP_S)

            assert await_gone(pids) == []
    finally:
        with running(tmp_path, "--minutes", "0") as again:  # the servers it left running are used, and stopped
            assert again.process.wait(STOP_S) == 0
    assert not (tmp_path / ".teji/postgres/postmaster.pid").exists()


def children(pid: int) -> list[int]:
    """Processes that `pid` has started and that are no servers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with_parent = stat.read_text().rpartition(") ")[2].split()
        if int(with_parent[1]) == pid and "runner.py" in (stat.parent / "cmdline").read_text():
            found.append(int(stat.parent.name))
    return found


def test_a_taken_port_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        answer = teji(tmp_path, "up", "--port", port)

    assert answer.returncode == 1
    assert f"Port {port} is taken" in answer.stderr
    assert not (tmp_path / ".teji" / "redis").exists()


def test_minutes_end_it_with_0_even_while_it_starts(tmp_path: Path) -> None:
    answer = teji(tmp_path, "up", "--minutes", "0", "--port", "0", TEJI_SIM_PORT="0")
    assert answer.returncode == 0
    assert '"event": "stopped", "worker": "up"' in answer.stderr


def test_a_taken_port_of_the_exchange_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        plan = up.planned(settings_in(tmp_path), {"teji_home": tmp_path, "teji_port": 0, "teji_sim_port": taken})
    assert plan.exchange is not None
    assert plan.exchange.port not in (0, taken)
    assert plan.settings.upstox_api_url == f"http://127.0.0.1:{plan.exchange.port}"


def test_a_real_venue_gets_no_exchange_and_keeps_the_calendar(tmp_path: Path) -> None:
    given = {"teji_home": tmp_path, "teji_port": 0, "teji_venue": Venue.UPSTOX}
    plan = up.planned(settings_in(tmp_path, teji_venue="upstox"), given)
    assert plan.exchange is None
    assert plan.settings.teji_calendar == "exchange"
    names = [name for name, _ in up.rows(plan, Servers("redis://x", ""), 1)]
    assert names == ["Page", "Bars", "Orders", "Redis", "Stop"]


def test_a_worker_is_told_where_everything_is_and_gets_a_metrics_port_of_its_own(tmp_path: Path) -> None:
    base = ports.free_port("127.0.0.1")
    given = {"teji_home": tmp_path, "teji_port": 0, "teji_metrics_port": base}
    plan = up.planned(settings_in(tmp_path, **given), given)
    servers = Servers("unix:///r.sock", "postgresql://p")
    programs = [plan.program(name, servers) for name in ("ingest", "aggregator", "gtt", "gateway")]

    assert {program.environment["REDIS_URL"] for program in programs} == {"unix:///r.sock"}
    assert {program.environment["DATABASE_URL"] for program in programs} == {"postgresql://p"}
    assert [program.environment["TEJI_METRICS_PORT"] for program in programs] == [str(base + n) for n in range(4)]
    assert all(program.folder == plan.settings.home for program in programs)


def test_live_orders_at_a_real_venue_start_nothing_before_all_they_need_is_there(tmp_path: Path) -> None:
    live = {"teji_mode": TradingMode.LIVE, "teji_venue": Venue.UPSTOX, "_env_file": None}
    with pytest.raises(Misconfigured, match=r"TEJI_EGRESS_IP .*, UPSTOX_API_KEY, UPSTOX_API_SECRET"):
        up.main({"teji_home": tmp_path / "home", **live}, None)
    assert not (tmp_path / "home").exists()
    ready = settings_in(tmp_path, **{**live, "teji_egress_ip": "192.0.2.1", "upstox_access_token": "t"})
    assert up.live_lacks(ready) == []
    assert up.live_lacks(settings_in(tmp_path, teji_mode=TradingMode.LIVE)) == []  # the simulated exchange


def test_the_block_says_first_whose_orders_are_real(tmp_path: Path) -> None:
    given = {"teji_home": tmp_path, "teji_port": 0, "teji_sim_port": 0, "teji_mode": TradingMode.LIVE}
    plan = up.planned(settings_in(tmp_path, **given), given)
    assert plan.settings.teji_mode is TradingMode.LIVE
    lines = up.rows(plan, Servers("unix:///r.sock", "postgresql://p"), 1)
    assert lines[0] == (
        "Live",
        "orders by hand, and of strategies that are switched to live, go to the simulated exchange",
    )
