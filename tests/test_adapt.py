"""A network is adapted from a start that stays, by the schedule written down, and until it has
converged."""

import itertools

import pytest
import torch

from metastyle.adaptation.adapt import (
    Adaptation,
    Evaluations,
    Stop,
    adapt,
    adapt_steps,
    adapt_until_converged,
    adapt_with_evaluation,
    crop_size,
    has_converged,
    learning_rate,
    training_steps,
)
from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.network import new_network, parameter_names


@pytest.fixture(scope="module")
def settings(project):
    return Adaptation.read(project, "adapt")


@pytest.fixture(scope="module")
def style():
    return torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def vector(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def linear(parameters, target, contents):
    """A loss whose gradient is 1, so that a step of Adam is as long as the learning rate."""
    value = sum(p.sum() for p in parameters.values())
    return value, value.detach()


def test_the_first_step_is_update_0_and_the_start_stays(sets, settings):
    start = new_network(0)
    before = vector(start)
    recipe = settings.changed(updates=6, warmup=2, schedule="cosine", learning_rate=0.1)
    steps = training_steps(start, linear, None, sets.photos.inner[:2], recipe)
    update, network = next(steps)
    assert update == 0 and network is not start
    assert torch.equal(vector(network), before)
    expected = before.double()
    for count, (update, network) in enumerate(steps, start=1):
        assert update == count
        expected -= learning_rate(update, recipe)
        torch.testing.assert_close(vector(network).double(), expected, rtol=0, atol=1e-5)
    assert count == 6
    assert torch.equal(vector(start), before)
    assert [u for u, _ in training_steps(start, linear, None, [], settings.changed(updates=0))] == [
        0
    ]


def test_learning_rate_and_crops_follow_their_schedule(settings):
    s = settings.changed(updates=9, warmup=3, learning_rate=4.0, sizes=[32, 64, 96])
    rates = [learning_rate(u, s.changed(schedule="cosine")) for u in range(1, 10)]
    assert rates[:4] == [1, 2, 3, 4]
    assert rates[6] == pytest.approx(2)  # half way down
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[3:]))
    assert [learning_rate(u, s.changed(schedule="constant")) for u in (4, 9)] == [4, 4]
    assert [crop_size(u, s) for u in range(1, 10)] == [32] * 3 + [64] * 3 + [96] * 3


@pytest.mark.parametrize("which", ["all", "instance_norm"])
def test_adaptation_changes_what_it_may(which, sets, style, loss, settings):
    start = new_network(0)
    before = {name: p.detach().clone() for name, p in start.named_parameters()}
    recipe = settings.changed(parameters=which, updates=2)
    network = adapt(start, style, sets.photos.inner[:4], loss, recipe)
    moved = {n for n, p in network.named_parameters() if not torch.equal(before[n], p)}
    # A bias that an instance norm subtracts again has no gradient, and stays.
    subtracted = {f"layers.{i}.bias" for i in (0, 3, 6, 15, 19)}
    subtracted |= {f"layers.{i}.body.{k}.bias" for i in range(9, 14) for k in (0, 3)}
    assert moved == set(parameter_names(which)) - subtracted
    assert all(torch.equal(before[n], p) for n, p in start.named_parameters())


def test_evaluation_changes_nothing_and_sees_the_loss_fall(sets, style, loss, settings):
    recipe = settings.changed(updates=6)
    given = new_network(0), style, sets.photos.inner[:4]
    plan = Evaluations(photos=2, photo_size=64, renders=1, evaluate_at=[0, 1, 6], render_at=[0, 6])
    unseen = images.load_squares(sets.photos.held_out[:2], plan.photo_size)
    made = adapt_with_evaluation(*given, unseen, loss, recipe, plan)
    assert torch.equal(vector(made.network), vector(adapt(*given, loss, recipe)))
    assert made.losses["update"].tolist() == plan.evaluate_at
    assert made.losses["seconds"].is_monotonic_increasing
    assert made.losses["loss"].iloc[-1] < made.losses["loss"].iloc[0]
    assert sorted(made.renders) == plan.render_at
    assert made.renders[0].shape == (plan.renders, 3, 64, 64)
    heavier = loss.changed(style_weight=2 * loss.settings.style_weight)
    judged = adapt_with_evaluation(
        *given, unseen, loss, settings.changed(updates=0), plan, judge=heavier
    )  # fmt: skip
    first = made.losses.iloc[0]
    expected = first["loss"] + loss.settings.style_weight * first["style"]
    assert judged.losses["loss"].item() == pytest.approx(expected, rel=1e-5)


RULE = Stop(every=2, evaluations=2, least=0.01, photos=1, photo_size=32)


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([9, 8, 7], False),
        ([9, 8], False),
        ([9, 8.95], False),
        ([9, 8.95, 8.92], True),
        ([9, 8.95, 8.9], False),
        ([9, 7, 7.0, 6.95], True),
        ([9, 7, 8], False),
        ([9, 7, 7, 10], True),
        ([9, 7, 6, 7.5], False),  # the last evaluation alone decides nothing
    ],
)
def test_the_rule_compares_the_last_evaluations_with_those_before(losses, converged):
    assert has_converged(losses, RULE) is converged


def test_training_ends_by_the_rule_or_at_the_last_update(sets, style, loss, settings):
    recipe = settings.changed(updates=7)
    given = new_network(0), style, sets.photos.inner[:4]

    def until(**changes):
        rule = RULE.changed(**changes)
        return vector(adapt_until_converged(*given, sets.photos.validation, loss, recipe, rule))

    after = {step.update: vector(step.network) for step in adapt_steps(*given, loss, recipe)}
    # Every evaluation counts as flat: evaluations after 0, 2 and 4 updates, the third may end it.
    assert torch.equal(until(least=1.0), after[4])
    assert torch.equal(until(evaluations=9), after[6])  # the last evaluation's
    recipe = recipe.changed(learning_rate=100.0, warmup=0)
    assert torch.equal(until(), vector(given[0]))  # the best evaluation's, here the first
    with pytest.raises(InputError, match="99 validation photos asked for"):
        until(photos=99)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"updates": -3}, "updates: input should be greater than or equal to 0, got -3"),
        ({"sizes": [30]}, "sizes.0: input should be a multiple of 4, got 30"),
        ({"updaets": 3}, "updaets: unknown parameter; known ones are updates, learning_rate"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_one_line(settings, values, message):
    with pytest.raises(InputError) as error:
        settings.changed(**values)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_other_updates_replace_all_of_them_and_nothing_else(settings):
    other = settings.changed(updates=1, learning_rate=0.5, sizes=[16], seed=9)
    mixed = settings.by(other)
    assert mixed == other.changed(seed=settings.seed)
