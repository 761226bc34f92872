"""Trials change what they say and nothing else, and one that cannot be made is named."""

import pytest
import torch
import yaml
from conftest import ROOT, SMOKE

from metastyle.config import InputError, load
from metastyle.core.network import new_network
from metastyle.meta.loader import training_images
from metastyle.meta.train import meta_train
from metastyle.studies import ablations
from metastyle.studies.ablations import Ablations, Change


@pytest.fixture(scope="module")
def plan():
    return Ablations.read(ROOT / "params.yaml", "ablations")


def test_a_trial_differs_from_what_it_is_compared_with_in_its_changes_alone(plan):
    for name, change in plan.changes.items():
        before, after = ablations.settings(plan, change.against), ablations.settings(plan, name)
        for old, new, values in zip(
            before, after, (change.meta_train, change.perceptual), strict=True
        ):
            differs = {k for k, v in new.model_dump().items() if v != old.model_dump()[k]}
            assert differs == set(values), name
    assert ablations.settings(plan, "base") == (plan.meta_train, plan.perceptual)


def test_changes_of_a_trial_come_on_top_of_the_one_that_it_is_compared_with(plan):
    shorter = Change(why="?", against="first-order", meta_train={"iterations": 7})
    plan = plan.changed(changes={**plan.changes, "shorter": shorter})
    meta_train, _ = ablations.settings(plan, "shorter")
    assert (meta_train.order, meta_train.iterations) == ("first", 7)


def test_what_a_trial_changes_is_shown_with_both_values(project):
    table = ablations.changes(project, "random")
    assert table.loc["iterations"].to_dict() == {"base": "2", "random": "0"}
    assert ablations.changes(project, "base").empty


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("typo", {"meta_train": {"ordre": "first"}}, "changes.typo: ordre: unknown parameter"),
        ("worse", {"meta_train": {"iterations": -1}}, "changes.worse: iterations: .* got -1"),
        ("alone", {"against": "nothing"}, "changes.alone: has no nothing above it to change"),
        ("base", {"against": "random"}, "changes.base: has no random above it to change"),
        ("absent", None, "changes has no absent"),
    ],
)
def test_a_trial_that_cannot_be_made_is_named(tmp_path, name, change, message):
    values = load(SMOKE)
    values["ablations"]["names"] = [name]
    if change is not None:
        values["ablations"]["changes"][name] = {"why": "?", **change}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=message):
        Ablations.read(path, "ablations")


def test_no_training_at_all_is_the_random_start(project, sets, loss):
    settings, _ = ablations.settings(Ablations.read(project, "ablations"), "random")
    result = meta_train(settings, training_images(sets), loss)
    assert result.log.empty
    start = new_network(settings.seed)
    for a, b in zip(start.parameters(), result.network.parameters(), strict=True):
        assert torch.equal(a, b)
