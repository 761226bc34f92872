"""Run every source notebook at its small size and keep the output of its check cells only.

    python tools/refresh_notebooks.py [NAME ...]

Cells tagged `check` hold the rounded numbers that `pytest --nbval` compares; everything else
is stored without output, so that a source notebook changes only when somebody edits it.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from metastyle.files import replacing
from metastyle.pipeline.run import bare

ROOT = Path(__file__).resolve().parents[1]


def source_form(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what a run adds, but for the outputs of check cells; changes its argument."""
    for cell in bare(notebook).cells:
        if cell.cell_type == "code":
            check = "check" in cell.metadata.get("tags", [])
            cell.execution_count = 1 if check else None  # nbval refuses outputs without a count
            if not check:
                cell.outputs = []
    return notebook


def refresh(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    with replacing(path) as temporary:
        nbformat.write(source_form(notebook), temporary)


if __name__ == "__main__":
    wanted = sys.argv[1:] or [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for name in wanted:
        print(name)
        refresh(ROOT / "notebooks" / f"{name}.ipynb")
