import json
from pathlib import Path

import pytest
import redis

from bus.connection import Bus
from teji import halt


@pytest.fixture(autouse=True)
def _ours(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)


async def test_a_halt_says_who_and_why_and_ends_with_resume(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await halt.switch(bus, by="me", why="lunch")
        told = json.loads(await bus.redis.get("halt"))
        assert (told["by"], told["why"]) == ("me", "lunch")

        assert await halt.switch(bus, by="me", why=None)
        assert await bus.redis.get("halt") is None

        events = [json.loads(fields[b"data"]) for _, fields in await bus.redis.xrange("events")]
        assert [event["kind"] for event in events] == ["halt", "resume"]
        assert events[0]["message"] == "halted by me: lunch"


async def test_resuming_without_a_halt_changes_and_tells_nothing(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        assert not await halt.switch(bus, by="me", why=None)
        assert await bus.redis.xlen("events") == 0


def test_the_commands_say_what_they_did(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    halt.halt("fat finger")
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists("halt")
    halt.resume()
    halt.resume()
    assert capsys.readouterr().out.splitlines() == [
        "Halted: fat finger. `teji resume` ends it.",
        "Resumed.",
        "There was no halt.",
    ]


def test_a_halt_may_clear_away_what_there_is(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    halt.halt("the end", flatten=True)
    with redis.Redis.from_url(redis_url) as client:
        asked = [fields[b"kind"] for _, fields in client.xrange("commands")]
    assert asked == [b"order.cancel_all", b"position.exit"]
    assert "close all positions" in capsys.readouterr().out
