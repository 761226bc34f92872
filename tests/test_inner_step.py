"""What one inner step does, and what is concluded from it."""

import pandas as pd
import pytest
import torch

from metastyle.core.network import new_network
from metastyle.studies import inner_step
from metastyle.studies.inner_step import OFF, PAPER


@pytest.fixture
def given(loss):
    """A start, a painting, photos, and a loss without our penalties."""
    generator = torch.Generator().manual_seed(0)
    painting, photos = (torch.rand(n, 3, 32, 32, generator=generator) for n in (1, 2))
    theta = {n: p.detach() for n, p in new_network(0).named_parameters()}
    return theta, painting, photos, loss.changed(**OFF)


def test_terms_and_factor_are_those_of_the_loss(given):
    theta, painting, photos, loss = given
    style = loss.style(painting)
    leaves = {name: p.clone().requires_grad_() for name, p in theta.items()}
    before, _ = loss.of_parameters(leaves, style, photos)
    found = torch.autograd.grad(before, [*leaves.values()], materialize_grads=True)
    gradient = dict(zip(theta, found, strict=True))
    (found,) = inner_step._steps(theta, painting, photos, loss, [1e-6], list(theta))
    norm = torch.cat([g.flatten() for g in gradient.values()]).norm().item()
    assert found["loss"] == pytest.approx(before.item(), rel=1e-4)
    assert found["content"] + found["style"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    moved = {name: p - 1e-6 * gradient[name] for name, p in theta.items()}
    after = loss.of_parameters(moved, style, photos)[0].item()
    assert found["factor"] == pytest.approx(after / before.item(), rel=1e-4)
    assert found["factor"] < 1


def test_a_sum_over_entries_weighs_more_and_no_penalty_counts(given):
    theta, painting, photos, loss = given
    mean, total = (
        next(inner_step._steps(theta, painting, photos, of, [1e-9], list(theta)))
        for of in (loss, loss.changed(variant="paper"))
    )
    assert mean["content"] == pytest.approx(total["content"])
    assert total["style"] > 64**2 * mean["style"]


def steps(release, paper, trained_loss=10.0):
    """A table of `measure`: factors at the paper's delta from both starts, of two paintings."""
    rows = [
        {"variant": variant, "start": start, "painting": k, "loss": value, "content": 1.0,
         "style": value - 1, "gradient_norm": 1.0, "delta": delta, "factor": factor * scale}
        for variant, factors in (("release", release), ("paper", paper))
        for start, factor, value in zip(("random", "trained"), factors, (100.0, trained_loss),
                                        strict=True)
        for k, scale in enumerate((0.5, 2.0))  # geometric mean 1
        for delta in (PAPER, 1e-3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


COMPARED = pd.DataFrame(
    {"delta": [PAPER], "joint": [0.5], "first_order": [0.9], "second_order_share": [0.3]}
)


def conclusions(table):
    rows = inner_step.judge(table, COMPARED)
    return [(row.ours, row.verdict) for row in rows if row.rule]


def test_what_is_concluded():
    can, cannot = conclusions(steps((2.0, 0.97), (7000.0, 150.0)))
    assert can == ("can have been run", "reproduced")
    words = "cannot have been run: one inner step multiplies the loss by 150"
    assert cannot == (words, "not reproduced")
    assert conclusions(steps((0.9, 1.2), (7000.0, 150.0)))[0] == ("not decided", "undecided")
    untrained = steps((2.0, 0.97), (7000.0, 150.0), trained_loss=100.0)
    assert conclusions(untrained) == [("not decided", "undecided")] * 2


def test_directions_are_rows_too_and_the_table_has_a_column_per_delta():
    rows = {row.quantity: row.ours for row in inner_step.judge(steps((2, 1), (2, 2)), COMPARED)}
    quantity = "cosine of the exact gradient and joint training's, at delta 0.0001 from the "
    assert rows[f"{quantity}trained start"] == 0.5
    table = inner_step.table(steps((2.0, 0.97), (7000.0, 150.0)))
    assert table.loc[("release", "trained"), "loss"] == 10
    found = table.loc[("paper", "random"), "loss after a step of 0.0001, over before"]
    assert found == pytest.approx(7000)
