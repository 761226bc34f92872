"""What is read off curves of loss against updates."""

import numpy as np
import pandas as pd
import pytest

from metastyle.evaluation.curves import (
    ahead,
    catch_up,
    censored_median,
    first_reach,
    needed,
    ratios,
)
from metastyle.evaluation.statistics import Interval

RUN = ["artwork", "artist", "seed"]


def exponential(taus, scales=(1.0, 30.0), updates=(0, 10, 50, 100, 200)):
    """Curves that fall by a factor e every tau updates; paintings differ in their scale."""
    rows = [
        {"start": start, "artwork": f"{k}", "artist": f"{k}", "seed": seed, "update": u,
         "loss": scale * np.exp(-u / tau)}
        for start, tau in taus.items()
        for k, scale in enumerate(scales) for seed in (0, 1) for u in updates
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_first_reach_is_exact_on_exponentials():
    updates = np.array([0, 10, 50, 100])
    losses = 7 * np.exp(-updates / 20)
    for wanted in (0.0, 3.0, 10.0, 77.0, 100.0):
        assert first_reach(updates, losses, 7 * np.exp(-wanted / 20)) == pytest.approx(wanted)
    assert first_reach(updates, losses, 7 * np.exp(-101 / 20)) == float("inf")
    assert first_reach(updates, losses, 8.0) == 0
    up_again = [8.0, 2.0, 16.0, 1.0]
    assert first_reach(updates, up_again, 4.0) == pytest.approx(5.0)  # the first time


def test_catching_up_knows_how_much_slower_a_start_is():
    curves = exponential({"metastyle": 30, "slow": 75})
    caught = catch_up(curves, "metastyle", [10, 50, 100], run=RUN)
    assert len(caught) == 3 * 4 and set(caught["start"]) == {"slow"}
    for count, expected in ((10, 25.0), (50, 125.0), (100, float("inf"))):
        reached = caught.loc[caught["count"] == count, "reached"]
        assert reached.tolist() == pytest.approx([expected] * 4)


def test_a_median_beyond_the_end_is_told_as_the_end():
    def median(*reached):
        rows = pd.DataFrame({"reached": reached, "artist": range(len(reached))})
        return censored_median(rows, 200, ["artist"])

    never = float("inf")
    assert median(10, never, 30, never, 20).value == 30
    assert median(10, never, 30, never, never).value == 200
    assert median(never, never, never) == Interval(200, 200, 200)
    assert median(10, never, 30, never, 20).high == 200


def test_updates_needed_say_where_they_end():
    curves = exponential({"slow": 75, "metastyle": 30, "long": 75})
    further = exponential({"long": 75}, updates=(300,))
    table = needed(
        pd.concat([curves, further]), "metastyle", [10, 100], run=RUN, over=["artist", "seed"]
    )
    assert table.index.tolist() == ["slow", "long"] and table.columns.tolist() == [10, 100]
    assert str(table.at["slow", 10]) == "25 [25, 25], 0 of 4 never"
    assert table.at["slow", 10].told() == "0 of 4 runs do not get there."
    assert str(table.at["slow", 100]) == "> 200 [> 200, > 200], 4 of 4 never"
    assert table.at["slow", 100].told() == "4 of 4 runs do not get there; 200 stands for more."
    assert str(table.at["long", 100]) == "250 [250, 250], 0 of 4 never"


def test_ratios_do_not_see_the_scale_of_a_painting():
    curves = exponential({"metastyle": 50, "scratch": 100}, scales=(1.0, 30.0, 1e-3))
    table = ratios(curves, "metastyle", [50, 100], run=RUN, over=["artist", "seed"])
    assert table.index.tolist() == ["scratch"] and table.columns.tolist() == [50, 100]
    for count in (50, 100):
        assert table.at["scratch", count] == pytest.approx([np.exp(count / 100)] * 3)


def test_ratios_pair_the_same_run():
    curves = exponential({"metastyle": 50, "scratch": 50})
    shuffled = curves.sample(frac=1, random_state=0)
    table = ratios(shuffled, "metastyle", [100], run=RUN, over=["artist"])
    assert table.at["scratch", 100] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("lows", "rivals", "expected"),
    [
        ({"a": [1.1, 1.2]}, ["a"], [10, 50]),
        ({"a": [1.1, 1.0]}, ["a"], [10]),
        ({"a": [0.9, 0.8]}, ["a"], []),
        ({"a": [1.1, 1.2], "b": [1.1, 0.9]}, ["a", "b"], [10]),
        ({"a": [1.1, 0.9], "b": [0.9, 1.1]}, ["a", "b"], []),
        ({"a": [1.1, 1.2], "b": [0.1, 0.1]}, ["a"], [10, 50]),
    ],
)
def test_ahead_where_the_whole_interval_of_every_rival_is_above_1(lows, rivals, expected):
    table = pd.DataFrame(index=list(lows), columns=[10, 50], dtype=object)
    for start, values in lows.items():
        for count, low in zip((10, 50), values, strict=True):
            table.at[start, count] = Interval(2.0, low, 3.0)
    assert ahead(table, rivals) == expected
