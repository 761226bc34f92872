"""Recipes change what they say; costs add up; the frontier is what its definition says."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE
from hypothesis import given
from hypothesis import strategies as st

from metastyle.studies import recipes
from metastyle.adaptation.adapt import crop_size, learning_rate
from metastyle.config import InputError
from metastyle.studies.recipes import START, Frontier, Kind
from metastyle.core.images import save
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.config import load, read
from metastyle.studies.recipes import PAPER, Recipes
from metastyle.evaluation.timing import Timing
from metastyle.core.network import new_network


@pytest.fixture(scope="module")
def plan():
    return read(ROOT / "params.yaml", "recipes", Recipes)


@pytest.fixture(scope="module")
def known(plan):
    return {name: recipes.settings(plan, name) for name in plan.names}


def test_a_recipe_differs_from_the_base_in_its_changes_alone(plan, known):
    for name, recipe in known.items():
        base = plan.adapt.model_dump()
        differs = {k for k, v in recipe.model_dump().items() if v != base[k]}
        assert differs == set(plan.changes[name].adapt), name
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
        read(path, "recipes", Recipes)


def test_a_run_is_judged_on_its_way_only_where_it_is_the_shorter_recipes(plan, known):
    for name, recipe in known.items():
        at = recipes.looks(recipe, plan.watch.evaluate_at)
        assert at[-1] == recipe.updates and at == sorted(set(at)), name
        for updates in at:
            short = recipes.cut(recipe, updates)
            for u in range(1, updates + 1):
                assert learning_rate(u, recipe) == learning_rate(u, short), name
                assert crop_size(u, recipe) == crop_size(u, short), name
    assert len(recipes.looks(known["base"], plan.watch.evaluate_at)) > 3
    assert recipes.looks(known["base"], [0, 200]) == [known["base"].updates]


def test_a_curve_holds_the_losses_of_the_shorter_recipe(sets, vgg, perceptual, tmp_path):
    plan = read(SMOKE, "recipes", Recipes)
    save(tmp_path / "style.png", torch.rand(1, 3, 48, 48))
    rest = (sets["photo/inner"], torch.rand(1, 3, 48, 48), vgg, perceptual)

    def curve(updates, **other):
        recipe = recipes.cut(plan.adapt, updates).model_copy(update=other)
        return recipes.curve(
            new_network(0), tmp_path / "style.png", *rest, recipe, plan.watch, cache=tmp_path
        )

    table = curve(2)
    assert table["update"].tolist() == [1, 2] and "seconds" not in table
    assert table["loss"].iloc[0] != table["loss"].iloc[1]
    assert curve(1)["loss"].tolist() == table["loss"].tolist()[:1]
    pd.testing.assert_frame_equal(curve(2), table)
    assert len(list(tmp_path.glob("tables/*.csv"))) == 2
    other = curve(2, learning_rate=1e-2)
    assert other["loss"].iloc[1] != table["loss"].iloc[1]


def timing(seconds):
    return Timing(seconds, seconds, seconds, 1)


def test_a_cost_is_the_start_and_each_update_at_its_size():
    base = read(SMOKE, "recipes", Recipes).adapt
    recipe = base.model_copy(
        update={"updates": 6, "sizes": [32, 64, 128], "contents_per_batch": 4, "warmup": 3}
    )
    seconds = {Kind(s, 4, "all", "float32"): timing(s / 32) for s in (32, 64, 128)}
    seconds[START] = timing(0.5)
    assert frontier.kinds([recipe, recipe]) == sorted(k for k in seconds if k != START)
    expected = np.cumsum([0.5, 1, 1, 2, 2, 4, 4])
    found = [frontier.cost(recipe, u, seconds) for u in range(7)]
    assert found == pytest.approx(expected)
    assert frontier.cost(recipes.cut(recipe, 3), 3, seconds) == pytest.approx(0.5 + 1 + 2 + 4)


def test_an_update_is_timed_without_what_precedes_it_and_a_large_one_by_area(monkeypatch):
    plan = read(SMOKE, "frontier", Frontier).model_copy(update={"largest": 32})
    base = read(SMOKE, "recipes", Recipes).adapt
    ran = []

    def fake(calls, *, repeats, budget):
        for call in calls.values():
            call()
        turns = [{n: 3.0 if n.startswith(("1 of", "2 of")) else 1.0 for n in calls}] * 2
        return pd.DataFrame(turns)

    monkeypatch.setattr(frontier, "side_by_side", fake)
    wanted = [Kind(16, 1, "all", "float32"), Kind(64, 2, "instance_norm", "bfloat16")]
    found = frontier.measure(
        wanted, lambda s, whole: ran.append((s, whole)), base, plan, {"other": lambda: None}
    )
    assert {k: t.median for k, t in found.items()} == {
        START: 1, "other": 1, wanted[0]: 3 - 1, wanted[1]: (3 - 1) * 4
    }  # fmt: skip
    made = [(s.updates, s.sizes, s.contents_per_batch, s.parameters, s.precision) for s, _ in ran]
    nothing = (0, base.sizes, 1, "all")
    assert made[:3] == [(*nothing, p) for p in ("float32", "bfloat16", "float32")]
    assert made[3:] == [(1, [16], 1, "all", "float32"), (1, [32], 2, "instance_norm", "bfloat16")]
    assert [whole for _, whole in ran] == [True, False, False, False, False]
    assert ran[3][0].seed != ran[4][0].seed


# Few values, so that equal seconds and equal ratios are common.
TABLES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6).map(lambda k: k / 4)), min_size=1, max_size=12
)


def table_of(pairs):
    return pd.DataFrame(pairs, columns=["seconds", "ratio"], dtype=float)


@given(TABLES)
def test_the_frontier_is_what_no_point_dominates(pairs):
    def dominated(p):
        return any(q[0] <= p[0] and q[1] <= p[1] and (q[0] < p[0] or q[1] < p[1]) for q in pairs)

    edge = frontier.efficient(table_of(pairs))
    found = list(edge[["seconds", "ratio"]].itertuples(index=False, name=None))
    assert found == sorted({p for p in pairs if not dominated(p)})


@given(TABLES, st.integers(1, 7))
def test_the_choice_is_the_best_affordable_point_and_the_cheapest_the_least_dear(pairs, limit):
    chosen = frontier.choice(table_of(pairs), limit)
    affordable = [(ratio, seconds) for seconds, ratio in pairs if seconds <= limit]
    if affordable:
        assert (chosen["ratio"], chosen["seconds"]) == min(affordable)
    else:
        assert chosen is None
    good = [(seconds, ratio) for seconds, ratio in pairs if ratio <= limit / 4]
    if good:
        found = frontier.cheapest(table_of(pairs), limit / 4)
        assert (found["seconds"], found["ratio"]) == min(good)


def losses_of(ends, paper):
    rows = [(PAPER, k, u, end * (3 - u)) for k, end in enumerate(paper) for u in (1, 2)]
    rows += [("a", k, 2, end) for k, end in enumerate(ends)]
    return pd.DataFrame(rows, columns=["recipe", "artwork", "update", "loss"])


def test_a_loud_painting_weighs_no_more_than_a_quiet_one():
    base = read(SMOKE, "recipes", Recipes).adapt
    known = dict.fromkeys(["a", PAPER], recipes.cut(base, 2))
    seconds = {START: timing(1.0), Kind(32, 1, "all", "float32"): timing(2.0)}
    for loud in (1, 1000):
        table = losses_of([5 * loud, 10], [10 * loud, 10])
        points = frontier.points(table, known, seconds).set_index(["recipe", "update"])
        assert points["ratio"]["a", 2] == pytest.approx(math.sqrt(0.5))
        assert points["ratio"][PAPER, 2] == 1
        assert points["ratio"][PAPER, 1] == pytest.approx(2)
        assert points["seconds"].to_dict() == {(PAPER, 1): 3, (PAPER, 2): 5, ("a", 2): 5}


def test_an_interval_of_ratios_spans_them_and_decides_the_verdict():
    rows = frontier.ratios(losses_of([5, 20, 10, 10], [10] * 4)).query("recipe == 'a'")
    ratio = geometric_mean(rows, "ratio", ["artwork"])
    assert ratio.value == pytest.approx(1)
    assert 0.5 <= ratio.low < 1 < ratio.high <= 2
    assert frontier.verdict(ratio) == "not told apart from"
    assert frontier.verdict(Interval(0.9, 0.8, 1.0)) == "no worse than"
    assert frontier.verdict(Interval(1.2, 1.1, 1.3)) == "worse than"
