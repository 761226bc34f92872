"""Costs add up; the frontier is what its definition says."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import SMOKE
from hypothesis import given
from hypothesis import strategies as st

from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.evaluation.timing import Timing
from metastyle.studies import frontier
from metastyle.studies.frontier import START, Kind
from metastyle.studies.recipes import PAPER, Recipes


@pytest.fixture(scope="module")
def base():
    return Recipes.read(SMOKE, "recipes").adapt


def timing(seconds):
    return Timing(seconds, seconds, seconds, 1)


def test_a_cost_is_the_start_and_each_update_at_its_size(base):
    recipe = base.changed(updates=6, sizes=[32, 64, 128], contents_per_batch=4, warmup=3)
    seconds = {Kind(s, 4, "all", "float32"): timing(s / 32) for s in (32, 64, 128)}
    seconds[START] = timing(0.5)
    assert frontier.kinds([recipe, recipe]) == sorted(k for k in seconds if k != START)
    expected = np.cumsum([0.5, 1, 1, 2, 2, 4, 4])
    found = [frontier.cost(recipe, u, seconds) for u in range(7)]
    assert found == pytest.approx(expected)
    shorter = recipe.changed(updates=3)
    assert frontier.cost(shorter, 3, seconds) == pytest.approx(0.5 + 1 + 2 + 4)


def test_an_update_is_timed_without_what_precedes_it_and_a_large_one_by_area(base, monkeypatch):
    ran = []

    def fake(calls, *, repeats, budget):
        for call in calls.values():
            call()
        turns = [{n: 3.0 if n.startswith(("1 of", "2 of")) else 1.0 for n in calls}] * 2
        return pd.DataFrame(turns)

    monkeypatch.setattr(frontier, "time_in_turns", fake)
    wanted = [Kind(16, 1, "all", "float32"), Kind(64, 2, "instance_norm", "bfloat16")]
    limits = {"turns": 2, "budget": 0, "largest": 32}
    others = {"other": lambda: None}
    found = frontier.measure(wanted, lambda *run: ran.append(run), base, others, **limits)
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


def test_a_painting_of_large_losses_weighs_no_more_than_another(base):
    known = dict.fromkeys(["a", PAPER], base.changed(updates=2))
    seconds = {START: timing(1.0), Kind(32, 1, "all", "float32"): timing(2.0)}
    for scale in (1, 1000):
        table = losses_of([5 * scale, 10], [10 * scale, 10])
        points = frontier.points(table, known, seconds).set_index(["recipe", "update"])
        assert points["ratio"]["a", 2] == pytest.approx(math.sqrt(0.5))
        assert points["ratio"][PAPER, 2] == 1
        assert points["ratio"][PAPER, 1] == pytest.approx(2)
        assert points["seconds"].to_dict() == {(PAPER, 1): 3, (PAPER, 2): 5, ("a", 2): 5}


def test_an_interval_of_ratios_spans_them_and_decides_the_comparison():
    losses = losses_of([5, 20, 10, 10], [10] * 4)
    ratio = frontier.ratio(losses, pd.Series({"recipe": "a", "update": 2}))
    rows = frontier.ratios(losses).query("recipe == 'a'")
    assert ratio == geometric_mean(rows, "ratio", ["artwork"])
    assert ratio.value == pytest.approx(1)
    assert 0.5 <= ratio.low < 1 < ratio.high <= 2
    assert frontier.compared(ratio) == "not distinguishable from"
    assert frontier.compared(Interval(0.9, 0.8, 1.0)) == "no worse than"
    assert frontier.compared(Interval(1.2, 1.1, 1.3)) == "worse than"
