"""Write the column `split` of data/sources.csv, once; run again it writes the same.

    python tools/assign_splits.py

The images came in two collections; the first are the file's first 242 rows.

1. The first collection keeps what the seeded rule of metastyle/core/splits.py gave it: 14 artworks
   and 24 photos are held out, 5 and 15 validation. Its other photos stay inner or outer.
2. A later work of an artist who is held out or validation, under any spelling, is left out
   (`unused`): these sets shall not be full of one hand.
3. Of the artists who are new, with at most two works each, ten are held out with all their works,
   as NEW_HELD_OUT has it: a print, a portrait and a pattern among them, the rest from museums.
   Three museum artists more are validation. Who, the hash of seed and name decides. Digital
   paintings of the second collection are by unnamed artists of one game, of whom other works
   train; so none of them is held out. (Digital art is in the first collection's held-out set.)
4. All other artworks train, but at most 8 of one artist, or of one package where it names no
   artist: those that come first by the hash of seed and file; the others are unused.
5. Of the second collection's photos ten are held out and ten validation, drawn by the same hash;
   the others go to the inner and the outer loop in turn.
6. Of two near-duplicates in different sets (metastyle/core/duplicates.py) the one in the
   set named later in ORDER is unused.
"""

from pathlib import Path

import pandas as pd

from metastyle.core import duplicates, splits
from metastyle.files import replacing

FILE = Path("data/sources.csv")
FIRST = 242  # rows of the first collection
SEED = 2019
FIRST_ARTWORKS = splits.ArtworkSplit(
    held_out=14,
    held_out_historical=11,
    validation=5,
    validation_historical=3,
    works_per_artist=2,
)
FIRST_PHOTOS = splits.PhotoSplit(held_out=24, validation=15)
NEW_HELD_OUT = {"print": 1, "portrait": 1, "pattern": 1, "museum": 7}  # artists
NEW_VALIDATION = {"museum": 3}
NEW_PHOTOS = splits.PhotoSplit(held_out=10, validation=10)
FEW, CAP = 2, 8  # works of an artist: at most, to be chosen in 3; that train
UNNAMED = "battle for wesnoth artists"
ORDER = ["held_out", "validation", "inner", "outer", "train", "unused"]


def assign(sources: pd.DataFrame, near: list[tuple[str, str]]) -> pd.Series:
    """A split per row.

    Args:
        sources: as in data/sources.csv, all columns text.
        near: pairs of files that are near-duplicates.
    """
    is_photo = sources["kind"] == "photo"
    split = pd.concat([_photos(sources[is_photo]), _artworks(sources[~is_photo])]).sort_index()
    by_file = pd.Series(split.to_numpy(), index=sources["file"])
    for pair in near:
        first, last = sorted(pair, key=lambda file: ORDER.index(by_file[file]))
        if by_file[first] != by_file[last]:
            by_file[last] = "unused"
    return by_file.set_axis(sources.index)


def _photos(rows: pd.DataFrame) -> pd.Series:
    files = rows["file"].str.removeprefix("photos/")
    first = files.index < FIRST
    dealt = [
        pd.Series(splits.split_photos(part.tolist(), rule, SEED), part.index)
        for part, rule in ((files[first], FIRST_PHOTOS), (files[~first], NEW_PHOTOS))
    ]
    return pd.concat(dealt)


def _artworks(rows: pd.DataFrame) -> pd.Series:
    table = rows[["kind", "package"]].assign(file=rows["file"].str.removeprefix("artworks/"))
    table["artist"] = list(map(splits.artist_of, rows["author"], table["file"]))
    table["historical"] = rows["kind"].isin(["painting", "print"])
    first = table.index < FIRST
    split = pd.Series("", table.index)
    split[first] = splits.split_artworks(table[first], FIRST_ARTWORKS, SEED)
    kept_apart = table["artist"][split.isin(["held_out", "validation"])]
    split[~first & table["artist"].isin(kept_apart)] = "unused"
    for name, numbers in (("held_out", NEW_HELD_OUT), ("validation", NEW_VALIDATION)):
        for stratum, number in numbers.items():
            chosen = _new_artists(table, table[split == ""], stratum)[:number]
            split[table["artist"].isin(chosen)] = name
    return _capped(table[split.isin(["", "train"])]).combine_first(split)


def _new_artists(table: pd.DataFrame, free: pd.DataFrame, stratum: str) -> list[str]:
    """Artists with few works, all of them free and of the stratum, in the order drawn."""
    works = table["artist"].value_counts()
    strata = free.apply(_stratum, axis=1)
    fitting = free["artist"][strata == stratum].value_counts()
    artists = [a for a, n in fitting.items() if n == works[a] <= FEW]
    return sorted(artists, key=lambda artist: splits.draw_order(SEED, artist))


def _stratum(row: pd.Series) -> str:
    if row["file"].startswith("freecol__portrait"):
        return "portrait"
    return {"painting": "museum", "digital art": "pattern"}.get(row["kind"], row["kind"])


def _capped(training: pd.DataFrame) -> pd.Series:
    """`train` for the first CAP works of every artist or unnamed package, `unused` for others."""
    named = (training["artist"] != training["file"]) & (training["artist"] != UNNAMED)
    group = training["artist"].where(named, "package " + training["package"])
    drawn = training["file"].map(lambda file: splits.draw_order(SEED, file))
    rank = drawn.groupby(group).rank()
    return rank.map(lambda r: "train" if r <= CAP else "unused")


def near_duplicates(sources: pd.DataFrame, data: Path) -> list[tuple[str, str]]:
    """Pairs of the listed files, which are in folder `data`; both photos or both artworks."""
    pairs = []
    for side in ("photos/", "artworks/"):
        files = [data / file for file in sources["file"] if file.startswith(side)]
        table = duplicates.nearest(files, 1000)
        for row in table[table["distance"] < duplicates.NEAR].itertuples():
            pairs.append(tuple(f"{side}{file.name}" for file in (row.one, row.other)))
    return pairs


def main() -> None:
    sources = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    with replacing(FILE) as temporary:
        split = assign(sources, near_duplicates(sources, FILE.parent))
        sources.assign(split=split).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
