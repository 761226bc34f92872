"""Bootstrap intervals against cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metastyle.evaluation.statistics import bootstrap, weighted_mean, weighted_median


@given(
    arrays(float, 7, elements=st.floats(-10, 10)),
    arrays(int, 7, elements=st.integers(0, 4)).filter(lambda w: w.any()),
)
def test_a_weight_is_so_many_repetitions(values, weights):
    assert weighted_median(values, weights) == pytest.approx(np.median(values.repeat(weights)))
    assert weighted_mean(values, weights) == pytest.approx(np.mean(values.repeat(weights)))


def test_the_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(1).normal(3, 2, 400)
    rows = pd.DataFrame({"x": values, "photo": range(400)})
    interval = bootstrap(rows, "x", ["photo"])
    assert interval.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)


def test_repeated_photos_of_one_painting_are_no_new_evidence():
    generator = np.random.default_rng(2)
    paintings = generator.normal(0, 1, 9)
    rows = pd.DataFrame(
        [(s, p, paintings[s]) for s in range(9) for p in range(50)], columns=["style", "photo", "x"]
    )
    both = bootstrap(rows, "x", ["style", "photo"])
    naive = bootstrap(rows.assign(row=range(len(rows))), "x", ["row"])
    assert both.high - both.low > 4 * (naive.high - naive.low)


def test_constant_values_have_no_spread_and_no_rows_are_refused():
    rows = pd.DataFrame({"x": [2.0] * 3, "photo": [0, 1, 2]})
    assert bootstrap(rows, "x", ["photo"], weighted_median) == (2, 2, 2)
    with pytest.raises(ValueError, match="no rows"):
        bootstrap(rows[:0], "x", ["photo"])
