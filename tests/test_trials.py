"""Trials change what they say and nothing else; a watched adaptation is the plain one."""

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE

from metastyle.adaptation.adapt import Adaptation, adapt
from metastyle.config import InputError
from metastyle.evaluation.defects import saturated_patches
from metastyle.config import load, read
from metastyle.meta.train import Images, MetaTraining, meta_train
from metastyle.core.network import new_network
from metastyle.studies.ablations import Trials, settings
from metastyle.adaptation.adapt import AdaptStyles, adapt_and_watch


@pytest.fixture(scope="module")
def plan():
    return read(ROOT / "params.yaml", "trials", Trials)


def test_a_trial_differs_from_the_base_in_its_changes_alone(plan):
    for name in plan.names:
        meta_train, perceptual = settings(plan, name)
        change = plan.changes[name]
        for base, made, values in (
            (plan.meta_train, meta_train, change.meta_train),
            (plan.perceptual, perceptual, change.perceptual),
        ):
            differs = {k for k, v in made.model_dump().items() if v != base.model_dump()[k]}
            assert differs == set(values), name


def test_a_misspelt_change_is_named(tmp_path):
    values = load(SMOKE)
    values["trials"]["changes"]["typo"] = {"why": "?", "meta_train": {"ordre": "first"}}
    values["trials"]["names"] = ["typo"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="typo changes ordre"):
        read(path, "trials", Trials)
    values["trials"]["names"] = ["absent"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="changes has no absent"):
        read(path, "trials", Trials)
    values["trials"]["names"] = ["typo"]
    values["trials"]["changes"]["typo"] = {"why": "?", "against": "nothing"}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="changes has no nothing to compare with"):
        read(path, "trials", Trials)


def test_watching_changes_nothing(sets, vgg, perceptual):
    recipe = read(SMOKE, "adapt", Adaptation)
    watch = read(SMOKE, "adapt_styles", AdaptStyles)
    style, photos = torch.rand(1, 3, 48, 48), torch.rand(2, 3, 64, 64)
    training = sets["photo/inner"]
    alone, _ = adapt(new_network(0), style, training, vgg, perceptual, recipe)
    seen = adapt_and_watch(new_network(0), style, training, photos, vgg, perceptual, recipe, watch)
    for a, b in zip(alone.parameters(), seen.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert seen.losses["update"].tolist() == watch.evaluate_at
    assert seen.losses["seconds"].is_monotonic_increasing
    assert sorted(seen.renders) == watch.render_at
    assert seen.renders[0].shape == (watch.renders, 3, 64, 64)


def test_patches_are_saturated_squares_that_the_photo_does_not_have():
    photo = torch.full((1, 3, 32, 32), 0.5)
    output = photo.clone()
    output[..., 4:13, 4:12] = 1.0  # 9 x 8 pixels hold two squares of side 8
    windows = (32 - 8 + 1) ** 2
    assert float(saturated_patches(output, photo)) == pytest.approx(2 / windows)
    assert float(saturated_patches(output, output)) == 0
    output[:, 1, 8, 8] = 0.5  # still one free value in every square
    assert float(saturated_patches(output, photo)) == 0


def test_no_training_at_all_is_the_random_start(sets, vgg, perceptual):
    settings = read(SMOKE, "meta_train", MetaTraining).model_copy(
        update={"iterations": 0, "snapshots": []}
    )
    images = Images(sets["photo/inner"], sets["photo/outer"], sets["artwork/train"])
    result = meta_train(settings, perceptual, images, vgg)
    assert isinstance(result.log, pd.DataFrame) and result.log.empty
    start = new_network(settings.seed)
    for a, b in zip(start.parameters(), result.network.parameters(), strict=True):
        assert torch.equal(a, b)
