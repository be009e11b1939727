"""What `teji up` shows: the workers' log lines, each with its worker's name in a colour of its own.

For a person the lines go through rich. For a program (`TEJI_LOG=json`, or no terminal) they pass as they are: each
already names its worker, and what the supervisor has to say is one more JSON line.
"""

import json
import sys
from collections.abc import Sequence
from typing import Final

import structlog
from rich.console import Console
from rich.text import Text

from bus import log
from bus.settings import LogFormat

NAME: Final = "up"
_COLOURS: Final = {"sim": "magenta", "ingest": "cyan", "aggregator": "green", "gateway": "blue", NAME: "bold"}
_WIDTH: Final = max(map(len, _COLOURS))


def _as_json(worker: str, line: str) -> str:
    """A traceback, or whatever else a library prints: every line of the output stays JSON."""
    return json.dumps({"event": line, "worker": worker}, ensure_ascii=False)


def _column(worker: str) -> Text:
    return Text().append(f"{worker:<{_WIDTH}} │ ", style=_COLOURS.get(worker))


class Screen:
    """Logs go to standard error, the one block that a person asked for to standard output."""

    def __init__(self, form: LogFormat, level: str) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        if form is LogFormat.AUTO:
            form = LogFormat.HUMAN if self._console.is_terminal else LogFormat.JSON
        self.form = form
        log.configure(NAME, form, level)

    def line(self, worker: str, line: str) -> None:
        """A line that a child wrote."""
        if self.form is LogFormat.JSON:
            print(line if line.startswith("{") else _as_json(worker, line), file=sys.stderr, flush=True)
            return
        self._console.print(_column(worker).append_text(Text.from_ansi(line)))

    def say(self, message: str, *, warning: bool = False) -> None:
        """Something the supervisor itself has to tell."""
        if self.form is LogFormat.JSON:
            structlog.get_logger().log(30 if warning else 20, message)
        else:
            self._console.print(_column(NAME).append(message, style="yellow" if warning else None))

    def block(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Title and rows between blank lines."""
        width = max(len(name) for name, _ in rows)
        console = Console(highlight=False, soft_wrap=True)
        console.print()
        console.print(Text(f"  {title}", style="bold"))
        console.print()
        for name, value in rows:
            console.print(Text("    ").append(f"{name:<{width}}  ", style="dim").append(value))
        console.print()
        sys.stdout.flush()
