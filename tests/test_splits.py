"""The split rule: numbers, artists, stability, and folders that cannot be split."""

import pandas as pd
import pytest
from conftest import ROOT
from test_images import bad_files, pattern

from metastyle.core import splits
from metastyle.config import InputError


def test_splits_of_the_sample_data(data):
    table = splits.make(data, ROOT)
    artworks = table[table["side"] == "artwork"]
    assert artworks["split"].value_counts().to_dict() == {
        "train": 40, "held_out": 14, "validation": 5,
    }  # fmt: skip
    assert artworks[artworks["split"] == "held_out"]["historical"].sum() >= 10
    assert artworks.groupby("artist")["split"].nunique().max() == 1
    photos = table[table["side"] == "photo"]["split"].value_counts()
    assert photos.to_dict() == {"inner": 72, "outer": 72, "held_out": 24, "validation": 15}
    assert not table.duplicated(["side", "file"]).any()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Vincent van Gogh", "Vincent Van Gogh"),
        ("Pieter Bruegel the Elder", "Pieter Bruegel"),
        ("Albrecht Dürer", "albrecht  durer"),
        ("Jasper Roks 2023", "Jasper Roks"),
    ],
)
def test_spellings_of_an_artist(one, other):
    assert splits.normalise(one) == splits.normalise(other)


def test_rule_does_not_depend_on_order_and_splits_whole_artists():
    artists = ["a"] * 5 + ["b"] * 2 + ["c", "d", "e", "f", "g"]
    table = pd.DataFrame({"artist": artists, "historical": [a in "abcd" for a in artists]})
    rule = splits.ArtworkSplit(
        held_out=4, held_out_historical=3, validation=1, validation_historical=0, works_per_artist=2
    )
    split = splits.split_artworks(table, rule, seed=1)
    assert (split[table["artist"] == "a"] == "train").all()
    assert (split == "held_out").sum() == 4
    backwards = splits.split_artworks(table[::-1], rule, seed=1).sort_index()
    assert (backwards == split).all()


def test_any_folder_replaces_a_side(data, tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for k in range(8):
        folder = tmp_path / "art" / f"genre{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pattern().rotate(k).save(folder / f"{k}.jpg")
        pattern().rotate(k).save(tmp_path / "photos" / f"{k}.png")
    bad_files(tmp_path / "art" / "bad")
    (tmp_path / "art" / "bad" / "whole.jpg").unlink()
    mine = data.model_copy(
        update={
            "photos": tmp_path / "photos",
            "artworks": tmp_path / "art",
            "photo_split": splits.PhotoSplit(held_out=2, validation=1),
            "artwork_split": data.artwork_split.model_copy(update={"held_out": 3, "validation": 1}),
        }
    )
    table = splits.make(mine, ROOT)
    assert table.groupby("side").size().to_dict() == {"artwork": 8, "photo": 8}
    assert "truncated.jpg" in caplog.text
    splits.write(table, tmp_path / "splits.csv")
    sets = splits.read(tmp_path / "splits.csv", mine, ROOT)
    assert len(sets["artwork/train"]) == 4 and all(f.is_file() for f in sets["artwork/train"])
    assert not set(sets["photo/inner"]) & set(sets["photo/outer"])

    for update, message in (
        ({"photo_split": data.photo_split}, "data.photos: 8 photos are too few"),
        ({"artwork_split": data.artwork_split}, "data.artwork_split: only 8 of 14"),
        ({"sources": tmp_path / "none.csv"}, "none.csv: no such file"),
    ):
        with pytest.raises(InputError, match=message):
            splits.make(mine.model_copy(update=update), ROOT)
