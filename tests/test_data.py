"""What chapter 1 tells of the images."""

import pandas as pd
import pytest
import torch

from metastyle.core import splits
from metastyle.studies import data


@pytest.fixture
def run(project, sets):
    rows = [
        ("artwork", "train", "a.jpg", "vincent van gogh", "Vincent van Gogh", "one"),
        ("artwork", "train", "b.jpg", "vincent van gogh", "Vincent Van Gogh", "one"),
        ("artwork", "train", "c.jpg", "c.jpg", data.UNNAMED, "two"),
        ("artwork", "train", "d.jpg", "d.jpg", data.UNNAMED, "two"),
        ("artwork", "train", "e.jpg", "edouard manet", "Edouard Manet", "one"),
        ("artwork", "held_out", "f.jpg", "wu bin", "Wu Bin", "one"),
        ("photo", "inner", "g.jpg", "nasa", "NASA", "three"),
    ]
    columns = ["side", "split", "file", "artist", "author", "package"]
    return data.Run(project, pd.DataFrame(rows, columns=columns), sets, pd.DataFrame())


def test_artists_are_named_with_their_works(run):
    assert data.artists(run).data.split("\n\n") == [
        "**held out**, 1 artworks: Wu Bin.",
        "**train**, 5 artworks: Vincent van Gogh 2, not named 2, Edouard Manet.",
    ]


def test_sources_are_counted_by_set(run):
    table = data.sources(run, "artwork")
    assert table.loc["one"].to_dict() == {"held_out": 1, "train": 3}
    assert table.loc["two"].to_dict() == {"held_out": 0, "train": 2}
    assert "three" not in table.index


def test_pairs_are_of_one_side_and_of_two_sets(sets):
    few = splits.Sets(
        splits.Photos(*(files[:3] for files in sets.photos)),
        splits.Artworks(*(files[:2] for files in sets.artworks)),
    )
    near = data._crossing(few)
    assert near["side"].value_counts().to_dict() == {"photos": 6 * 9, "artworks": 3 * 4}
    for side, pairs in near.groupby("side"):
        assert pairs["distance"].is_monotonic_increasing, side
    assert {name for pair in near["sets"] for name in pair.split(", ")} == {
        "inner", "outer", "validation", "held out", "train"
    }  # fmt: skip


def test_measures_of_known_images():
    image = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert data.brightness(image) == pytest.approx(0.299 + 0.587 / 2)
    assert data.colourfulness(image) == 1
    assert data.colourfulness(torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)) == 0
