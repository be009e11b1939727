import json

import pytest

from bus.settings import LogFormat
from teji.screen import Screen


def test_for_programs_every_line_is_json_and_names_its_worker(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(LogFormat.JSON, "INFO")
    screen.line("ingest", '{"event": "feed", "worker": "ingest"}')
    screen.line("ingest", "Traceback (most recent call last):")
    screen.say("stopping")
    screen.say("it died", warning=True)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["worker"] for line in lines] == ["ingest", "ingest", "up", "up"]
    assert [line.get("level") for line in lines] == [None, None, "info", "warning"]


def test_without_a_terminal_the_form_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert Screen(LogFormat.AUTO, "INFO").form is LogFormat.JSON
    assert capsys.readouterr().err == ""


def test_for_people_without_a_terminal_there_is_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(LogFormat.HUMAN, "INFO")
    screen.line("ingest", "\x1b[32mgreen\x1b[0m text")
    screen.say("stopping")

    assert capsys.readouterr().err.splitlines() == ["ingest     │ green text", "up         │ stopping"]


def test_markup_in_a_log_line_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(LogFormat.HUMAN, "INFO").line("sim", "[info] NSE_FO|1 [/]")
    assert "[info] NSE_FO|1 [/]" in capsys.readouterr().err


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(LogFormat.HUMAN, "INFO").line("sim", "word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_block_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(LogFormat.JSON, "INFO").block("Teji is up", [("Page", "http://127.0.0.1:8000/"), ("Stop", "Ctrl-C")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == ["  Teji is up", "    Page  http://127.0.0.1:8000/", "    Stop  Ctrl-C"]
