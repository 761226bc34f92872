"""Trials change what they say and nothing else, cost the same, and one that cannot be made is
named."""

import pytest
import torch
import yaml
from conftest import ROOT, SMOKE

from metastyle.config import InputError, load
from metastyle.core import images
from metastyle.core.network import new_network
from metastyle.meta.loader import training_images
from metastyle.meta.step import Step
from metastyle.meta.train import meta_train
from metastyle.studies import _trial, ablations
from metastyle.studies.ablations import Ablations, Trial

DERIVED = {"phases", "warmup", "style_warmup", "average_last"}  # from phase, lengths and cost


@pytest.fixture(scope="module")
def plan():
    return Ablations.read(ROOT / "params.yaml", "ablations")


def test_a_trial_differs_from_what_it_is_compared_with_in_its_changes_alone(plan):
    for name, trial in plan.trials.items():
        before, after = (ablations.changed(plan, k) for k in (trial.against, name))
        for group in ("lengths", "phase", "meta_train", "perceptual"):
            differs = {k for k, v in after[group].items() if v != before[group].get(k)}
            assert name == "base" or differs == set(getattr(trial, group)), name
        both = [
            ablations.settings(plan, k, 0).meta_train.model_dump() for k in (trial.against, name)
        ]
        differs = {k for k in both[0] if both[0][k] != both[1][k]} - DERIVED
        assert differs == set(trial.meta_train), name
        assert trial.against in ("base", "joint", "joint-start"), "dvc.yaml knows of no other"
    base = ablations.settings(plan, "base", 0)
    assert base.perceptual == plan.perceptual and base.start in plan.starts


def test_all_trials_but_the_control_cost_the_same(plan):
    for name in plan.names:
        found = ablations.settings(plan, name, 0)
        spent = sum(
            phase.iterations * plan.cost[ablations.kind(phase.model_dump())]
            for phase in found.meta_train.phases
        )
        if found.start in plan.starts:
            spent += ablations.changed(plan, found.start)["lengths"]["budget"]
        if name != "random":
            assert spent == pytest.approx(1200, rel=0.01), name


def test_changes_of_a_trial_come_on_top_of_the_one_that_it_is_compared_with(plan):
    shorter = Trial(why="?", against="first-order", lengths={"budget": 203})
    plan = plan.changed(trials={**plan.trials, "shorter": shorter})
    found = ablations.settings(plan, "shorter", 7)
    (phase,) = found.meta_train.phases
    assert (phase.order, phase.iterations, found.meta_train.seed) == ("first", 100, 7)


def test_what_a_trial_changes_is_shown_with_both_values(project):
    table = ablations.changes(project, "random")
    assert table.loc["goes on from"].to_dict() == {"base": "joint-start", "random": "random"}
    assert table.loc["iterations"].to_dict() == {"base": "2", "random": "0"}
    assert ablations.changes(project, "base").empty


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("typo", {"phase": {"ordre": "first"}}, "trials.typo: phases.0.ordre: unknown parameter"),
        ("worse", {"meta_train": {"decay": -1}}, "trials.worse: decay: .* got -1"),
        ("long", {"lengths": {"bugdet": 3}}, "trials.long: lengths: wrong or missing bugdet"),
        ("dear", {"phase": {"inner_steps": 2}}, "trials.dear: cost has no second-2; measure it"),
        ("begun", {"start": "joint"}, "trials.begun: start joint is none of `starts`"),
        ("alone", {"against": "nothing"}, "trials.alone: has no nothing above it to change"),
        ("base", {"against": "random"}, "trials.base: has no random above it to change"),
        ("absent", None, "trials has no absent"),
    ],
)
def test_a_trial_that_cannot_be_made_is_named(tmp_path, name, change, message):
    values = load(SMOKE)
    values["ablations"]["names"] = [name]
    if change is not None:
        values["ablations"]["trials"][name] = {"why": "?", **change}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(InputError, match=message):
        Ablations.read(path, "ablations")


def test_no_training_at_all_is_the_random_start(project, sets, loss):
    settings, *_ = ablations.settings(Ablations.read(project, "ablations"), "random", 3)
    result = meta_train(settings, training_images(sets), loss)
    assert result.log.empty
    start = new_network(3)
    for a, b in zip(start.parameters(), result.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_inner_rule_is_gradient_descent(project, sets, loss):
    plan = Ablations.read(project, "ablations")
    start, style = new_network(0), images.load(sets.artworks.train[0], 32)
    rule = plan.inner_rule.changed(steps=1, learning_rate=1e-6)
    given = start, style, sets.photos.train, loss, plan.adapt, rule
    losses, photos, networks = [], images.load_squares(sets.photos.validation[:1], 32), []
    for network in _trial.descend(*given):
        networks.append([p.detach().clone() for p in network.parameters()])
        value = loss.of_parameters(dict(network.named_parameters()), loss.style(style), photos)
        losses.append(value[0].item())
    assert len(networks) == 2 and losses[1] < losses[0]
    for a, b in zip(start.parameters(), networks[0], strict=True):
        assert torch.equal(a, b)
    half = _trial.descend(*given[:-1], rule.changed(learning_rate=5e-7))
    *_, network = half
    for a, b, c in zip(*networks, network.parameters(), strict=True):
        torch.testing.assert_close(c - a, (b - a) / 2, rtol=0.05, atol=1e-6)


def test_a_training_that_diverges_ends_there(project, sets, loss, monkeypatch):
    plan = Ablations.read(project, "ablations")
    gradient = Step.gradient

    def diverging(self, *given, **options):
        thetas.append([p.detach().clone() for p in self.theta.values()])
        found = gradient(self, *given, **options)
        return found * float("nan") if len(thetas) == 2 else found

    thetas = []
    monkeypatch.setattr(Step, "gradient", diverging)
    monkeypatch.setattr(ablations.cache, "cache_folder", lambda: None)
    given = training_images(sets), loss
    plan = plan.changed(trials={"base": Trial(why="?", start="random")}, starts=[], names=["base"],
                        directions={**plan.directions.model_dump(), "at": []})  # fmt: skip
    network, log = ablations._trained(project, plan, "base", 0, *given)
    assert len(log) == 1 and len(thetas) == 2
    for found, last in zip(network.parameters(), thetas[1], strict=True):
        assert torch.equal(found.detach(), last)
