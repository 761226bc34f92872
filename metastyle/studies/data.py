"""Chapter 1: photos, artworks, and who may see what."""

import hashlib
from typing import NamedTuple

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from torch import Tensor

from metastyle import plots
from metastyle.config import Project
from metastyle.core import crops, duplicates, images, splits
from metastyle.core.crops import Augmentation

UNNAMED = "not named"


class Run(NamedTuple):
    """The table of `splits.make` with columns `author` (as the sources spell the name, or UNNAMED)
    and `package`; the sets read back from where it was written; `near`, see `_crossing`."""

    project: Project
    table: pd.DataFrame
    sets: splits.Sets
    near: pd.DataFrame


def run(project: Project) -> Run:
    """Split all images; write the table to results."""
    table, file = splits.make(project), project.outputs / "splits.csv"
    splits.write(table, file)
    data = splits.Data.read(project, "data")
    sources = pd.read_csv(project.root / data.sources, dtype=str, keep_default_na=False)
    folder = {"photo": data.photos.name, "artwork": data.artworks.name}
    known = [f"{folder[row.side]}/{row.file}" for row in table.itertuples()]
    row = sources.set_index("file").reindex(known, fill_value="")
    table["author"] = row["author"].tolist()
    table.loc[table["artist"] == table["file"], "author"] = UNNAMED
    table["package"] = [name or "your own" for name in row.get("package", row["author"])]
    sets = splits.read(project, file)
    return Run(project, table, sets, _crossing(sets))


def _crossing(sets: splits.Sets) -> pd.DataFrame:
    """The pairs of images of one side in different sets, the nearest of a side first: columns of
    `duplicates.nearest`, `side` (`photos`, `artworks`) and `sets`."""
    tables = []
    for name, side in sets._asdict().items():
        of = {file: split for split, files in side._asdict().items() for file in files}
        pairs = duplicates.nearest(list(of), len(of) ** 2)
        one, other = pairs["one"].map(of), pairs["other"].map(of)
        pairs["sets"] = (one + ", " + other).str.replace("_", " ")
        tables.append(pairs[one != other].assign(side=name))
    return pd.concat(tables, ignore_index=True)


def counts(run: Run) -> None:
    """Print how many images each set holds."""
    print(run.table.groupby(["side", "split"]).size().to_string())


def artists(run: Run) -> Markdown:
    """Who made the artworks of each set, with their works; those with the most come first."""
    artworks = run.table[run.table["side"] == "artwork"]
    parts = []
    for split, rows in artworks.groupby("split"):
        # Of a name's spellings the first; UNNAMED are artists of their own.
        by = rows["artist"].where(rows["author"] != UNNAMED, UNNAMED)
        works = rows.groupby(by)["author"].agg(["first", "size"]).sort_values(["size", "first"])
        works = works.sort_values("size", ascending=False, kind="stable")
        names = [f"{name} {n}" if n > 1 else name for name, n in works.itertuples(index=False)]
        title = f"**{split.replace('_', ' ')}**, {len(rows)} artworks"
        parts.append(f"{title}: {', '.join(names)}.")
    return Markdown("\n\n".join(parts))


def sources(run: Run, side: str) -> pd.DataFrame:
    """How many images of each set of a side (`photo`, `artwork`) are from which package."""
    table = run.table[run.table["side"] == side]
    return table.groupby(["package", "split"]).size().unstack("split", fill_value=0)


def nearest(run: Run, each: int = 3) -> Figure:
    """The pairs of each side in different sets that resemble each other most, with the share of
    differing bits of their perceptual hashes; below `duplicates.NEAR` they count as one."""
    rows, labels = [], []
    for pair in run.near.groupby("side").head(each).itertuples():
        rows.append([images.load_square(file, 150) for file in (pair.one, pair.other)])
        labels.append(f"{pair.distance:.2f}\n{pair.sets}")
    return plots.grid(rows, labels=labels, cell=1.5)


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
    near = run.near["distance"] < duplicates.NEAR
    print("near-duplicates in different sets:", near.sum())
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


def brightness(image: Tensor) -> float:
    """Median over the pixels of the luma, of RGB in [0, 1], (1, 3, H, W)."""
    return float((0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]).median())


def colourfulness(image: Tensor) -> float:
    """Mean over the pixels of the largest less the smallest channel, (1, 3, H, W)."""
    return float((image.amax(1) - image.amin(1)).mean())


MEASURES = {"brightness": brightness, "colourfulness": colourfulness}


def levels(run: Run, each: int = 40, size: int = 64) -> pd.DataFrame:
    """`MEASURES` of training artworks, the first of two groups, before and after augmentation.

    Returns:
        A row per artwork and stage: columns source (the package with the most of them, or
        `others`), stage (`as it is`, the central square; `drawn`, one random crop), the measures.
    """
    varied = Augmentation.read(run.project, "meta_train.artworks")
    folder = run.project.root / splits.Data.read(run.project, "data").artworks
    artworks = run.table[(run.table["side"] == "artwork") & (run.table["split"] == "train")]
    largest = artworks["package"].mode()[0]
    source = artworks["package"].where(artworks["package"] == largest, "others")
    artworks = artworks.assign(source=source).groupby("source").head(each)
    rows = []
    for k, row in enumerate(artworks.itertuples()):
        file = folder / row.file
        (drawn,) = crops.crops([file], size, varied, seed=k).split(1)
        for stage, image in (("as it is", images.load_square(file, size)), ("drawn", drawn)):
            found = {name: measure(image) for name, measure in MEASURES.items()}
            rows.append({"source": row.source, "stage": stage, **found})
    return pd.DataFrame(rows)


def histograms(levels: pd.DataFrame) -> Figure:
    """Brightness and colourfulness by source, before and after augmentation."""
    tables = {f"{source}, {stage}": t for (source, stage), t in levels.groupby(["source", "stage"])}
    return plots.histograms(tables, [*MEASURES])


def medians(levels: pd.DataFrame) -> pd.DataFrame:
    """Medians of the measures by source, before and after augmentation."""
    return levels.groupby(["source", "stage"])[[*MEASURES]].median()


def augmentation(run: Run, each: int = 2, draws: int = 4, size: int = 187) -> Figure:
    """A few paintings and photos of the trainings, each beside what meta-training draws."""
    rows, labels = [], []
    for files, section in (
        (run.sets.artworks.train, "artworks"),
        (run.sets.photos.inner, "photos"),
    ):
        varied = Augmentation.read(run.project, f"meta_train.{section}")
        for file in files[:: max(1, len(files) // each)][:each]:
            drawn = [crops.crops([file], size, varied, seed) for seed in range(draws)]
            rows.append([images.load_square(file, size), *drawn])
            labels.append(section)
    return plots.grid(
        rows, columns=["original", *(f"draw {k + 1}" for k in range(draws))], labels=labels
    )
