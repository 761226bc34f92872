"""What decoders and generated networks reach, against floors and limits."""

import pandas as pd
import pytest
import torch

from metastyle.baselines.quality import (
    Floor,
    Generated,
    against_floors,
    against_limits,
    distances,
    features,
    quality,
    references,
)
from metastyle.core import images


def test_floors_are_for_both_means():
    photo = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tables = [quality({"a": photo + 0.1, "b": photo + 0.01}, photo).assign(photo=k) for k in "xy"]
    table = pd.concat(tables)
    floors = {"a": Floor(psnr=19, ssim=0.5), "b": Floor(psnr=39, ssim=0.9)}
    judged = against_floors(table, floors)
    assert judged["reached"].tolist() == [True, True]
    assert judged.loc["a", "psnr"].value == pytest.approx(20, abs=1e-3)
    for floor in (Floor(psnr=21, ssim=0.5), Floor(psnr=19, ssim=1.0)):
        assert not against_floors(table, {"a": floor}).loc["a", "reached"]


def test_references_lose_what_their_grid_cannot_hold():
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 48, 32)
    made = references(ramp)
    assert all(image.shape == ramp.shape for image in made.values())
    errors = [(image - ramp).square().mean().item() for image in made.values()]
    assert errors[0] == pytest.approx(ramp[0, 0, 0].var(correction=0).item())
    assert errors == sorted(errors, reverse=True)  # the mean colour, then finer and finer grids
    chequered = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(1, 3, 24, 16)
    assert (references(chequered)["grid of relu2_1"] - 0.5).abs().max() < 0.1


def test_distances_are_one_at_their_unit_and_zero_at_the_aim(vgg, sets):
    files = [*sets.photos.validation[:2], sets.artworks.validation[0]]
    photo, other, painting = (features(vgg, images.load_square(file, 48)) for file in files)
    kept, mistaken, copied = (
        distances(x, photo, other, painting) for x in (photo, other, painting)
    )
    assert (kept["content"], mistaken["content"]) == (0, pytest.approx(1))
    assert (kept["style"], copied["style"]) == (pytest.approx(1), 0)
    table = pd.DataFrame([kept, copied]).assign(photo=["x", "y"], artist="a")
    style = against_limits(table, Generated(content=9, style=0.51)).loc["style"]
    assert style["mean"].value == pytest.approx(0.5) and style["reached"]
    assert not against_limits(table, Generated(content=9, style=0.49)).loc["style", "reached"]
