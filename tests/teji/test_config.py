import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.settings import Settings, load
from teji import config
from tests.teji.commands import teji


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `.env`, an environment without our names."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
        monkeypatch.delenv(name)


def row(name: str) -> config.Row:
    return next(row for row in config.rows(load()) if row.name == name)


def test_a_value_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TEJI_SHARDS=2\nTEJI_PORT=9000\nTEJI_GRACE_MS=\n")
    monkeypatch.setenv("TEJI_PORT", "9001")

    assert (row("TEJI_PORT").value, row("TEJI_PORT").source) == ("9001", config.Source.ENVIRONMENT)
    assert (row("TEJI_SHARDS").value, row("TEJI_SHARDS").source) == ("2", config.Source.FILE)
    assert (row("TEJI_GRACE_MS").value, row("TEJI_GRACE_MS").source) == ("2000", config.Source.DEFAULT)


def test_every_setting_has_a_row_and_an_explanation() -> None:
    rows = config.rows(load())
    assert [row.name.lower() for row in rows] == list(Settings.model_fields)
    assert all(row.about for row in rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UPSTOX_API_SECRET", "hunter2"),
        ("UPSTOX_ACCESS_TOKEN", "hunter2"),
        ("POSTGRES_PASSWORD", "hunter2"),
        ("DATABASE_URL", "postgresql://me:hunter2@host/db?password=hunter2"),
        ("REDIS_URL", "redis://me:hunter2@host:6379/0"),
        ("REDIS_URL", "redis://:hunter2@host:6379/0"),
        ("REDIS_URL", "redis://:hunter2/@host:6379/0"),
        ("REDIS_URL", "rediss://:hunter2@x@host"),
    ],
)
def test_no_form_shows_a_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    config.main(as_json=False, markdown=False)
    config.main(as_json=True, markdown=False)
    config.main(as_json=False, markdown=True)

    shown = capsys.readouterr().out
    assert name in shown
    assert "hunter2" not in shown


def test_json_is_one_list_of_objects(tmp_path: Path) -> None:
    rows = json.loads(teji(tmp_path, "config", "--json", TEJI_PORT="9").stdout)
    assert {"name": "TEJI_PORT", "value": "9", "source": "environment", "about": "Port of the gateway"} in rows


def test_the_markdown_table_names_every_setting_under_a_heading() -> None:
    table = config.table()
    assert all(f"| `{name.upper()}` |" in table for name in Settings.model_fields)
    assert all(f"**{part}**" in table for part in config.PARTS.values())


VALUES = {
    "teji_port": st.integers(0, 65535),
    "teji_backfill": st.booleans(),
    "teji_instruments": st.lists(st.sampled_from(["NIFTY", "NSE_INDEX|Nifty 50", "demo"]), min_size=1).map(tuple),
    "teji_feed_stale_s": st.floats(0.1, 1e6),
    "teji_feed_mode": st.sampled_from(["ltpc", "full"]),
    "database_url": st.text("abc:/@%", min_size=1),
    "upstox_api_key": st.text("abc-", min_size=1),
}


@given(given=st.fixed_dictionaries({}, optional=VALUES))
def test_a_child_gets_the_same_settings_from_its_environment(given: dict[str, object]) -> None:
    settings = load(_env_file=None, **given)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in config.environment(settings).items():
            patch.setenv(name, value)
        childs = load(_env_file=None)

    assert childs.home == settings.home
    assert childs.model_dump(exclude={"teji_home"}) == settings.model_dump(exclude={"teji_home"})


def test_a_child_gets_nothing_that_its_supervisor_has_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTOX_ACCESS_TOKEN", "a real one")
    monkeypatch.setenv("teji_shards", "3")
    settings = load(upstox_access_token="", teji_shards=2)

    variables = config.environment(settings)

    assert "UPSTOX_ACCESS_TOKEN" not in variables
    assert {name: variables[name] for name in variables if name.lower() == "teji_shards"} == {"TEJI_SHARDS": "2"}
