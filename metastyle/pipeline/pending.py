"""Stages whose stored results wait for the next reference run: `pending` in params.yaml.

`python -m metastyle.pipeline.pending` freezes exactly these in dvc.yaml, and says so at the head
of their rendered notebooks. `metastyle params FILE` leaves no stage frozen.
"""

import re
from pathlib import Path

import nbformat

from metastyle.config import load
from metastyle.core.code import ROOT
from metastyle.files import replacing
from metastyle.pipeline.code import stages

NOTE = (
    "*These results are of the first reference run, whose loss rested on other VGG-16 weights than "
    "the paper's. They wait for the second run.*"
)
FROZEN = "frozen: true"


def pending(root: Path = ROOT) -> set[str]:
    """Names of stages, as dvc.yaml has them."""
    return set(load(root / "params.yaml").get("pending") or [])


def notebooks(root: Path = ROOT) -> set[str]:
    """The source notebooks of these stages, without their suffix."""
    names = pending(root)
    return {s.notebook for s in stages(root) if s.name.removesuffix(f"_{s.item}") in names}


def frozen(text: str, names: set[str]) -> str:
    """dvc.yaml with these stages frozen and no others."""
    lines, name = [], ""
    for line in text.splitlines():
        if found := re.match(r"  (\w+):$", line):
            name = found[1]
        if line.strip() == FROZEN:
            continue
        lines.append(line)
        if name in names and (found := re.match(r"( +)cmd: ", line)):
            lines.append(f"{found[1]}{FROZEN}")
    return "\n".join(lines) + "\n"


def marked(notebook: nbformat.NotebookNode, waits: bool) -> nbformat.NotebookNode:
    """With or without the note at its head; changes its argument."""
    notebook.cells = [cell for cell in notebook.cells if cell.source != NOTE]
    if waits:
        cell = nbformat.v4.new_markdown_cell(NOTE)
        notebook.cells.insert(0, nbformat.NotebookNode(cell | {"id": "pending"}))
    return notebook


def main(root: Path = ROOT) -> None:
    with replacing(root / "dvc.yaml") as temporary:
        temporary.write_text(frozen((root / "dvc.yaml").read_text(), pending(root)))
    waiting = notebooks(root)
    for path in (root / "rendered").rglob("[!.]*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        waits = any(path.stem == name or path.stem.startswith(f"{name}_") for name in waiting)
        with replacing(path) as temporary:
            nbformat.write(marked(notebook, waits), temporary)


if __name__ == "__main__":
    main()
