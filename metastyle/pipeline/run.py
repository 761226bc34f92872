"""Run one notebook of the pipeline: `python -m metastyle.pipeline.run 01_data [-p KEY VALUE]`.

Papermill executes notebooks/01_data.ipynb with the project's params.yaml and the clean copy
goes to rendered/, without times and paths, so that it can be kept under git.
"""

import argparse
import os
import re
import sys
from pathlib import Path

import nbformat
import papermill

from metastyle.files import replacing

ROOT = Path(__file__).resolve().parents[2]


def bare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop all metadata but the kernel's name and the cells' tags; changes its argument."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.NotebookNode(kernelspec=kernel)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode(tags=tags) if tags else nbformat.NotebookNode()
    return notebook


def clean(notebook: nbformat.NotebookNode, root: Path) -> nbformat.NotebookNode:
    """Drop papermill's and Jupyter's traces: times, progress, and this machine's paths."""
    for cell in bare(notebook).cells:
        if cell.cell_type == "code":
            cell.outputs = _without_progress(cell.outputs)
            cell.outputs = [_without_paths(output, root) for output in cell.outputs]
    return notebook


def _without_paths(value, root: Path):
    """Replace the project's and the user's folder in every text of an output, images excepted."""
    if isinstance(value, dict):
        kept = {
            k: v if k.startswith("image/") else _without_paths(v, root) for k, v in value.items()
        }
        return nbformat.NotebookNode(kept)
    if isinstance(value, list):
        return [_without_paths(v, root) for v in value]
    if isinstance(value, str):
        value = value.replace(str(root), ".")
        return value.replace(f"{Path.home()}/", "~/") if Path.home() != Path("/") else value
    return value


def _without_progress(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Keep the last state of progress bars, which rewrite their line on standard error."""
    errors = "".join(o.text for o in outputs if o.get("name") == "stderr")
    lines = [line for line in re.split(r"[\r\n]+", errors) if line.strip()]
    bars = [line for line in lines if "%|" in line]
    text = "\n".join([line for line in lines if line not in bars] + bars[-1:])
    kept = [o for o in outputs if o.get("name") != "stderr"]
    return [nbformat.v4.new_output("stream", name="stderr", text=text), *kept] if text else kept


def place(notebook: str, values: dict[str, str]) -> Path:
    """Where the executed notebook goes, below rendered/: chapters, whose names begin with a plain
    number, lie open; runs, whose number has a letter, lie in runs/, one for each value."""
    name = "_".join([notebook, *values.values()])
    folder = "runs" if re.match(r"\d+[a-z]_", notebook) else "."
    return Path(folder) / f"{name}.ipynb"


def run(notebook: str, values: dict[str, str]) -> None:
    """Execute notebooks/<notebook>.ipynb; write what `place` says below rendered/ when it succeeds.

    Raises:
        papermill.PapermillExecutionError: a cell failed.
    """
    with replacing(ROOT / "rendered" / place(notebook, values)) as temporary:
        papermill.execute_notebook(
            ROOT / "notebooks" / f"{notebook}.ipynb",
            temporary,
            parameters={"params": "../params.yaml", **values},
            kernel_name="python3",
            cwd=ROOT / "notebooks",
            progress_bar=False,
            log_output=True,
            stderr_file=sys.stderr,
        )
        nbformat.write(clean(nbformat.read(temporary, as_version=4), ROOT), temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one notebook of the pipeline.")
    parser.add_argument("notebook", help="its name below notebooks/, without .ipynb")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    a = parser.parse_args()
    # The kernel works in notebooks/ and must import the library beside it, not an installed one.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.getenv("PYTHONPATH")]))
    try:
        run(a.notebook, dict(a.p))
    except papermill.PapermillExecutionError as error:
        sys.exit(f"notebooks/{a.notebook}.ipynb: {error.ename}: {error.evalue}")


if __name__ == "__main__":
    main()
