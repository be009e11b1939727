"""`teji bench`: runs the benches by name. A module of bench/ with a `main` is one."""

import ast
import importlib
from pathlib import Path

import bench as folder


class Unknown(Exception):
    """No bench of this name."""


def main(name: str | None, *, as_json: bool) -> None:
    found = benches()
    if name is None:
        print("\n".join(f"{one:<16} {about}" for one, about in found.items()))
        return
    if name != "all" and name not in found:
        raise Unknown(f"there is no bench {name!r}; there are {', '.join(found)}")
    for one in found if name == "all" else [name]:
        if name == "all" and not as_json:
            print(f"\n{one}: {found[one]}\n")
        importlib.import_module(f"bench.{one.replace('-', '_')}").main(["--json"] if as_json else [])


def benches() -> dict[str, str]:
    """Name and first line of what it says about itself, read without importing: some take seconds."""
    found = {}
    for path in sorted(Path(next(iter(folder.__path__))).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem.replace("_", "-")] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found
