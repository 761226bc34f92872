"""The stage `code`: for every stage what Python executes in it, as a file that it depends on.

`python -m metastyle.pipeline.code` writes results/code/<stage>.txt, a line per module and one for
the notebook. A comment changes none of them, a changed line those of the stages that import it.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from metastyle.config import load
from metastyle.core import code
from metastyle.files import replacing

RUN = re.compile(r"python -m metastyle\.pipeline\.run (\S+)")


class Stage(NamedTuple):
    """A stage, or one of a loop: its name, its notebook, and what the loop is at ("")."""

    name: str
    notebook: str
    item: str


def stages(root: Path = code.ROOT) -> Iterator[Stage]:
    """The stages of dvc.yaml that run a notebook, loops unrolled."""
    values = load(root / "params.yaml")
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items():
        found = RUN.match(stage.get("do", stage)["cmd"])
        if not found:
            continue
        if "foreach" not in stage:
            yield Stage(name, found[1], "")
            continue
        items = values
        for key in stage["foreach"].removeprefix("${").removesuffix("}").split("."):
            items = items[key]
        yield from (Stage(f"{name}_{item}", found[1], item) for item in items)


def describe(stage: Stage, root: Path = code.ROOT) -> str:
    """A hash of each module behind a stage's notebook, and of the notebook's cells.

    Prose counts where a chapter shows it; a run (its number has a letter) is not for reading.
    """
    cells, prose = code.cells(root / "notebooks" / f"{stage.notebook}.ipynb")
    methods = [*load(root / "params.yaml")["methods"]]
    by_name = [stage.item] if stage.item in methods else methods
    lines = []
    for file in code.closure(code.imports(cells), by_name, root):
        executed = code.executed(file.read_text())
        lines.append(f"{_hash(executed)} {file.relative_to(root).as_posix()}")
    is_run = re.match(r"\d+[a-z]_", stage.notebook)
    read = code.executed(cells) + ("" if is_run else prose)
    return "\n".join([*lines, f"{_hash(read)} notebooks/{stage.notebook}.ipynb"]) + "\n"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main(root: Path = code.ROOT) -> None:
    folder = root / "results" / "code"
    shutil.rmtree(folder, ignore_errors=True)
    for stage in stages(root):
        with replacing(folder / f"{stage.name}.txt") as temporary:
            temporary.write_text(describe(stage, root))


if __name__ == "__main__":
    main()
