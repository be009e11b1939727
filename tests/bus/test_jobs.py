"""Jobs side by side: who ends whom."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bus.life import together, until_done
from bus.wait import pause

Job = Coroutine[Any, Any, None]


def endless(heard: list[str], name: str = "endless") -> Job:
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append(name)

    return job()


async def brief() -> None:
    await asyncio.sleep(0)


async def failing() -> None:
    await asyncio.sleep(0)
    raise LookupError("the first")


async def test_the_first_error_ends_the_others_and_is_raised_as_itself() -> None:
    heard: list[str] = []
    with pytest.raises(LookupError, match="the first"):
        await together(endless(heard), failing(), brief())
    assert heard == ["endless"]


async def test_together_lasts_until_all_have_ended() -> None:
    ended: list[int] = []

    async def job(steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        ended.append(steps)

    await together(job(3), job(1), job(2))
    assert ended == [1, 2, 3]


async def test_what_runs_beside_a_job_ends_with_it() -> None:
    heard: list[str] = []
    await until_done(brief(), endless(heard, "one"), endless(heard, "other"))
    assert sorted(heard) == ["one", "other"]


@pytest.mark.parametrize("run", [together, until_done])
async def test_an_error_beside_a_job_ends_the_job(run: Callable[..., Job]) -> None:
    heard: list[str] = []
    with pytest.raises(LookupError):
        await run(endless(heard), failing())
    assert heard == ["endless"]


@pytest.mark.parametrize("run", [together, until_done])
async def test_a_cancellation_reaches_every_job(run: Callable[..., Job]) -> None:
    heard: list[str] = []
    task = asyncio.create_task(run(endless(heard, "a"), endless(heard, "b")))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(heard) == ["a", "b"]


async def test_a_pause_says_whether_it_was_cut_short() -> None:
    stop = asyncio.Event()
    assert not await pause(stop, 0.001)
    waiting = asyncio.create_task(pause(stop, 60))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting
    assert await pause(stop, 60)


async def test_a_pause_hears_a_cancellation_that_comes_together_with_the_stop() -> None:
    for order in range(2):
        stop = asyncio.Event()
        waiting = asyncio.create_task(pause(stop, 60))
        await asyncio.sleep(0)
        for step in (stop.set, waiting.cancel)[:: -1 if order else 1]:
            step()
        with pytest.raises(asyncio.CancelledError):
            await waiting
