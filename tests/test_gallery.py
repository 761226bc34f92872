"""The painting in its corner; what is measured of a rendering; what the claims tell of it."""

import pandas as pd
import pytest
import torch
from torch import nn

from metastyle.evaluation import defects
from metastyle.studies import gallery


class White(nn.Module):
    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.ones_like(x)


class Same(White):
    def forward(self, x):
        return x


@pytest.fixture(autouse=True)
def droplets(monkeypatch):
    """Of networks that have no maps."""
    found = defects.Droplets([4.0] * len(gallery.NORMS), 0.25, 0.125)
    monkeypatch.setattr(defects, "droplets", lambda network, photos: found)


@pytest.fixture(scope="module")
def photos():
    return {"grey": torch.full((1, 3, 48, 48), 0.5), "white": torch.ones(1, 3, 48, 48)}


def test_an_inset_covers_its_corner_and_nothing_else():
    picture = torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    painting = torch.full((1, 3, 300, 300), 0.25)
    result = gallery.with_inset(picture, painting, 0.3, border=2)
    inside = torch.zeros(100, 100, dtype=torch.bool)
    inside[68:, :32] = True
    assert torch.equal(result[..., ~inside], picture[..., ~inside])
    assert torch.allclose(result[..., 70:, :30], torch.tensor(0.25))
    assert (result[..., 68:70, :32] == 1).all() and (result[..., 68:, 30:32] == 1).all()


def test_patches_are_found_in_the_rendering_that_has_them(photos):
    same, white = (gallery.measure(network, photos) for network in (Same(), White()))
    assert same["photo"].tolist() == ["grey", "white"]
    assert same["patches"].tolist() == [0, 0] and white["patches"].tolist() == [1, 0]
    found = gallery.measure(None, photos)[gallery.MEASURES]
    assert found.to_numpy() == pytest.approx(0, abs=1e-3)


def test_colours_of_the_painting_are_not_stray(photos):
    painting = torch.ones(1, 3, 20, 20)
    alone, with_it = (gallery.measure(White(), photos, given) for given in (None, painting))
    assert alone["stray"].tolist() == [1, 0] and with_it["stray"].tolist() == [0, 0]
    assert alone["idle"].tolist() == [0.125] * 2
    shown = gallery.droplets(pd.concat([alone, gallery.measure(None, photos)]).assign(of=1), "of")
    assert shown.loc[1, "kurtosis"] == "4.0" and shown.loc[1, "stray"].startswith("0.5")


def test_the_claims_count_renderings_by_set(photos):
    tables = {"photo": ("photo", None), gallery.NEUTRAL: (gallery.NEUTRAL, Same())}
    tables["a.jpg"] = ("adapted", White())
    found = pd.concat(
        gallery.measure(network, photos).assign(set=kind, style=style, artist=style)
        for style, (kind, network) in tables.items()
    )
    tile = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    tiles = {style: tile for style, (_, network) in tables.items() if network}
    run = gallery.Run(*[None] * 4, found, None, tiles, [0.9, 0.8, 0.95])
    rows = {row.quantity: row for row in gallery.judge(run)}
    neutral, adapted = (
        rows[f"share of {kind} renderings with saturated patches"]
        for kind in (gallery.NEUTRAL, "adapted")
    )
    assert neutral.ours == 0 and adapted.ours == 0.5 and adapted.note.startswith("1 of 2 have one")
    of_neutral = [
        rows[f"{words} {gallery.NEUTRAL} renderings"] for words in gallery.DROPLETS.values()
    ]
    assert [row.ours for row in of_neutral] == [0.25, 0.125, 0]
    assert of_neutral[0].note.startswith("Median kurtosis: 4.0") and of_neutral[2].note
    assert gallery.norms(run).loc["norm 7"].tolist() == ["4.0", "4.0"]
    assert min(row.ours for row in rows.values() if "photos move" in row.quantity) == 0.8
    assert (
        rows["correlation of the style-neutral mean tile with the adapted ones, median"].ours == 1
    )
