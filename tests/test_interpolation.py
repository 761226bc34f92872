"""Blends of networks, walks along them, and the verdict of chapter 9."""

import itertools

import pandas as pd
import pytest
import torch

from metastyle.adaptation.interpolation import blend
from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.network import new_network
from metastyle.evaluation import statistics
from metastyle.studies import interpolation
from metastyle.studies.interpolation import BLENDS, FADE, along, cross_fade, smoothness, triangle


def parameters(network):
    return {name: p.detach() for name, p in network.named_parameters()}


def test_blend_is_the_convex_combination():
    networks = [new_network(seed) for seed in range(3)]
    mixed = parameters(blend(networks, [0.2, 0.3, 0.5]))
    for name, value in mixed.items():
        a, b, c = (parameters(network)[name] for network in networks)
        torch.testing.assert_close(value, 0.2 * a + 0.3 * b + 0.5 * c)
    for weights in ([0.5, 0.6, -0.1], [0.5, 0.5], [0.5, 0.5, 0.5]):
        with pytest.raises(InputError, match="summing to 1"):
            blend(networks, weights)


def test_blend_of_one_is_itself_and_nested_blends_multiply():
    a, b, c = (new_network(seed).double() for seed in range(3))
    inner = blend([a, b], [0.25, 0.75])
    assert next(inner.parameters()).dtype == torch.float64
    nested, flat = blend([inner, c], [0.4, 0.6]), blend([a, b, c], [0.1, 0.3, 0.6])
    for name, value in parameters(nested).items():
        torch.testing.assert_close(value, parameters(flat)[name], rtol=1e-14, atol=1e-15)
        one = parameters(blend([a, b], [1, 0]))[name]
        assert torch.equal(one, parameters(a)[name])


def test_triangle_has_the_styles_at_its_corners():
    rows = triangle(3)
    assert [len(row) for row in rows] == [1, 2, 3, 4]
    assert (rows[0][0], rows[3][0], rows[3][3]) == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert rows[2][1] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    for row in rows:
        for weights in row:
            assert min(weights) >= 0 and sum(weights) == pytest.approx(1, abs=1e-12)


def test_a_jump_is_no_smooth_walk_and_a_step_is_a_distance(loss, sets):
    a, b = images.load_squares(sets.photos.held_out[:2], 32).split(1)
    targets = {"style": loss.style(b)}
    jump = along(torch.cat([a, a, a, b, b]), loss, targets)
    assert jump["step"].iloc[1:].tolist() == pytest.approx([0, 0, jump["distance"].iloc[-1], 0])
    found = smoothness(jump, ["style"])
    assert found == pytest.approx({"largest": 4, "detour": 1, "hill": 1})
    assert jump["style"].iloc[-1] == pytest.approx(0, abs=1e-9) and jump["style"].iloc[0] > 1e-6
    fade = smoothness(along(cross_fade(a, b, [0, 0.25, 0.5, 0.75, 1]), loss, targets), ["style"])
    assert 1 <= fade["largest"] < 2 and fade["detour"] >= 1
    over = smoothness(along(torch.cat([b, a, 0.9 * b]), loss, targets), ["style"])
    assert over["hill"] > 2  # the ends are nearer to the painting
    there = smoothness(along(torch.cat([a, b, a, b]), loss, {}), [])
    assert (there["largest"], there["detour"]) == pytest.approx((1, 3))


def walk(line, kind, photo, steps, hill=1.0):
    """Four pictures with these steps between them; style losses fall, but for a hill inside."""
    losses = [4, 3 * hill, 2, 1]
    table = pd.DataFrame({"step": [float("nan"), *steps], "style 1": losses, "style 2": losses})
    distance = [0, *itertools.accumulate(steps)]
    places = [0, 1 / 3, 2 / 3, 1]
    return table.assign(distance=distance, line=line, kind=kind, photo=photo, λ=places)


@pytest.mark.parametrize(
    ("strength", "hill", "verdict"),
    [
        ([1, 1, 1], 1, "reproduced"),
        ([1, 1.08, 1], 1, "reproduced"),  # its largest step is within a tenth of the cross-fade's
        ([1, 9, 1], 1, "partly"),
        ([1, 1, 1], 2, "not reproduced"),  # both lines have a hill
    ],
)
def test_the_verdict_asks_for_even_steps_and_no_hill(project, monkeypatch, strength, hill, verdict):
    monkeypatch.setattr(statistics, "DRAWS", 20)
    steps = {("two styles", BLENDS): [1, 1, 1], ("strength", BLENDS): strength}
    walks = pd.concat(
        walk(line, kind, photo, steps.get((line, kind), [1, 1, 1]), hill)
        for line in interpolation.LINES
        for kind in (BLENDS, FADE)
        for photo in "ab"
    )
    settings = interpolation.Interpolation.read(project, "interpolation")
    run = interpolation.Run(settings, ["a", "b", "c"], [], [], {}, [], walks)
    first, *rest = interpolation.judge(run)
    assert (first.claim, first.verdict, first.rule) == ("C6", verdict, interpolation.RULE)
    assert len(rest) == 5 and not any(row.rule for row in rest)
    middle = interpolation.middle(run)
    assert middle.shape == (2, 2) and middle.loc[BLENDS, "b"].value == 2
