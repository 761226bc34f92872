"""The rooms of the library: arrows go down, files stay small, commands import little."""

import ast
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from metastyle.core import code

LIBRARY = sorted((ROOT / "metastyle").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# From the ground up; rooms on one floor do not know each other.
FLOORS = [
    {"files"}, {"config"}, {"core"}, {"evaluation"}, {"meta", "adaptation"}, {"baselines"},
    {"studies"}, {"pipeline", "cli"},
]  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ALLOWED = {"torch", "numpy", "PIL", "safetensors", "pydantic", "metastyle"}


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("file", LIBRARY, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_arrows_go_down(file):
    if file.parent == ROOT / "metastyle" and file.stem == "__init__":
        return
    here = file.relative_to(ROOT).with_suffix("").parts[1]
    for module in code.imports(file.read_text()) - {"metastyle"}:
        there = room(module)
        if there == here:
            continue
        if there == "plots":
            assert here == "studies", module
        elif here == "plots":
            assert FLOOR[there] < FLOOR["studies"], module
        else:
            assert FLOOR[there] < FLOOR[here] and there != "studies", module


def test_only_a_few_modules_lie_beside_the_rooms():
    assert len(list((ROOT / "metastyle").glob("*.py"))) <= 6


@pytest.mark.parametrize("file", LIBRARY, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_files_are_small(file):
    assert len(file.read_text().splitlines()) <= 300


def test_another_rooms_private_modules_are_left_alone():
    for file in LIBRARY:
        for module in code.imports(file.read_text()):
            parts = module.split(".")
            if any(part.startswith("_") for part in parts[1:]):
                assert file.parent.name == parts[1], (file.name, module)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_studies_and_defines_nothing(path):
    cells, _ = code.cells(path)
    tree = ast.parse(cells)
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.JoinedStr, ast.For, ast.While, ast.With)
    assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]
    assert {room(module) for module in code.imports(cells) - {"metastyle"}} == {"studies"}
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) <= 2
    assert "project = begin(params)" in cells


def test_a_run_draws_nothing():
    for path in NOTEBOOKS:
        if re.match(r"\d+[a-z]_", path.stem):
            files = code.closure(code.imports(code.cells(path)[0]), by_name=())
            assert not [f for f in files if f.parent.name == "plots"], path.stem


def test_parameters_and_pipeline_are_short():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    assert len(lines) <= 250
    text = "\n".join(lines)
    comments = sum(len(found) for found in re.findall(r"#.*", text))
    assert comments <= len(text) / 3
    pipeline = (ROOT / "dvc.yaml").read_text().splitlines()
    assert len(pipeline) <= 550
    stages = yaml.safe_load("\n".join(pipeline))["stages"]
    for name, stage in stages.items():
        body = stage.get("do", stage)
        assert body.get("outs") or body.get("metrics"), name


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a statement imports and torch alone does not."""
    script = "import sys; before = set(sys.modules); {}; print(*sorted({{n.split('.')[0] for n in"
    script += " set(sys.modules) - before}}))"
    found = []
    for text in (statement, "import torch"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(text)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(set(done.stdout.split()))
    return found[0] - found[1]


def test_help_imports_no_torch_and_stylise_only_what_it_needs():
    standard = sys.stdlib_module_names
    shown = loaded_by("from metastyle import cli; cli.parser()")
    assert not shown & {"torch", "numpy", "pandas"}
    used = loaded_by(
        "from metastyle import cli; cli.parser(); import metastyle.core.allocator, "
        "metastyle.core.images, metastyle.core.checkpoint, metastyle.core.network"
    )
    others = {n for n in used if n not in standard and not n.startswith("_")}
    helpers = {"pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert others <= ALLOWED | helpers
