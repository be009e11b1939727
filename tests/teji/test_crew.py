import asyncio
import sys
from pathlib import Path

import pytest

from bus.settings import LogFormat
from teji import crew as module
from teji.child import Program
from teji.crew import STOP_ORDER, Crew
from teji.screen import Screen

SAYS_BYE = """
import os, signal, sys, time
def bye(*_):
    os.write(1, b"bye\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, bye)
os.write(1, b"up\\n")
time.sleep(60)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"up\\n")
time.sleep(60)
"""


class Listening(Screen):
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(LogFormat.JSON, "INFO")
        self.lines: list[str] = []
        self.said: list[str] = []
        self.news = asyncio.Event()

    def line(self, worker: str, line: str) -> None:
        self.lines.append(f"{worker} {line}")
        self.news.set()

    def say(self, message: str, *, warning: bool = False) -> None:
        self.said.append(f"{message} {warning}")

    async def until_up(self, count: int) -> None:
        async with asyncio.timeout(30):
            while sum(line.endswith("up") for line in self.lines) < count:
                self.news.clear()
                await self.news.wait()


def program(name: str, code: str, folder: Path) -> Program:
    return Program(name, [sys.executable, "-c", code], {}, folder)


async def test_readers_end_before_writers(tmp_path: Path) -> None:
    screen = Listening()
    async with asyncio.TaskGroup() as group:
        crew = Crew(group, screen)
        for name in reversed(STOP_ORDER):
            crew.start(program(name, SAYS_BYE, tmp_path))
        await screen.until_up(len(STOP_ORDER))
        await crew.end()

    assert [line for line in screen.lines if "bye" in line] == [f"{name} bye" for name in STOP_ORDER]
    assert screen.said == []


async def test_who_does_not_end_by_the_deadline_is_killed_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 1.0)
    monkeypatch.setattr(module, "_TURN_S", 0.05)
    screen = Listening()
    async with asyncio.TaskGroup() as group:
        crew = Crew(group, screen)
        crew.start(program("gateway", DEAF, tmp_path))
        crew.start(program("sim", SAYS_BYE, tmp_path))
        await screen.until_up(2)
        await crew.end()

    assert [said.split(":")[0] for said in screen.said] == ["gateway does not stop"]


async def test_one_that_cannot_even_be_started_ends_everything(tmp_path: Path) -> None:
    async def start() -> None:
        async with asyncio.TaskGroup() as group:
            Crew(group, Listening()).start(Program("sim", [str(tmp_path / "nothing")], {}, tmp_path))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await start()
    assert isinstance(caught.value.exceptions[0], FileNotFoundError)
