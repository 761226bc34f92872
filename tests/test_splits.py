"""The split rule: numbers, artists, stability, and folders that cannot be split."""

import re

import pandas as pd
import pytest
import yaml
from conftest import ROOT, SMOKE
from test_images import bad_files, pattern

from metastyle.config import InputError, Project
from metastyle.core import duplicates, splits
from tools.assign_splits import FIRST, assign, near_duplicates


@pytest.fixture(scope="module")
def sources(project):
    file = project.root / splits.Data.read(project, "data").sources
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def test_splits_of_the_sample_data(project):
    table = splits.make(project)
    artworks = table[table["side"] == "artwork"]
    assert artworks["split"].value_counts().to_dict() == {
        "train": 186, "held_out": 26, "validation": 8,
    }  # fmt: skip
    photos = table[table["side"] == "photo"]["split"].value_counts()
    assert photos.to_dict() == {"inner": 137, "outer": 136, "held_out": 34, "validation": 25}
    assert artworks[artworks["split"] == "held_out"]["historical"].sum() == 22
    assert artworks.groupby("artist")["split"].nunique().max() == 1
    assert not table.duplicated(["side", "file"]).any()


def test_every_image_is_listed_and_listed_as_the_rule_says(sources):
    files = [f for folder in ("artworks", "photos") for f in (ROOT / "data" / folder).iterdir()]
    assert sorted(sources["file"]) == sorted(f"{f.parent.name}/{f.name}" for f in files)
    again = assign(sources, near_duplicates(sources, ROOT / "data"))
    assert (again == sources["split"]).all()


def test_what_was_held_out_in_the_first_collection_stays_so(sources):
    first = sources[:FIRST]
    held_out = first[(first["split"] == "held_out") & (first["kind"] != "photo")]["author"]
    assert sorted(map(splits.normalise, held_out)) == [
        "albrecht durer", "ambrosius bosschaert", "anonymous", "bazille", "ken vermette", "lionel",
        "louis durrant", "mary cassatt", "paul gauguin", "pierre-auguste renoir",
        "pierre-auguste renoir", "pieter bruegel", "pieter bruegel", "wassily kandinsky",
    ]  # fmt: skip
    assert (first["split"] == "held_out").sum() == 14 + 24
    assert (first["split"] == "validation").sum() == 5 + 15


def test_no_surname_of_a_held_out_or_validation_artist_trains(sources):
    """By words of the names as they are written, whatever `normalise` makes of them."""
    artworks = sources[sources["kind"] != "photo"]
    words = {
        file: re.sub(r"\(.*?\)|[0-9]|\bthe (Elder|Younger)\b", "", author).lower().split()
        for file, author in zip(artworks["file"], artworks["author"], strict=True)
    }
    apart = artworks["file"][artworks["split"].isin(["held_out", "validation"])]
    surnames = {words[file][-1] for file in apart} - {"unidentified"}
    assert {"renoir", "dürer", "bruegel", "bellini", "copley", "courbet"} <= surnames
    for file in artworks["file"][artworks["split"] == "train"]:
        assert not surnames & set(words[file]), file


def test_no_artist_and_no_unnamed_package_trains_with_more_than_eight_works(sources):
    train = sources[sources["split"] == "train"]
    named = train["author"].map(splits.normalise)
    unnamed = train["author"].str.match("(?i)unidentified|unknown|battle for wesnoth")
    assert named[~unnamed].value_counts().max() == 8
    assert train["package"][unnamed].value_counts().max() == 8


def test_no_near_duplicates_in_two_sets(sets):
    for side in sets:
        of = {file: name for name, files in side._asdict().items() for file in files}
        pairs = duplicates.nearest(list(of), 300)
        crossing = pairs[pairs["one"].map(of) != pairs["other"].map(of)]
        assert len(crossing) and crossing["distance"].min() >= duplicates.NEAR


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Vincent van Gogh", "Vincent Van Gogh"),
        ("Pieter Bruegel the Elder", "Pieter Bruegel"),
        ("Albrecht Dürer", "albrecht  durer"),
        ("Jasper Roks 2023", "Jasper Roks"),
        ("Auguste Renoir", "Pierre-Auguste Renoir"),
        ("Pieter Brueghel the Younger", "Pieter Bruegel"),
        ("Frédéric Bazille", "Bazille"),
        ("Vasily Kandinsky", "Wassily Kandinsky"),
    ],
)
def test_spellings_of_an_artist(one, other):
    assert splits.normalise(one) == splits.normalise(other)


def test_who_is_not_known_is_an_artist_of_his_own():
    assert splits.artist_of("unidentified (16th-c. woodcut)", "a.jpg") == "a.jpg"
    assert splits.artist_of("", "b.jpg") == "b.jpg"
    assert splits.artist_of("Wu Bin", "c.jpg") == "wu bin"


def test_aliases_are_spelt_as_names_are_normalised():
    for spelling, name in splits.ALIASES.items():
        assert splits.normalise(spelling) == name == splits.normalise(name)


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


def changed(folder, **data):
    """A project of images in `photos` and `art` below a folder, listed in its sources.csv."""
    mine = {
        "photos": "photos", "artworks": "art", "sources": "sources.csv",
        "photo_split": {"held_out": 2, "validation": 1},
        "artwork_split": {
            "held_out": 3, "held_out_historical": 3, "validation": 1, "validation_historical": 1,
        },
    }  # fmt: skip
    (folder / "dvc.yaml").touch()
    values = {"extends": str(SMOKE), "data": mine | data}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return Project(folder / "params.yaml")


def test_any_folder_replaces_a_side(tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for k in range(8):
        folder = tmp_path / "art" / f"genre{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pattern().rotate(k).save(folder / f"{k}.jpg")
        pattern().rotate(k).save(tmp_path / "photos" / f"{k}.png")
    bad_files(tmp_path / "art" / "bad")
    (tmp_path / "art" / "bad" / "whole.jpg").unlink()
    (tmp_path / "sources.csv").write_text("file,kind,title,author\n")
    project = changed(tmp_path)
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
            splits.make(changed(tmp_path, **data))


def test_column_split_holds_and_other_files_beside_train(tmp_path):
    for folder in ("photos", "art"):
        (tmp_path / folder).mkdir()
        for k in range(8):
            pattern().rotate(k).save(tmp_path / folder / f"{k}.png")
    names = ["inner", "outer", "held_out", "unused"]
    rows = [f"photos/{k}.png,photo,,,{name}" for k, name in enumerate(names)]
    rows += [f"art/{k}.png,print,,Mary Cassatt,{k // 2 * 'validation'}" for k in range(3)]
    (tmp_path / "sources.csv").write_text("\n".join(["file,kind,title,author,split", *rows]))
    project = changed(tmp_path)
    table = splits.make(project)
    found = {(row.side, row.file): row.split for row in table.itertuples()}
    assert [found.get(("photo", f"{k}.png")) for k in range(4)] == [*names[:3], None]
    assert {found["photo", f"{k}.png"] for k in range(4, 8)} <= {"inner", "outer"}
    artworks = [found["artwork", f"{k}.png"] for k in range(8)]
    assert artworks == ["train", "train", "validation", *["train"] * 5]
    assert table.set_index("file")["historical"]["0.png"].any()

    text = (tmp_path / "sources.csv").read_text()
    for old, new, message in (
        ("held_out", "test", "sources.csv: split 'test' of 2.png: unknown; use inner, outer"),
        ("file,kind", "name,kind", "sources.csv: needs columns file"),
    ):
        (tmp_path / "sources.csv").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=message):
            splits.make(project)
    for k in range(3, 8):
        (tmp_path / "art" / f"{k}.png").unlink()
    (tmp_path / "sources.csv").write_text(text.replace("Cassatt,\n", "Cassatt,held_out\n"))
    with pytest.raises(InputError, match=r"data\.artworks: no image is left for 'train'"):
        splits.make(project)
