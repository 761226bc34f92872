"""Figure 7: pixels optimised from three starts."""

import pandas as pd
import pytest
import torch

from metastyle.config import InputError
from metastyle.core.network import new_network, stylise
from metastyle.studies import pixels


def uniform(seed, side=32):
    return torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def settings(project):
    return pixels.Pixels.read(project, "pixels")


def test_losses_are_those_of_pictures_from_the_start_to_the_last(loss, settings):
    photo, style = uniform(0), uniform(1, 40)
    start = (uniform(2) > 0.5).float()  # black and white: a step leaves the range
    found = pixels.optimise(start, photo, style, loss, settings)
    image, losses = found["image"].detach(), found["losses"].tolist()
    targets = loss.content(photo), loss.style(style)
    assert len(losses) == settings.steps + 1 and losses == sorted(losses, reverse=True)
    for picture, value in ((start, losses[0]), (image, losses[-1])):
        assert loss(picture, *targets).total.item() == pytest.approx(value, rel=1e-5)
    assert image.min() >= 0 and image.max() <= 1
    assert 0 < (image - start).abs().max() <= 1.1 * settings.steps * settings.learning_rate


def test_an_optimisation_is_kept_under_what_decides_it(loss, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path))
    settings = settings.changed(steps=1, compare_at=[1])
    given = uniform(2), uniform(0), uniform(1), loss
    first, again = (pixels.kept(*given, settings) for _ in range(2))
    made = pixels.optimise(*given, settings)
    for found in (first, again):
        assert torch.equal(found["image"], made["image"])
        assert torch.equal(found["losses"], made["losses"])

    def files():
        return len([*(tmp_path / "tensors").iterdir()])

    pixels.kept(*given, settings.changed(pairs=1, size=64))  # of no use to it
    assert files() == 1
    pixels.kept(*given, settings.changed(learning_rate=0.01))
    assert files() == 2
    monkeypatch.setattr(pixels.inspect, "getsource", lambda _: "other = 1")
    pixels.kept(*given, settings)
    assert files() == 3


def test_three_starts_of_the_photos_shape_and_range():
    photo, neutral = uniform(0), new_network(0)
    first, other = pixels.starts(photo, neutral, 1), pixels.starts(photo, neutral, 2)
    assert list(first) == ["content", "neutral", "noise"]
    assert torch.equal(first["content"], photo)
    assert torch.equal(first["neutral"], stylise(neutral, photo))
    assert torch.equal(first["noise"], pixels.starts(photo, neutral, 1)["noise"])
    assert not torch.equal(first["noise"], other["noise"])
    for start in first.values():
        assert start.shape == photo.shape and start.min() >= 0 and start.max() <= 1


@pytest.mark.parametrize(
    ("ahead_until", "verdict", "steps"),
    [(3, "reproduced", "1, 3"), (1, "partly", "1"), (0, "not reproduced", "none")],
)
def test_the_verdict_follows_the_rule(settings, ahead_until, verdict, steps):
    rows = [
        {"pair": k, "artist": f"{k}", "start": start, "step": step,
         "loss": (k + 1) * (8 - step) * (2 if start == "content" and step <= ahead_until else 1)}
        for k in range(3) for start in ("content", "neutral", "noise") for step in range(4)
    ]  # fmt: skip
    judged, *measured = pixels.judge(pixels.Run(settings, [{}] * 3, pd.DataFrame(rows)))
    assert (judged.verdict, judged.ours) == (verdict, steps)
    assert judged.rule == pixels.RULE and "3 pairs with paintings by 3 artists" in judged.note
    assert [row.ours for row in measured[:2]] == [1 + (ahead_until >= 1), 1 + (ahead_until >= 3)]
    assert {row.verdict for row in measured} == {"measured"}


def test_comparing_beyond_the_last_step_is_refused(settings):
    with pytest.raises(InputError, match="compare_at goes beyond"):
        settings.changed(compare_at=[settings.steps + 1])
