"""The supervisor's children together: started one by one, ended in an order."""

import asyncio
from typing import Final

from bus import clock
from teji.child import Child, Program
from teji.screen import Screen

STOP_S: Final = 10.0  # for all of them together
_TURN_S: Final = 3.0  # before the next one is asked as well

#: The way of the ticks: each leaves its readers time to take up what it wrote last. Ticks do not survive a restart of
#: Redis, and who watches sees the end.
STOP_ORDER: Final = ("ingest", "aggregator", "gtt", "gateway", "sim")


class Crew:
    def __init__(self, group: asyncio.TaskGroup, screen: Screen) -> None:
        self._group = group
        self._screen = screen
        self._tasks: dict[Child, asyncio.Task[None]] = {}

    def start(self, program: Program) -> Child:
        child = Child(program, self._screen.line, lambda death: self._screen.say(death, warning=True))
        self._tasks[child] = self._group.create_task(child.run())
        return child

    async def end(self) -> None:
        """Ask each to finish, in order; whoever has not by the deadline is killed."""
        until_s = clock.monotonic_s() + STOP_S
        for child in sorted(self._tasks, key=lambda one: STOP_ORDER.index(one.name)):
            child.terminate()
            await self._wait(child, timeout_s=min(_TURN_S, until_s - clock.monotonic_s()))
        await self._wait(*self._tasks, timeout_s=until_s - clock.monotonic_s())
        self.kill()
        await self._wait(*self._tasks, timeout_s=STOP_S)

    def kill(self) -> None:
        for child in self._tasks:
            if child.pid is not None:
                self._screen.say(f"{child.name} does not stop: killing process {child.pid}", warning=True)
                child.kill()

    async def _wait(self, *children: Child, timeout_s: float) -> None:
        tasks = [self._tasks[child] for child in children]
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)
