"""Which of the library's files a notebook imports, directly or through others."""

import ast
import json
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def closure(notebook: Path, methods: Iterable[str] = ()) -> set[str]:
    """Paths relative to the project root; `methods` are those that the notebook loads by name."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    found: set[str] = set()
    todo = _imports(code) | {f"metastyle.methods.{name}" for name in methods}
    while todo:
        file = _file(todo.pop())
        if file and (name := file.relative_to(ROOT).as_posix()) not in found:
            found.add(name)
            todo |= _imports(file.read_text())
    return found


def _imports(code: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "metastyle"}


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
