"""Which image may be used for what: the split rule and its table.

The images that come with the project have their split in a column of sources.csv, written once
by tools/assign_splits.py; `unused` ones are in no set. For folders of a user's own, whose files
that column does not know, this is the rule. Artworks are split by artist, so that a held-out
painting never has a sibling in training:

1. Artists' names are normalised (case, accents, parentheses and "the Elder" dropped, ALIASES).
2. Artists are put in an order drawn from the seed: by the hash of seed and name.
3. An artist with more than `works_per_artist` artworks goes to training.
4. The held-out set takes whole artists in that order, first historical ones (paintings and
   prints) up to `held_out_historical`, then others up to `held_out`; an artist who would
   overflow the number is passed over. Validation is filled in the same way from those left.
5. Everybody else is training.

Photos are put in an order drawn from the seed and dealt: held out, validation, then
alternately to the inner and the outer loop. Both depend on names only, not on folder order.
A file that the column does not know, in a folder where it knows others, is training.
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
from metastyle.files import write_table

SPLITS = {  # that sources.csv may name
    "photo": ("inner", "outer", "validation", "held_out", "unused"),
    "artwork": ("train", "validation", "held_out", "unused"),
}
# Other spellings, plain, of artists who are held out or validation or have many works; the Bruegels
# and the Bosschaerts count as one artist each.
ALIASES = {
    "ambrosius bosschaert the younger": "ambrosius bosschaert",
    "frederic bazille": "bazille",
    "jean frederic bazille": "bazille",
    "mary stevenson cassatt": "mary cassatt",
    "eugene henri paul gauguin": "paul gauguin",
    "auguste renoir": "pierre-auguste renoir",
    "pierre auguste renoir": "pierre-auguste renoir",
    "jan brueghel": "pieter bruegel",
    "jan brueghel the younger": "pieter bruegel",
    "pieter brueghel": "pieter bruegel",
    "pieter brueghel the younger": "pieter bruegel",
    "pieter bruegel the younger": "pieter bruegel",
    "vasily kandinsky": "wassily kandinsky",
    "vassily kandinsky": "wassily kandinsky",
    "giambellino": "giovanni bellini",
    "giuseppe arcimboldi": "giuseppe arcimboldo",
    "hokusai": "katsushika hokusai",
    "ando hiroshige": "utagawa hiroshige",
    "hiroshige": "utagawa hiroshige",
    "leonardo": "leonardo da vinci",
    "van gogh": "vincent van gogh",
}


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
    sources: Path  # CSV with columns file, kind, title, author and perhaps split
    vgg: Path  # torchvision's: our safetensors, or its own .pth
    alexnet: Path
    clip: Path | None
    seed: int
    artwork_split: ArtworkSplit
    photo_split: PhotoSplit


def normalise(artist: str) -> str:
    """`Pieter Brueghel the Elder` and `pieter bruegel` -> `pieter bruegel`."""
    plain = unicodedata.normalize("NFKD", artist).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"\(.*?\)|\bthe elder\b|\b(19|20)\d\d\b", " ", plain)
    plain = " ".join(plain.split())
    return ALIASES.get(plain, plain)


def artist_of(author: str, file: str) -> str:
    """`normalise`; a work whose artist nobody knows counts as by an artist of its own."""
    name = normalise(author)
    return file if not name or name.startswith(("unidentified", "unknown")) else name


def draw_order(seed: int, name: str) -> str:
    """What to sort names by for an order drawn from the seed."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def split_artworks(table: pd.DataFrame, rule: ArtworkSplit, seed: int) -> pd.Series:
    """Apply steps 2 to 5: columns `artist` (normalised), `historical` -> a split per row.

    Raises:
        InputError: the artists cannot fill the numbers asked for.
    """
    works = table.groupby("artist")["historical"].agg(["size", "all"])
    free = works.index[works["size"] <= rule.works_per_artist].tolist()
    free.sort(key=lambda artist: draw_order(seed, artist))
    split = dict.fromkeys(works.index, "train")
    sizes, historicals = works["size"].to_dict(), works["all"].to_dict()

    def fill(name: str, number: int, historical: bool) -> None:
        taken = 0
        for artist in [a for a in free if historicals[a] == historical]:
            if taken + sizes[artist] <= number:
                split[artist] = name
                free.remove(artist)
                taken += sizes[artist]
        if taken < number:
            raise InputError(
                f"data.artwork_split: only {taken} of {number} artworks found for "
                f"'{name}' among artists with at most {rule.works_per_artist} works; "
                "ask for fewer or add artworks"
            )

    known = bool(works["all"].any())  # else there is nothing to balance
    for name in ("held_out", "validation"):
        historical = getattr(rule, f"{name}_historical") if known else 0
        fill(name, historical, True)
        fill(name, getattr(rule, name) - historical, False)
    return table["artist"].map(split)


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
    for rank, file in enumerate(sorted(files, key=lambda f: draw_order(seed, f))):
        others = ("inner", "outer")[rank % 2] if rank >= first else "validation"
        split[file] = "held_out" if rank < rule.held_out else others
    return [split[file] for file in files]


def make(project: Project, *, check: bool = True) -> pd.DataFrame:
    """Find, check and split all images of section `data`.

    Files that do not decode are logged by name and left out, as are `unused` ones silently.

    Args:
        check: whether to decode every file; a training replaces what it finds broken.

    Returns:
        Columns side, split, file (in the side's folder), artist (normalised), title, historical.

    Raises:
        InputError: too few images for the sets, or a folder or sources.csv is wrong.
    """
    data, root = Data.read(project, "data"), project.root
    sources = _sources(root / data.sources)
    sides = []
    for side, folder in (("photo", root / data.photos), ("artwork", root / data.artworks)):
        found = images.readable(images.find(folder)) if check else images.find(folder)
        files = [f.relative_to(folder).as_posix() for f in found]
        table = pd.DataFrame({"side": side, "file": files})
        row = sources.reindex([f"{folder.name}/{f}" for f in files], fill_value="")
        table["artist"] = [artist_of(a, f) for a, f in zip(row["author"], files, strict=True)]
        table["title"] = [t or f for t, f in zip(row["title"], files, strict=True)]
        table["historical"] = row["kind"].isin(["painting", "print"]).tolist()
        listed = row["split"].tolist()
        table["split"] = _listed(table, listed, data) if any(listed) else _by_rule(table, data)
        sides.append(table[table["split"] != "unused"])
    columns = ["side", "split", "file", "artist", "title", "historical"]
    table = pd.concat(sides)[columns].sort_values(["side", "split", "file"], ignore_index=True)
    for side, split in (("photo", "inner"), ("photo", "outer"), ("artwork", "train")):
        if not ((table["side"] == side) & (table["split"] == split)).any():
            raise InputError(f"data.{side}s: no image is left for '{split}'; add some")
    return table


def _by_rule(table: pd.DataFrame, data: Data) -> list[str]:
    if table["side"].iloc[0] == "photo":
        return split_photos(table["file"].tolist(), data.photo_split, data.seed)
    return split_artworks(table, data.artwork_split, data.seed).tolist()


def _listed(table: pd.DataFrame, listed: list[str], data: Data) -> list[str]:
    """The splits of sources.csv; training where it names none."""
    result = []
    for row, split in zip(table.itertuples(), listed, strict=True):
        known = SPLITS[row.side]
        if split not in ("", *known):
            raise InputError(
                f"{data.sources}: split '{split}' of {row.file}: unknown; use {', '.join(known)}"
            )
        training = known[: known.index("validation")]
        result.append(split or training[int(draw_order(data.seed, row.file), 16) % len(training)])
    return result


def _sources(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("file")
        return table.assign(split=table.get("split", ""))[["kind", "title", "author", "split"]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct data.sources") from None
    except (KeyError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: needs columns file, kind, title, author ({error})") from None


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the table of `make` as CSV."""
    write_table(path, table)


def listed(project: Project, table: Path | pd.DataFrame | None = None) -> pd.DataFrame:
    """The table that `write` wrote, by default the stage `data`'s, or one of `make`: indexed by
    the files' paths; columns side, split, file, artist, title, historical.

    Raises:
        InputError: the table has not been made yet.
    """
    data = Data.read(project, "data")
    rows = project.inputs / "splits.csv" if table is None else table
    if isinstance(rows, Path):
        if not rows.is_file():
            raise InputError(f"{rows}: no split table; run 'dvc pull' or 'dvc repro data'")
        rows = pd.read_csv(rows, dtype=str)
    folders = {"photo": project.root / data.photos, "artwork": project.root / data.artworks}
    paths = [folders[row.side] / row.file for row in rows.itertuples()]
    return rows.set_axis(pd.Index(paths, dtype=object))


def read(project: Project, table: Path | pd.DataFrame | None = None) -> Sets:
    """The sets of a `listed` table, each sorted."""
    rows = listed(project, table)

    def files(side: str, split: str) -> list[Path]:
        return rows.index[(rows["side"] == side) & (rows["split"] == split)].tolist()

    return Sets(
        Photos(*(files("photo", split) for split in Photos._fields)),
        Artworks(*(files("artwork", split) for split in Artworks._fields)),
    )
