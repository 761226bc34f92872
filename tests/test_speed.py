"""Variants of one meta-gradient: they compute what they are named for, and are measured as said."""

import pandas as pd
import pytest
import torch

from metastyle.core import crops, images
from metastyle.core.network import new_network
from metastyle.evaluation.machine import has_bfloat16
from metastyle.studies import speed
from metastyle.studies._variants import cosine, distance
from metastyle.studies.speed import Speed


@pytest.fixture(scope="module")
def scale(project):
    return Speed.read(project, "speed").scales[0]


def test_variants_give_the_gradients_they_are_named_for(project, scale):
    variants, ablations, draw = speed.prepare(project, scale)
    theta = dict(new_network(0).named_parameters())
    found = {name: variant(theta) for name, variant in variants.items()}
    assert set(found) == {"plain", "exact", "first order"} | ({"fast"} if has_bfloat16() else set())
    # By their cosines the first order would pass too: what counts is the distance without it.
    hessian = distance(found["first order"], found["plain"])
    for same in (found["exact"], *(ablation(theta) for ablation in ablations.values())):
        assert distance(same, found["plain"]) < 0.3 * hessian
    if "fast" in found:
        # From a random network the inner step overshoots, and multiplies what rounding does.
        assert 0.95 < cosine(found["first order"], found["fast"]) < 1 - 1e-9
    assert len(draw(2)) == scale.styles_per_iteration
    shares = speed.shares(lambda: variants["exact"](theta))
    assert sum(shares.values()) == pytest.approx(1) and shares["convolutions"] > 0.2


def test_variants_are_measured_against_the_plain_one(project, monkeypatch):
    steps = dict.fromkeys(("plain", "exact", "fast"), lambda theta: None)
    monkeypatch.setattr(speed, "prepare", lambda *_: speed.Prepared(steps, {}, None))
    turns = pd.DataFrame({"plain": [6.0, 8.0, 9.0], "exact": [4.0, 4.0, 4.0], "fast": [2.0] * 3})
    monkeypatch.setattr(speed, "time_in_turns", lambda *_, **__: turns)
    monkeypatch.setattr(speed.operations, "operations", lambda step: 100.0)
    used = {"plain": (1.0, 3.0), "exact": (1.0, 2.0), "fast": (1.0, 1.5)}
    found = {name: dict(zip(("before", "peak"), u, strict=True)) for name, u in used.items()}
    monkeypatch.setattr(speed, "memory", lambda name, *_: found[name])
    table = speed.variants(project, {"convolution float32": 50.0, "convolution bfloat16": 100.0})
    exact, fast = table.iloc[1], table.iloc[2]
    assert exact["times faster"] == 2.0 and exact["low"] == 1.75
    assert exact["of float32's ceiling"] == 0.5 and pd.isna(exact["of bfloat16's"])
    assert fast["of bfloat16's"] == 0.5
    assert exact["of plain's peak"] == pytest.approx(2 / 3) and exact["of plain's own"] == 0.5
    goals = speed.goals(project, table).set_index(["variant", "measure"])["reached"]
    assert goals["exact", "times faster"] and goals["exact", "of plain's own"]
    assert not goals["exact", "of plain's peak"]
    assert speed.shown(table).loc["of bfloat16's"].tolist() == ["", "", "0.5"]


def test_input_is_timed_with_and_without_decoding(sets, monkeypatch):
    files, decoded, drawn = sets.photos.inner, [], []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda file: decoded.append(file) or decode(file))
    crops.forget_decoded()

    def draw(iteration):
        crops.decoded(files[iteration])
        drawn.append(len(decoded))

    seconds = speed.input_seconds(draw, 3)
    assert set(seconds) == {"decoded before", "decoded anew"}
    # The images are decoded once, then drawn without decoding, then decoded at each draw.
    assert drawn == [1, 2, 3, 4] + [4] * 4 + [5, 6, 7, 8]


def test_memory_counts_what_a_step_takes_and_nothing_of_its_parent(project, scale):
    mine = torch.zeros(2**28).fill_(1.0)  # 1 GiB
    used = speed.memory("exact", scale, project)
    assert 0.1 < used["before"] < used["peak"] < 0.5 + used["before"]
    assert mine[-1] == 1
