"""Chapter 1: photos, artworks, and who may see what."""

import hashlib
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.config import Project
from metastyle.core import crops, images, splits
from metastyle.core.crops import Augmentation


class Run(NamedTuple):
    """The table of `splits.make`, and the sets read back from where it was written."""

    project: Project
    table: pd.DataFrame
    sets: splits.Sets


def run(project: Project) -> Run:
    """Split all images; write the table to results."""
    table, file = splits.make(project), project.outputs / "splits.csv"
    splits.write(table, file)
    return Run(project, table, splits.read(project, file))


def counts(run: Run) -> None:
    """Print how many images each set holds."""
    print(run.table.groupby(["side", "split"]).size().to_string())


def check(run: Run) -> None:
    """Print whether the sets are disjoint, by artist and by content."""
    files = [file for side in run.sets for split in side for file in split]
    contents = {hashlib.sha256(file.read_bytes()).digest() for file in files}
    artworks = run.table[run.table["side"] == "artwork"]
    crossing = artworks.groupby("artist")["split"].nunique() > 1
    historical = artworks.loc[artworks["split"] == "held_out", "historical"]
    print("artists:", artworks["artist"].nunique())
    print("artists in more than one set:", crossing.sum())
    print("copies of another image:", len(files) - len(contents))
    print("held out:", historical.sum(), "historical,", (~historical).sum(), "digital")


def artworks(run: Run) -> Figure:
    """Central squares of all artworks, set by set."""
    return _sheet(run.sets.artworks._asdict())


def photos(run: Run) -> Figure:
    """Central squares of the photos that no training sees, set by set."""
    found = run.sets.photos
    return _sheet({"held_out": found.held_out, "validation": found.validation})


def _sheet(groups: dict, across: int = 10, size: int = 110) -> Figure:
    rows, labels = [], []
    for name, files in groups.items():
        squares = [images.load_square(file, size) for file in files]
        rows += [squares[i : i + across] for i in range(0, len(files), across)]
        labels += [name.replace("_", " ")] + [""] * (len(rows) - len(labels) - 1)
    return plots.grid(rows, labels=labels, cell=1.0)


def augmentation(run: Run, each: int = 2, draws: int = 4, size: int = 187) -> Figure:
    """The first paintings and photos of the trainings, each beside what meta-training draws."""
    rows, labels = [], []
    for files, section in (
        (run.sets.artworks.train, "artworks"),
        (run.sets.photos.inner, "photos"),
    ):
        varied = Augmentation.read(run.project, f"meta_train.{section}")
        for file in files[:each]:
            drawn = [crops.crops([file], size, varied, seed) for seed in range(draws)]
            rows.append([images.load_square(file, size), *drawn])
            labels.append(section)
    return plots.grid(
        rows, columns=["original", *(f"draw {k + 1}" for k in range(draws))], labels=labels
    )
