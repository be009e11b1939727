import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from bus.settings import Venue
from schemas.orders import TradingMode
from teji.cli import app, up
from teji.modules import WORKERS
from tests.teji.commands import ROOT, environment, teji

COMMANDS: dict[str, Any] = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - typer's groups are untyped


def test_help_lists_every_command(tmp_path: Path) -> None:
    shown = teji(tmp_path, "--help").stdout

    assert all(f"  {name} " in shown for name in COMMANDS)
    workers = {"up", "run", "sim", "halt", "resume", "login"}
    lookers = {"tail", "doctor", "config", "audit", "bench", "redis", "record", "replay", "report"}
    assert workers | lookers == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_help(name: str) -> None:
    assert COMMANDS[name].help
    assert [param.name for param in COMMANDS[name].params if not getattr(param, "help", "")] == []


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, teji.cli; print(*{'pydantic', 'redis', 'numpy', 'httpx', 'asyncio', 'rich'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == ""


def test_version_is_the_one_in_pyproject(tmp_path: Path) -> None:
    version = teji(tmp_path, "--version").stdout.split()[1]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_no_command_prints_help_and_is_wrong_usage(tmp_path: Path) -> None:
    answer = teji(tmp_path)
    assert answer.returncode == 2
    assert "Commands:" in answer.stdout + answer.stderr


@pytest.mark.parametrize("arguments", [["run", "nobody"], ["up", "--venue", "nyse"], ["sim", "--port", "x"], ["fly"]])
def test_wrong_usage_ends_with_2_and_a_reason(tmp_path: Path, arguments: list[str]) -> None:
    answer = teji(tmp_path, *arguments)
    assert answer.returncode == 2
    assert "Error" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_unknown_worker_is_answered_with_the_ones_there_are(tmp_path: Path) -> None:
    assert all(name in teji(tmp_path, "run", "nobody").stderr for name in WORKERS)


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["config"], {"TEJI_PORT": "eight"}, "TEJI_PORT"),
        (["sim", "--instruments", "1"], {}, "instruments"),
        (["tail", "nothing"], {}, "There is no stream"),
        (["up", "--venue", "upstox", "--mode", "live"], {}, "Live orders"),
        (["halt", "test"], {"REDIS_URL": "redis://127.0.0.1:1"}, "Redis does not answer"),
        (["halt", "test"], {"REDIS_URL": "nonsense"}, "REDIS_URL is not a Redis address"),
    ],
)
def test_a_failure_is_one_sentence_and_1(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    answer = teji(tmp_path, *arguments, **variables)
    assert answer.returncode == 1
    assert sentence in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_the_choices_are_those_of_the_settings() -> None:
    hints = {name: repr(hint) for name, hint in up.__annotations__.items()}
    assert all(repr(venue.value) in hints["venue"] for venue in Venue)
    assert all(repr(mode.value) in hints["mode"] for mode in TradingMode)


def test_every_worker_is_a_folder_that_runs() -> None:
    assert all((ROOT / name / "__main__.py").exists() for name in WORKERS)
