"""Flicker whose value is known."""

import weakref

import pytest
import torch

from metastyle.core import images
from metastyle.evaluation import flicker


def test_few_frames_are_alive_at_a_time():
    alive, most = weakref.WeakSet(), 0

    def watched():
        nonlocal most
        for k in range(20):
            frame = torch.full((1, 3, 32, 48), k / 20)
            alive.add(frame)
            most = max(most, len(alive))
            yield {"source": frame}

    assert len(flicker.errors(watched(), "source")) == 19
    assert most <= 4


def test_a_known_motion_has_no_error_and_a_known_flicker_has_its_own(sets):
    photo = images.load_square(sets.photos.held_out[0], 96)
    frames = list(flicker.pan(photo, 64, 8, 5))
    assert flicker.pan_errors(frames, 8) == [0] * 4
    assert min(flicker.pan_errors(frames, 4)) > 0.01
    lifted = [frame + 0.1 * (k % 2) for k, frame in enumerate(frames)]
    assert flicker.pan_errors(lifted, 8) == pytest.approx([0.1] * 4, rel=1e-5)
    still = list(flicker.pan(photo, 64, 0, 3))
    assert flicker.pan_errors(still, 0) == [0, 0]


def test_brightness_that_flickers_over_a_still_clip(sets):
    photo = images.load_square(sets.photos.held_out[0], 64)
    made = [{"source": photo, "lifted": photo + 0.1 * (k % 2)} for k in range(4)]
    table = flicker.errors(iter(made), "source").set_index("name")
    assert table.loc["source", ["warp", "change"]].max(axis=None) < 1e-6
    assert table.loc["lifted", "warp"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert table.loc["lifted", "change"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert table.loc["lifted", "still"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert (table["seen"] == 1).all()
    contrast = (photo - photo.mean((2, 3), keepdim=True)).square().mean().sqrt().item()
    assert table.loc["source", "contrast"].tolist() == pytest.approx([contrast] * 3)


def test_what_moves_is_not_still():
    one = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    two, made = one.clone(), one.clone()
    two[..., :16] += 0.2
    two[..., 16:] += 1 / 255
    made[..., :16] += 0.3
    made[..., 16:] += 0.05
    table = flicker.errors([{"s": one, "o": one}, {"s": two, "o": made}], "s").set_index("name")
    assert table.loc["o", "still"] == pytest.approx(0.05, rel=1e-4)
    assert table.loc["s", "still"] == pytest.approx(1 / 255, rel=1e-4)


def test_flow_finds_a_pan_and_warping_undoes_it(sets):
    photo = images.load_square(sets.photos.held_out[0], 160)
    before, now = flicker.pan(photo, 128, 3, 2)
    motion = flicker.flow(now, before)
    inner = motion[..., 8:-8, 8:-8]
    assert inner.median() == pytest.approx(3, abs=0.2)
    exact = torch.full((1, 2, 128, 128), 3.0)
    left = (now - flicker.warp(before, exact))[..., :-3, :-3]
    assert left.abs().max() < 1e-4
    table = flicker.errors([{"s": before}, {"s": now}], "s")
    assert table["warp"].item() < 0.3 * flicker.rms(now - before)
    assert table["seen"].item() > 0.7


def test_what_was_hidden_is_not_seen():
    """A square moves 5 pixels to the right: the strip that it leaves was behind it."""
    back, forth = torch.zeros(2, 1, 2, 40, 60)
    back[:, 0, 10:30, 25:45] = -5
    forth[:, 0, 10:30, 20:40] = 5
    hidden = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    hidden[..., 10:30, 20:25] = True
    assert torch.equal(~flicker.visible(back, forth), hidden)
    from_outside = torch.full((1, 2, 40, 60), 5.0)
    seen = flicker.visible(from_outside, -from_outside)
    assert seen[..., :35, :55].all() and seen.sum() == 35 * 55
