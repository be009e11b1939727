import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from schemas.errors import Misconfigured
from teji import tail
from tests.teji.commands import command, environment
from tests.teji.test_render import bar


@pytest.fixture
def client(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis"]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TEJI_SHARDS", "2")
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "streams"),
    [
        ("ticks", ["ticks:{0}", "ticks:{1}"]),
        ("candles:{1}", ["candles:{1}"]),
        ("events", ["events"]),
        ("dead:ticks:{0}", ["dead:ticks:{0}"]),
    ],
)
def test_a_name_stands_for_all_its_shards(name: str, streams: list[str]) -> None:
    assert tail.resolved(name, 2) == streams


def test_an_unknown_stream_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match="ticks, candles, intervals, chain, events"):
        tail.resolved("nothing", 1)


def test_the_last_lines_of_all_shards_come_in_the_order_of_time(
    client: "redis.Redis", capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        client.xadd(f"candles:{{{number % 2}}}", bar(rev=number), id=f"{1000 + number}-0")  # type: ignore[arg-type]
    tail.main("candles", count=4, follow=False, as_json=True)

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["data"]["rev"] for one in found] == [2, 3, 4, 5]


def test_without_lines_there_is_only_the_header(client: "redis.Redis", capsys: pytest.CaptureFixture[str]) -> None:
    client.xadd("candles:{0}", bar())  # type: ignore[arg-type]
    tail.main("candles", count=0, follow=False, as_json=False)
    assert capsys.readouterr().out.split()[0] == "minute"


def following(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("tail", *arguments),
        env=environment(tmp_path, REDIS_URL=os.environ["REDIS_URL"]),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_follows_what_is_written_and_ends_quietly_on_a_signal(
    client: "redis.Redis", tmp_path: Path, number: signal.Signals
) -> None:
    client.xadd("candles:{0}", bar(rev=1))  # type: ignore[arg-type]
    with following(tmp_path, "candles", "--json", "-n", "1") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["data"]["rev"] == 1
        client.xadd("candles:{0}", bar(rev=2))  # type: ignore[arg-type]
        assert json.loads(process.stdout.readline())["data"]["rev"] == 2
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_quietly_when_nobody_reads_any_more(client: "redis.Redis", tmp_path: Path) -> None:
    client.xadd("candles:{0}", bar(rev=1))  # type: ignore[arg-type]
    with following(tmp_path, "candles", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        client.xadd("candles:{0}", bar(rev=2))  # type: ignore[arg-type]
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
