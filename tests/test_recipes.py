"""Recipes change what they say, and are evaluated on the way only where that is fair."""

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE

from metastyle.adaptation.adapt import crop_size, learning_rate
from metastyle.config import InputError, load
from metastyle.core.images import save
from metastyle.core.network import new_network
from metastyle.studies import recipes
from metastyle.studies.recipes import PAPER, Recipes


@pytest.fixture(scope="module")
def settings():
    return Recipes.read(ROOT / "params.yaml", "recipes")


@pytest.fixture(scope="module")
def known(settings):
    return settings.known()


def test_a_recipe_differs_from_the_base_in_its_changes_alone(settings, known):
    base = settings.adapt.model_dump()
    for name, recipe in known.items():
        differs = {k for k, v in recipe.model_dump().items() if v != base[k]}
        assert differs == set(settings.changes[name].adapt), name
    assert len({recipe.model_dump_json() for recipe in known.values()}) == len(known)


def test_the_papers_recipe_is_the_papers(known):
    recipe = known[PAPER]
    assert (recipe.updates, recipe.contents_per_batch, recipe.sizes) == (200, 4, [256])
    assert (recipe.learning_rate, recipe.parameters) == (1e-3, "all")
    assert {learning_rate(u, recipe) for u in range(1, 201)} == {1e-3}


@pytest.mark.parametrize(
    ("name", "change", "names", "message"),
    [
        ("typo", {"updaets": 3}, [PAPER, "typo"], "typo changes updaets; it may updates, learn"),
        ("judge", {"style_size": 512}, [PAPER, "judge"], "judge changes style_size"),
        ("known", {}, [PAPER, "absent"], "changes has no absent"),
        ("known", {}, ["known"], "names lacks paper"),
    ],
)
def test_recipes_that_cannot_be_are_named(tmp_path, name, change, names, message):
    values = load(SMOKE)
    values["recipes"]["changes"][name] = {"why": "?", "adapt": change}
    values["recipes"]["names"] = names
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=message):
        Recipes.read(path, "recipes")


def test_a_run_is_evaluated_on_its_way_only_where_it_is_the_shorter_recipes(settings, known):
    wanted = settings.evaluations.evaluate_at
    for name, recipe in known.items():
        at = recipes.evaluate_at(recipe, wanted)
        assert at[-1] == recipe.updates and at == sorted(set(at)), name
        for updates in at:
            short = recipe.changed(updates=updates)
            for u in range(1, updates + 1):
                assert learning_rate(u, recipe) == learning_rate(u, short), name
                assert crop_size(u, recipe) == crop_size(u, short), name
    assert len(recipes.evaluate_at(known["base"], wanted)) > 3
    assert recipes.evaluate_at(known["base"], [0, 200]) == [known["base"].updates]


def test_a_curve_holds_the_losses_of_the_shorter_recipe(sets, loss, tmp_path, monkeypatch):
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path))
    settings = Recipes.read(SMOKE, "recipes")
    save(tmp_path / "style.png", torch.rand(1, 3, 48, 48))
    rest = (sets.photos.inner, torch.rand(1, 3, 48, 48), loss)

    def curve(updates, **other):
        recipe = settings.adapt.changed(updates=updates, **other)
        given = new_network(0), tmp_path / "style.png", *rest
        return recipes.curve(*given, recipe, settings.evaluations)

    table = curve(2)
    assert table["update"].tolist() == [1, 2] and "seconds" not in table
    assert table["loss"].iloc[0] != table["loss"].iloc[1]
    assert curve(1)["loss"].tolist() == table["loss"].tolist()[:1]
    pd.testing.assert_frame_equal(curve(2), table)
    assert len(list(tmp_path.glob("tables/*.csv"))) == 2
    other = curve(2, learning_rate=1e-2)
    assert other["loss"].iloc[1] != table["loss"].iloc[1]
