"""What a worker says of a Redis that is too old, no Redis, closed to it, or away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors

from bus import embedded, embedded_redis
from bus.connection import Bus, connect, translated
from bus.settings import Settings
from bus.wire import _packed
from schemas.errors import LeaseLost, Misconfigured, Unavailable
from tests.bus.proxy import proxied
from tests.conftest import settings_in

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def speaking(answer: Answer) -> AsyncIterator[str]:
    """A server on a free port that answers each packet with what `answer` makes of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(answer(data))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.close()


def old_redis(version: str) -> Answer:
    """Speaks just enough of the protocol."""

    def answer(data: bytes) -> bytes:
        if b"INFO" in data.upper() and b"SETINFO" not in data.upper():
            body = f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n".encode()
            return b"$%d\r\n%b\r\n" % (len(body), body)
        return b"-ERR unknown command\r\n" * data.upper().count(b"SETINFO")

    return answer


async def said_of(url: str) -> Misconfigured:
    async with Bus.open(url) as bus:
        with pytest.raises(Misconfigured) as caught:
            await bus.check()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14", "2.8.1", "6.1.240"])
async def test_a_redis_that_is_too_old_is_one_sentence_with_both_versions(version: str) -> None:
    async with speaking(old_redis(version)) as url:
        said = str(await said_of(url))
    assert version in said
    assert "6.2" in said
    assert "REDIS_URL" in said


@pytest.mark.parametrize("version", ["6.2.0", "7.4.1-rc2", "8.0", "255.255.255"])
async def test_a_redis_that_is_new_enough_is_taken(version: str) -> None:
    async with speaking(old_redis(version)) as url, Bus.open(url) as bus:
        assert await bus.check() == version


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"$22\r\n# Server\r\nsomething:1\r\n\r\n",
    ],
)
async def test_what_is_no_redis_is_one_sentence(greeting: bytes) -> None:
    async with speaking(lambda data: greeting) as url:
        assert "not Redis" in str(await said_of(url))


async def test_the_embedded_redis_is_new_enough(bus: Bus) -> None:
    assert tuple(map(int, (await bus.check()).split(".")[:2])) >= (6, 2)


@pytest.mark.parametrize(
    ("password", "login"), [("hunter2", ""), ("hunter2", ":wrong@"), ("hunter2", "nobody:hunter2@"), ("", ":hunter2@")]
)
async def test_wrong_credentials_are_one_sentence_and_not_shown(bus: Bus, password: str, login: str) -> None:
    port = await with_a_port(bus, password)
    said = str(await said_of(f"redis://{login}127.0.0.1:{port}/0"))
    assert "REDIS_URL" in said
    assert "hunter2" not in said
    assert "wrong" not in said.lower().replace("wrongpass", "")


async def test_a_user_who_may_not_look_is_one_sentence(bus: Bus) -> None:
    port = await with_a_port(bus, "")
    await bus.redis.execute_command("ACL", "SETUSER", "guest", "on", ">hunter2", "~*", "+get")
    assert "REDIS_URL" in str(await said_of(f"redis://guest:hunter2@127.0.0.1:{port}/0"))


async def with_a_port(bus: Bus, password: str) -> int:
    """The embedded Redis has none, but takes one at run time."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    await bus.redis.config_set("port", port)
    if password:
        await bus.redis.config_set("requirepass", password)
    return port


async def test_a_redis_that_is_away_is_worth_waiting_for(tmp_path: Path) -> None:
    for url in ("redis://127.0.0.1:1/0", f"unix://{tmp_path}/none.sock", "redis://no-such-host.invalid/0"):
        async with Bus.open(url) as bus:
            with pytest.raises(Unavailable):
                await bus.check()
            with pytest.raises(Unavailable):
                await bus.packet(("PING",))


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://h", "redis://user:hunter2", "redis://h:port/0"])
def test_what_is_no_address_is_one_sentence_without_its_text(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        connect(url)
    assert "REDIS_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("number", [0, 15])
async def test_the_database_of_the_address_is_used(bus: Bus, redis_url: str, number: int) -> None:
    async with Bus.open(f"{redis_url}?db={number}") as numbered:
        await numbered.packet(("SET", "where", number))
    assert (await bus.redis.info("keyspace")).keys() == {f"db{number}"}


# Packets


async def test_replies_come_in_the_order_of_the_commands(bus: Bus) -> None:
    replies = await bus.packet(
        ("SET", "a", b"\x00\xff"), ("GET", "a"), ("GET", "none"), ("INCRBY", "n", 5), ("LLEN", "l")
    )
    assert replies == [b"OK", b"\x00\xff", None, 5, 0]


async def test_an_error_among_the_replies_is_raised_and_the_connection_stays_in_step(bus: Bus) -> None:
    for number in range(20):
        with pytest.raises(redis_errors.ResponseError, match="WRONGTYPE"):
            await bus.packet(("SET", "a", number), ("LPUSH", "a", 1), ("GET", "a"))
        assert await bus.packet(("GET", "a")) == [str(number).encode()]


async def test_a_connection_that_died_while_it_was_idle_is_replaced(bus: Bus) -> None:
    for _ in range(3):
        assert await bus.packet(("PING",)) == [b"PONG"]
        await bus.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await bus.get("none") is None


async def test_a_server_that_says_nothing_is_unavailable_in_the_end(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.connection._TIMEOUT_S", 0.3)
    async with proxied(redis_url) as proxy, Bus.open(proxy.url) as bus:
        await bus.packet(("PING",))
        proxy.hold()
        with pytest.raises(Unavailable):
            await bus.packet(("PING",))
        proxy.go_on()
        assert await bus.packet(("ECHO", "back")) == [b"back"]


async def test_a_new_life_of_the_server_is_used_without_further_ado(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with embedded.servers(settings, postgres=False) as servers:
        async with Bus.open(servers.redis_url) as bus:
            await bus.packet(("SET", "a", 1))
            await asyncio.to_thread(restart, settings)
            assert await bus.packet(("GET", "a")) == [b"1"]


def restart(settings: Settings) -> None:
    folder = settings.home / "redis"
    embedded_redis.stop(folder)
    _, wait = embedded_redis.start(folder)
    wait()


WORDS = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=5),
    st.integers(),
    st.floats(allow_nan=False),
    st.integers(1_990, 2_010).map(bytes),
    st.integers(1_990, 2_010).map("é".__mul__),
)


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_large_and_small_words_go_over_the_wire_as_hiredis_would_send_them(words: list[Any]) -> None:
    assert b"".join(_packed(words)) == hiredis.pack_command(tuple(words))


async def test_large_and_small_words_arrive(bus: Bus) -> None:
    fields: dict[str, Any] = {"a": b"\r\n" * 50_000, "b": 1, "c": "₹", "d": b"", "e": b"$5\r\n" * 1_000}
    await bus.packet(("XADD", "s", "1-1", *(word for pair in fields.items() for word in pair)))
    ((_, stored),) = await bus.redis.xrange("s")
    assert stored == {b"a": fields["a"], b"b": b"1", b"c": "₹".encode(), b"d": b"", b"e": fields["e"]}


# Translation


@pytest.mark.parametrize(
    "error",
    [
        redis_errors.ConnectionError("gone"),
        redis_errors.TimeoutError("slow"),
        redis_errors.BusyLoadingError("Redis is loading the dataset in memory"),
        redis_errors.ReadOnlyError("You can't write against a read only replica."),
        redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis_errors.ClusterDownError("The cluster is down"),
        redis_errors.MasterDownError("Link with MASTER is down"),
        redis_errors.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist"),
        redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis_errors.ResponseError("UNBLOCKED the stream key no longer exists"),
        redis_errors.ResponseError(
            "Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not"
        ),
        redis_errors.ResponseError("NOGROUP No such key 'ticks:{0}' or consumer group 'toy'"),
        OSError(104, "Connection reset by peer"),
    ],
)
def test_what_passes_by_itself_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable), translated():
        raise error


@pytest.mark.parametrize(
    "text", ["WRONGTYPE Operation against a key", "ERR BUSYGROUP-like text", "ERR unknown command"]
)
def test_a_bug_stays_a_bug(text: str) -> None:
    with pytest.raises(redis_errors.ResponseError), translated():
        raise redis_errors.ResponseError(text)


def test_a_fence_is_a_lost_lease() -> None:
    with pytest.raises(LeaseLost, match="does not own"), translated():
        raise redis_errors.ResponseError("FENCED this process does not own the shard (any more)")


async def test_the_newest_entry_and_the_servers_time(bus: Bus) -> None:
    assert await bus.last_entry("events") is None
    await bus.redis.xadd("events", {"n": 1})
    newest = await bus.redis.xadd("events", {"n": 2})
    assert await bus.last_entry("events") == (newest.decode(), {b"n": b"2"})
    assert abs(await bus.now_ms() - int(newest.split(b"-")[0])) < 5_000


async def test_each_bus_has_a_name_of_its_own(redis_url: str) -> None:
    async with Bus.open(redis_url) as one, Bus.open(redis_url) as other, Bus.open(redis_url, "given") as given:
        assert one.instance != other.instance
        assert given.instance == "given"
