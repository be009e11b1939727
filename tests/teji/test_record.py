"""`teji record` on a running system, and what `teji replay` says to people."""

import asyncio
import json
from pathlib import Path

import pytest

import aggregator.worker
import ingest.worker
from bus import lease
from ingest.tape import keeper, reader
from teji import record, replay
from teji.replay import Options, WrongUsage, chosen
from tests.end_to_end.pipeline import Pipeline, pipeline
from tests.teji.commands import teji


async def run_market(line: Pipeline, seconds: int) -> None:
    for _ in range(seconds // 5):
        await line.market.advance(5_000)
        await asyncio.sleep(0.01)


async def test_a_running_system_is_recorded_as_long_as_somebody_asks(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        line.start("ingest", ingest.worker.run)
        line.start("aggregator", aggregator.worker.run)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 70)
        await lease.announce(line.bus, "ingest", {})
        stop = asyncio.Event()
        recording = asyncio.create_task(record.record(line.bus, None, stop))
        root = line.settings.home / "tape"
        await line.until(lambda: any(one.recording for one in reader.tapes(root)), "it records")
        await run_market(line, 130)
        stop.set()
        told, failure = await recording
        (about,) = told.values()
        assert failure == ""
        assert (about["recording"], about["always"]) == (False, False)
        assert about["frames"] > 200
        await line.until(lambda: reader.tapes(root)[0].whole, "it is closed")
        await run_market(line, 70)
        for name in list(line.tasks):
            await line.stop(name)
        (found,) = reader.tapes(root)
        assert str(found.folder) == about["tape"]
        # It began in the middle, and ended before the market did: what lies on it is the same all the same.
        result = await replay.replay(line.settings, Options(found.folder, None, verify=True))
        assert result.verdict is not None
        assert result.verdict.equal, [one.text() for one in result.verdict.differences]
        assert result.verdict.compared > 60


async def test_whoever_asked_and_died_does_not_leave_a_tape_running(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 5)
        (about,) = (await record.ask(line.bus, 0.5)).values()
        assert about["recording"]
        root = line.settings.home / "tape"
        await line.until(lambda: reader.tapes(root) and reader.tapes(root)[0].whole, "it has ended by itself")


async def test_without_an_ingest_there_is_nothing_to_record(redis_url: str, tmp_path: Path) -> None:
    done = await asyncio.to_thread(teji, tmp_path, "record", "--minutes", "1", REDIS_URL=redis_url)
    assert done.returncode == 1
    assert "start one with `teji up`" in done.stderr


def test_tapes_are_listed_for_people_and_programs(tmp_path: Path) -> None:
    done = teji(tmp_path, "replay", "--list")
    assert (done.returncode, "There are no tapes" in done.stdout) == (0, True)
    assert json.loads(teji(tmp_path, "replay", "--list", "--json").stdout) == []


def test_wrong_usage_is_told_as_such(tmp_path: Path) -> None:
    done = teji(tmp_path, "replay")
    assert done.returncode == 2
    assert "which tape?" in done.stderr


def test_a_tape_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = teji(tmp_path, "replay", "nowhere")
    assert done.returncode == 1
    assert "replay --list" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_speed_is_a_number_or_max() -> None:
    assert options("max").speed is None
    assert options("0.5").speed == 0.5
    for wrong in ("fast", "0", "-1", "nan", "inf", ""):
        with pytest.raises(WrongUsage, match=r"--speed is a number"):
            options(wrong)


def options(speed: str) -> Options:
    return chosen(Path("x"), speed, verify=False, as_json=False, redis_url="", skip_damaged=False)


def test_what_is_recorded_of_the_settings_has_no_secret() -> None:
    assert keeper.RECORDED
    assert not [name for name in keeper.RECORDED if any(word in name for word in ("key", "token", "secret", "url"))]
