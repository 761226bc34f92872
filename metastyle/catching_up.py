"""What curves of loss against updates say: ratios at equal counts, a verdict, who catches up when.

A table of curves has a row per arm (how a curve starts), run and update: columns arm, update,
loss, and those that name a run. All arms have the same runs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from metastyle.intervals import Interval, bootstrap, weighted_median


def ratios(
    curves: pd.DataFrame,
    reference: str,
    counts: Sequence[int],
    *,
    run: Sequence[str],
    over: Sequence[str],
) -> pd.DataFrame:
    """Median over the runs of an arm's loss over the reference's in the same run, by the number
    of updates.

    Args:
        run: columns that name a run, photo included where losses are a photo's.
        over: those that are resampled for the interval, see `intervals.bootstrap`.

    Returns:
        An `Interval` per arm (index, the reference left out) and count (columns).
    """
    table = curves[curves["update"].isin(counts)]
    wide = table.set_index([*run, "update", "arm"])["loss"].unstack("arm")
    arms = [arm for arm in dict.fromkeys(curves["arm"]) if arm != reference]
    result = pd.DataFrame(index=arms, columns=list(counts), dtype=object)
    for arm in arms:
        ratio = (wide[arm] / wide[reference]).rename("ratio").reset_index()
        for count in counts:
            rows = ratio[ratio["update"] == count]
            result.at[arm, count] = bootstrap(rows, "ratio", over, weighted_median)
    return result


def verdict(intervals: pd.DataFrame, rivals: Sequence[str]) -> str:
    """Whether the reference is ahead of all `rivals`, by the rule that notebook 15 writes down.

    The reference is ahead at a count where the whole interval of every rival's ratio lies above 1.

    Args:
        intervals: from `ratios`.

    Returns:
        `reproduced` if it is ahead at every count, `partly` with the counts if at some, else
        `not reproduced`.
    """
    ahead = [
        count
        for count in intervals.columns
        if all(intervals.at[rival, count].low > 1 for rival in rivals)
    ]
    if len(ahead) == len(intervals.columns):
        return "reproduced"
    return f"partly (at {', '.join(map(str, ahead))})" if ahead else "not reproduced"


def first_reach(updates: Sequence[int], losses: Sequence[float], target: float) -> float:
    """The number of updates at which a curve first comes down to a loss; infinity if it does not.

    Between the points of the curve the logarithm of the loss is taken to be linear in the updates.
    """
    updates, logs = np.asarray(updates, float), np.log(np.asarray(losses, float))
    level = np.log(target)
    below = np.flatnonzero(logs <= level)
    if not below.size:
        return float("inf")
    k = below[0]
    if k == 0:
        return float(updates[0])
    share = (logs[k - 1] - level) / (logs[k - 1] - logs[k])
    return float(updates[k - 1] + share * (updates[k] - updates[k - 1]))


def catch_up(
    curves: pd.DataFrame, reference: str, counts: Sequence[int], *, run: Sequence[str]
) -> pd.DataFrame:
    """When each arm reaches the loss that the reference has after `counts` updates of the same run.

    Returns:
        The run's columns, arm, count, and `reached`: updates, infinity where the arm's curve ends
        before (censored).
    """
    rows = []
    for key, here in curves.groupby(list(run), sort=False):
        lines = {
            arm: line.sort_values("update").set_index("update")["loss"]
            for arm, line in here.groupby("arm", sort=False)
        }
        for arm, line in lines.items():
            if arm != reference:
                for count in counts:
                    reached = first_reach(line.index, line, lines[reference][count])
                    named = dict(zip(run, key, strict=True))
                    rows.append({**named, "arm": arm, "count": count, "reached": reached})
    return pd.DataFrame(rows)


def censored_median(rows: pd.DataFrame, limit: float, over: Sequence[str]) -> Interval:
    """Median of `reached`, where curves were followed for `limit` updates.

    All curves of an arm end at the same number of updates, so that the median is known as long as
    more than half of them reach the loss. Where it (or a bound of its interval) is not known it is
    `limit`, and the truth is beyond.
    """

    def median(values: np.ndarray, weights: np.ndarray) -> float:
        return min(weighted_median(values, weights), limit)

    return bootstrap(rows, "reached", over, median)
