"""Where a notebook finds its inputs and puts its outputs."""

from pathlib import Path

from metastyle.errors import InputError
from metastyle.params import Section, read


class Paths(Section):
    """Section `paths`: folders relative to the project root."""

    inputs: Path  # results of earlier stages
    outputs: Path  # this stage's results; another folder keeps a trial run off the pipeline's


def root(params: str | Path) -> Path:
    """The project's folder: the nearest one above the parameter file that holds dvc.yaml.

    Raises:
        InputError: there is none.
    """
    for folder in Path(params).resolve().parents:
        if (folder / "dvc.yaml").is_file():
            return folder
    raise InputError(f"{params}: not inside the project (no dvc.yaml above it)")


def paths(params: str | Path) -> tuple[Path, Path, Path]:
    """The project's root and its folders of inputs and outputs."""
    top = root(params)
    section = read(params, "paths", Paths)
    return top, top / section.inputs, top / section.outputs
