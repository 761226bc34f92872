"""Which image may be used for what: the split rule and its table.

Artworks are split by artist, so that a held-out painting never has a sibling in training:

1. Artists' names are normalised (case, accents, parentheses and "the Elder" dropped).
2. Artists are put in an order drawn from the seed: by the hash of seed and name.
3. An artist with more than `works_per_artist` artworks goes to training.
4. The held-out set takes whole artists in that order, first historical ones (paintings and
   prints) up to `held_out_historical`, then others up to `held_out`; an artist who would
   overflow the number is passed over. Validation is filled in the same way from those left.
5. Everybody else is training.

Photos are put in an order drawn from the seed and dealt: held out, validation, then
alternately to the inner and the outer loop. Both depend on names only, not on folder order.
"""

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt, model_validator

from metastyle.config import InputError, Project, Section
from metastyle.core import images
from metastyle.files import replacing


class Photos(NamedTuple):
    """Files for the inner and the outer loop, for choosing settings, and for reports alone."""

    inner: list[Path]
    outer: list[Path]
    validation: list[Path]
    held_out: list[Path]

    @property
    def train(self) -> list[Path]:
        """All that any training may see."""
        return self.inner + self.outer


class Artworks(NamedTuple):
    """Files for training, for choosing settings, and for reports alone."""

    train: list[Path]
    validation: list[Path]
    held_out: list[Path]


class Sets(NamedTuple):
    """Who may see what."""

    photos: Photos
    artworks: Artworks


class ArtworkSplit(Section):
    held_out: NonNegativeInt
    held_out_historical: NonNegativeInt
    validation: NonNegativeInt
    validation_historical: NonNegativeInt
    works_per_artist: PositiveInt

    @model_validator(mode="after")
    def _part_of_the_whole(self) -> "ArtworkSplit":
        if self.held_out_historical > self.held_out:
            raise ValueError("held_out_historical is a part of held_out and cannot exceed it")
        if self.validation_historical > self.validation:
            raise ValueError("validation_historical is a part of validation and cannot exceed it")
        return self


class PhotoSplit(Section):
    held_out: NonNegativeInt
    validation: NonNegativeInt


class Data(Section):
    """Section `data`: paths are absolute or relative to the parameter file's project root."""

    photos: Path
    artworks: Path
    sources: Path  # CSV with columns file, kind, title, author; other files are of unknown artists
    vgg: Path
    clip: Path | None
    seed: int
    artwork_split: ArtworkSplit
    photo_split: PhotoSplit


def normalise(artist: str) -> str:
    """`Pieter Bruegel the Elder` and `pieter bruegel` -> `pieter bruegel`."""
    plain = unicodedata.normalize("NFKD", artist).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"\(.*?\)|\bthe elder\b|\b(19|20)\d\d\b", " ", plain)
    return " ".join(plain.split())


def _order(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def split_artworks(table: pd.DataFrame, rule: ArtworkSplit, seed: int) -> pd.Series:
    """Apply steps 2 to 5: columns `artist` (normalised), `historical` -> a split per row.

    Raises:
        InputError: the artists cannot fill the numbers asked for.
    """
    works = table.groupby("artist")["historical"].agg(["size", "all"])
    free = [a for a in works.index if works["size"][a] <= rule.works_per_artist]
    free.sort(key=lambda artist: _order(seed, artist))
    split = dict.fromkeys(works.index, "train")

    def fill(name: str, number: int, historical: bool) -> None:
        taken = 0
        for artist in list(free):
            size, is_historical = works.loc[artist]
            if taken + size <= number and historical == is_historical:
                split[artist] = name
                free.remove(artist)
                taken += size
        if taken < number:
            raise InputError(
                f"data.artwork_split: only {taken} of {number} artworks found for "
                f"'{name}' among artists with at most {rule.works_per_artist} works; "
                "ask for fewer or add artworks"
            )

    # Where nothing is known of the artists there is nothing to balance.
    known = bool(works["all"].any())
    for name, number, historical in (
        ("held_out", rule.held_out, rule.held_out_historical if known else 0),
        ("validation", rule.validation, rule.validation_historical if known else 0),
    ):
        fill(name, historical, True)
        fill(name, number - historical, False)
    result = table["artist"].map(split)
    if not (result == "train").any():
        raise InputError("data.artwork_split: no artwork is left for training; ask for fewer")
    return result


def split_photos(files: list[str], rule: PhotoSplit, seed: int) -> list[str]:
    """Deal photos by name -> `held_out`, `validation`, `inner` or `outer` for each.

    Raises:
        InputError: fewer than two photos are left for the inner and outer loop.
    """
    first = rule.held_out + rule.validation
    if len(files) < first + 2:
        raise InputError(
            f"data.photos: {len(files)} photos are too few for {rule.held_out} held out, "
            f"{rule.validation} validation and one for each loop; add photos or ask for fewer"
        )
    split = {}
    for rank, file in enumerate(sorted(files, key=lambda f: _order(seed, f))):
        if rank < rule.held_out:
            split[file] = "held_out"
        elif rank < first:
            split[file] = "validation"
        else:
            split[file] = ("inner", "outer")[rank % 2]
    return [split[file] for file in files]


def make(project: Project) -> pd.DataFrame:
    """Find, check and split all images of section `data`.

    Files that do not decode are logged by name and left out.

    Returns:
        Columns side (`photo`, `artwork`), split, file (relative to the side's folder),
        artist (normalised), title, historical.
    """
    data, root = Data.read(project, "data"), project.root
    sources = _sources(root / data.sources)
    sides = []
    for side, folder in (("photo", root / data.photos), ("artwork", root / data.artworks)):
        files = [f.relative_to(folder).as_posix() for f in images.readable(images.find(folder))]
        table = pd.DataFrame({"side": side, "file": files})
        known = table["file"].map(lambda f, folder=folder: f"{folder.name}/{f}")
        row = sources.reindex(known, fill_value="")
        # A file whose artist nobody wrote down counts as an artist of its own.
        table["artist"] = [normalise(a) or f for a, f in zip(row["author"], files, strict=True)]
        table["title"] = [t or f for t, f in zip(row["title"], files, strict=True)]
        table["historical"] = (row["kind"] == "painting").tolist()
        sides.append(table)
    photos, artworks = sides
    photos["split"] = split_photos(photos["file"].tolist(), data.photo_split, data.seed)
    artworks["split"] = split_artworks(artworks, data.artwork_split, data.seed)
    columns = ["side", "split", "file", "artist", "title", "historical"]
    return pd.concat(sides)[columns].sort_values(["side", "split", "file"], ignore_index=True)


def _sources(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path).set_index("file")
        return table[["kind", "title", "author"]].fillna("")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct data.sources") from None
    except (KeyError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: needs columns file, kind, title, author ({error})") from None


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the table of `make` as CSV."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def listed(project: Project, table: Path | None = None) -> pd.DataFrame:
    """The table that `write` wrote, by default the stage `data`'s: indexed by the files' paths;
    columns side, split, file, artist, title, historical.

    Raises:
        InputError: the table has not been made yet.
    """
    data, table = Data.read(project, "data"), table or project.inputs / "splits.csv"
    if not table.is_file():
        raise InputError(f"{table}: no split table; run 'dvc pull' or 'dvc repro data'")
    rows = pd.read_csv(table, dtype=str)
    folders = {"photo": project.root / data.photos, "artwork": project.root / data.artworks}
    paths = [folders[row.side] / row.file for row in rows.itertuples()]
    return rows.set_axis(pd.Index(paths, dtype=object))


def read(project: Project, table: Path | None = None) -> Sets:
    """The sets of a `listed` table, each sorted."""
    rows = listed(project, table)

    def files(side: str, split: str) -> list[Path]:
        return rows.index[(rows["side"] == side) & (rows["split"] == split)].tolist()

    return Sets(
        Photos(*(files("photo", split) for split in Photos._fields)),
        Artworks(*(files("artwork", split) for split in Artworks._fields)),
    )
