"""Figures 7 and 1: pixels optimised from a start, one photo in many styles."""

import pytest
import torch
import yaml
from conftest import SMOKE
from torch import nn

from metastyle.config import InputError
from metastyle.core.losses import content_target, perceptual_loss, style_target
from metastyle.config import load, read
from metastyle.studies.pixels import Pixels, optimise, starts
from metastyle.studies.gallery import saturation, with_inset
from metastyle.core.network import new_network, stylise


def uniform(seed, side=32):
    return torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(seed))


def test_losses_are_those_of_pictures_from_the_start_to_the_last(vgg, perceptual):
    plan = read(SMOKE, "pixels", Pixels)
    photo, style = uniform(0), uniform(1, 40)
    start = (uniform(2) > 0.5).float()  # black and white: a step leaves the range
    image, curve = optimise(start, photo, style, vgg, perceptual, plan)

    def loss(picture):
        targets = content_target(vgg, photo, perceptual), style_target(vgg, style, perceptual)
        return perceptual_loss(vgg, picture, *targets, perceptual).total.item()

    assert curve["step"].tolist() == list(range(plan.steps + 1))
    assert curve["loss"].iloc[0] == pytest.approx(loss(start))
    assert curve["loss"].iloc[-1] == pytest.approx(loss(image), rel=1e-5)
    assert curve["loss"].is_monotonic_decreasing
    assert image.min() >= 0 and image.max() <= 1
    assert 0 < (image - start).abs().max() <= 1.1 * plan.steps * plan.learning_rate


def test_three_starts_of_the_photos_shape_and_range():
    photo, neutral = uniform(0), new_network(0)
    first, other = starts(photo, neutral, 1), starts(photo, neutral, 2)
    assert list(first) == ["content", "neutral", "noise"]
    assert torch.equal(first["content"], photo)
    assert torch.equal(first["neutral"], stylise(neutral, photo))
    assert torch.equal(first["noise"], starts(photo, neutral, 1)["noise"])
    assert not torch.equal(first["noise"], other["noise"])
    for start in first.values():
        assert start.shape == photo.shape and start.min() >= 0 and start.max() <= 1


def test_comparing_beyond_the_last_step_is_refused(tmp_path):
    values = load(SMOKE)
    values["pixels"]["compare_at"] = [values["pixels"]["steps"] + 1]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="compare_at goes beyond"):
        read(path, "pixels", Pixels)


def test_an_inset_covers_its_corner_and_nothing_else():
    picture, painting = uniform(0, 100), torch.full((1, 3, 300, 300), 0.25)
    result = with_inset(picture, painting, 0.3, border=2)
    inside = torch.zeros(100, 100, dtype=torch.bool)
    inside[68:, :32] = True
    assert torch.equal(result[..., ~inside], picture[..., ~inside])
    assert torch.allclose(result[..., 70:, :30], torch.tensor(0.25))
    assert (result[..., 68:70, :32] == 1).all() and (result[..., 68:, 30:32] == 1).all()


def test_saturation_is_found_in_the_rendering_that_has_it():
    class White(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return torch.ones_like(x)

    class Same(White):
        def forward(self, x):
            return x

    photos = {"grey": torch.full((1, 3, 32, 32), 0.5), "white": torch.ones(1, 3, 32, 32)}
    table = saturation({"same": Same(), "white": White()}, photos)
    patches = table.set_index(["style", "photo"])["patches"]
    assert patches.to_dict() == {
        ("same", "grey"): 0, ("same", "white"): 0, ("white", "grey"): 1, ("white", "white"): 0
    }  # fmt: skip
