"""`teji config`: every setting, its effective value, and where that comes from."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bus.log import masked
from bus.settings import Settings, load

#: The first setting of each part of the README's table, and the part's name.
PARTS: Final = {
    "teji_home": "Where things are",
    "teji_venue": "The venue",
    "teji_instruments": "What is streamed",
    "teji_capital": "Trading",
    "teji_shards": "How it runs",
}

_PASSWORD: Final = re.compile(r"(?<=://)[^/@]*:.*(?=@)")


class Source(StrEnum):
    ENVIRONMENT = "environment"
    FILE = ".env"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: str
    source: Source
    about: str


def main(*, as_json: bool, markdown: bool) -> None:
    if markdown:
        print(table())
        return
    found = rows(load())
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=2))
        return
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "from"):
        view.add_column(column, no_wrap=column != "value", overflow="fold")
    for row in found:
        view.add_row(Text(row.name), Text(row.value), row.source, style="" if row.source != Source.DEFAULT else "dim")
    Console(highlight=False).print(view)


def rows(settings: Settings) -> list[Row]:
    environment = EnvSettingsSource(Settings).env_vars
    file = DotEnvSettingsSource(Settings).env_vars
    return [
        Row(name.upper(), shown(name, getattr(settings, name)), _source(name, environment, file), _about(name))
        for name in Settings.model_fields
    ]


def _source(name: str, environment: Mapping[str, str | None], file: Mapping[str, str | None]) -> Source:
    """An empty variable counts as none, as it does when the settings are read."""
    if environment.get(name):
        return Source.ENVIRONMENT
    return Source.FILE if file.get(name) else Source.DEFAULT


def shown(name: str, value: object) -> str:
    """A value as a person may see it: a secret shows only whether there is one, an address loses its password."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    return _PASSWORD.sub("***", str(masked(None, "", {name: text(value)})[name]))


def text(value: object) -> str:
    """A value as the environment spells it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def environment(settings: Settings) -> dict[str, str]:
    """What a child process is given so that it has these settings and looks for no others."""
    rest = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    given = {name.upper(): text(getattr(settings, name)) for name in settings.model_fields_set}
    return rest | {name: value for name, value in given.items() if value} | {"TEJI_HOME": str(settings.home)}


def table() -> str:
    """The README's settings, as Markdown."""
    lines: list[str | None] = []
    for name, field in Settings.model_fields.items():
        if name in PARTS:
            lines += ["" if lines else None, f"**{PARTS[name]}**", "", "| Setting | Default | |", "| --- | --- | --- |"]
        default = _default(field.get_default())
        lines.append(f"| `{name.upper()}` | {default} | {_about(name)} |")
    return "\n".join(line for line in lines if line is not None)


def _default(value: Any) -> str:
    spelled = text(value) if not isinstance(value, Path) else value.as_posix() + "/"
    return f"`{spelled}`" if spelled else ""


def _about(name: str) -> str:
    return Settings.model_fields[name].description or ""
