"""What was found: a line each, and for what is wrong the way out. Pure."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from rich.text import Text


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    level: Level
    detail: str
    fix: str = ""  # one sentence, where something is wrong


def ok(name: str, detail: str) -> Finding:
    return Finding(name, Level.OK, detail)


def warn(name: str, detail: str, fix: str) -> Finding:
    return Finding(name, Level.WARN, detail, fix)


def fail(name: str, detail: str, fix: str) -> Finding:
    return Finding(name, Level.FAIL, detail, fix)


_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level is Level.FAIL for finding in findings)


def in_words(findings: list[Finding]) -> Text:
    width = max(len(finding.name) for finding in findings)
    text = Text()
    for finding in findings:
        text.append(f"{finding.level.value:<5}", style=_COLOURS[finding.level])
        text.append(f" {finding.name:<{width}}  {finding.detail}\n")
        if finding.fix:
            text.append(f"{'':<{width + 8}}{finding.fix}\n", style="italic")
    return text


def in_json(findings: list[Finding], processes: Sequence[Any] = ()) -> str:
    """`processes` are dataclasses too."""
    body: dict[str, Any] = {
        "ok": not failed(findings),
        "checks": [asdict(finding) for finding in findings],
        "processes": [asdict(process) for process in processes],
    }
    return json.dumps(body, indent=2, ensure_ascii=False)
