"""What Python executes of the files behind a module or a notebook, and a hash of it.

Comments, docstrings and blank lines are left out, so that they may change without a stage or a
kept result counting as made by other code.
"""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "metastyle"
ROOT = Path(__file__).resolve().parents[2]


@cache
def executed(source: str) -> str:
    """Source code without comments, docstrings, blank lines and trailing blanks.

    The text is cut, not parsed and printed again, so that all versions of Python agree on it.
    """
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    docstrings = list(_docstrings(tree))
    verbatim = {  # rows of other strings, which keep their blanks
        row
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if node not in docstrings
        for row in range(node.lineno, node.end_lineno)
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column] + "\n"
    for node in docstrings:
        for row in range(node.lineno, node.end_lineno + 1):
            lines[row - 1] = "\n"
    numbered = enumerate(lines, start=1)
    return "".join(
        line if row in verbatim else line.rstrip() + "\n"
        for row, line in numbered
        if row in verbatim or line.strip()
    )


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0].value


def cells(notebook: Path) -> tuple[str, str]:
    """A notebook's code and its prose, without outputs and an editor's metadata."""
    found = json.loads(notebook.read_text())["cells"]
    sources = {"code": "", "markdown": ""}
    for cell in found:
        if cell["cell_type"] in sources:
            sources[cell["cell_type"]] += "".join(cell["source"]) + "\n"
    return sources["code"], sources["markdown"]


def closure(
    modules: Iterable[str], by_name: Collection[str] | None = None, root: Path = ROOT
) -> list[Path]:
    """Files of the package that these modules are, and that they import, directly or not.

    Args:
        modules: names such as `metastyle.core.losses`; others are passed over.
        by_name: modules that a registry is asked for; None: all beside it.
    """
    found: set[Path] = set()
    todo = set(modules)
    while todo:
        name = todo.pop()
        file = _file(name, root)
        if file is None or file in found:
            continue
        found.add(file)
        todo |= imports(file.read_text())
        todo.add(name.rpartition(".")[0])  # importing a module runs its package's file
        if imports_by_name(file.read_text()):
            every = [path.stem for path in file.parent.glob("[a-z]*.py")]
            package = ".".join(file.parent.relative_to(root).parts)
            todo |= {f"{package}.{other}" for other in (every if by_name is None else by_name)}
    return sorted(found)


@cache
def imports(source: str) -> frozenset[str]:
    """Names of the package's modules that source code imports; some may be no modules."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.partition(".")[0] == PACKAGE)


@cache
def imports_by_name(source: str) -> bool:
    """Whether source code is a registry: it calls import_module for a module beside it."""
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module"
        for node in ast.walk(ast.parse(source))
    )


def _file(module: str, root: Path) -> Path | None:
    # The package's own file only looks names up, when asked for them.
    if module.partition(".")[0] != PACKAGE or module == PACKAGE:
        return None
    path = root.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def digest(*modules: str) -> str:
    """A hash of what is executed of modules and of all that they import.

    Raises:
        ValueError: there is no such module.
    """
    if unknown := [name for name in modules if _file(name, ROOT) is None]:
        raise ValueError(f"no modules of the package: {', '.join(unknown)}")
    parts = [executed(file.read_text()) for file in closure(modules)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
