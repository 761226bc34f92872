"""The split rule: numbers, artists, stability, and folders that cannot be split."""

import pandas as pd
import pytest
import yaml
from conftest import SMOKE
from test_images import bad_files, pattern

from metastyle.config import InputError, Project
from metastyle.core import splits


def test_splits_of_the_sample_data(project):
    table = splits.make(project)
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


def test_any_folder_replaces_a_side(tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for k in range(8):
        folder = tmp_path / "art" / f"genre{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pattern().rotate(k).save(folder / f"{k}.jpg")
        pattern().rotate(k).save(tmp_path / "photos" / f"{k}.png")
    bad_files(tmp_path / "art" / "bad")
    (tmp_path / "art" / "bad" / "whole.jpg").unlink()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "sources.csv").write_text("file,kind,title,author\n")

    def changed(**data):
        mine = {
            "photos": "photos",
            "artworks": "art",
            "sources": "sources.csv",
            "photo_split": {"held_out": 2, "validation": 1},
            "artwork_split": {
                "held_out": 3, "held_out_historical": 3, "validation": 1,
                "validation_historical": 1,
            },
        }  # fmt: skip
        values = {"extends": str(SMOKE), "data": mine | data}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        return Project(tmp_path / "params.yaml")

    project = changed()
    with pytest.raises(InputError, match=r"splits\.csv: no split table"):
        splits.read(project)
    table = splits.make(project)
    assert table.groupby("side").size().to_dict() == {"artwork": 8, "photo": 8}
    assert "truncated.jpg" in caplog.text
    splits.write(table, tmp_path / "splits.csv")
    sets = splits.read(project, tmp_path / "splits.csv")
    assert [len(files) for files in sets.artworks] == [4, 1, 3]
    assert [len(files) for files in sets.photos] == [2, 3, 1, 2]
    assert all(file.is_file() for side in sets for files in side for file in files)
    assert sets.photos.train == sets.photos.inner + sets.photos.outer
    assert not set(sets.photos.inner) & set(sets.photos.outer)
    listed = splits.listed(project, tmp_path / "splits.csv")
    assert listed["split"][sets.artworks.held_out].tolist() == ["held_out"] * 3

    for data, message in (
        ({"photo_split": {}}, "data.photos: 8 photos are too few"),
        ({"artwork_split": {}}, "data.artwork_split: only 8 of 14"),
        ({"sources": "none.csv"}, "none.csv: no such file"),
    ):
        with pytest.raises(InputError, match=message):
            splits.make(changed(**data))
