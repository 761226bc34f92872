"""What curves of loss against updates say: ratios at equal counts, and who catches up when.

A table of curves has a row per start, run and update: columns start, update, loss, and those that
name a run. All starts have the same runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metastyle.evaluation.statistics import Interval, bootstrap, weighted_median

Names = Sequence[str]  # of columns


def ratios(
    curves: pd.DataFrame, reference: str, counts: Sequence[int], *, run: Names, over: Names
) -> pd.DataFrame:
    """Median over the runs of a start's loss over the reference's in the same run, by the number
    of updates.

    Args:
        run: columns that name a run, photo included where losses are a photo's.
        over: those that are resampled for the interval, see `statistics.bootstrap`.

    Returns:
        An `Interval` per start (index, the reference left out) and count (columns).
    """
    table = curves[curves["update"].isin(counts)]
    wide = table.set_index([*run, "update", "start"])["loss"].unstack("start")
    starts = [start for start in dict.fromkeys(curves["start"]) if start != reference]
    result = pd.DataFrame(index=starts, columns=list(counts), dtype=object)
    for start in starts:
        ratio = (wide[start] / wide[reference]).rename("ratio").reset_index()
        for count in counts:
            rows = ratio[ratio["update"] == count]
            result.at[start, count] = bootstrap(rows, "ratio", over, weighted_median)
    return result


def ahead(intervals: pd.DataFrame, rivals: Sequence[str]) -> list[int]:
    """The counts at which the reference is ahead of all `rivals`: the whole interval of every
    rival's ratio lies above 1.

    Args:
        intervals: from `ratios`.
    """
    return [
        count
        for count in intervals.columns
        if all(intervals.at[rival, count].low > 1 for rival in rivals)
    ]


class Needed(NamedTuple):
    """How many updates the runs from one start take to a loss.

    median: over the runs, with its interval; a number as large as `limit`, where the curves end,
    stands for more. never: so many of the runs do not get there.
    """

    median: Interval
    limit: int
    never: int
    runs: int

    def __str__(self) -> str:
        value, low, high = (f"{v:.0f}" if v < self.limit else f"> {v:.0f}" for v in self.median)
        return f"{value} [{low}, {high}], {self.never} of {self.runs} never"

    def told(self) -> str:
        """What the median must not be read without."""
        beyond = f"; {self.limit} stands for more" if self.median.high >= self.limit else ""
        return f"{self.never} of {self.runs} runs do not get there{beyond}."


def needed(
    curves: pd.DataFrame, reference: str, counts: Sequence[int], *, run: Names, over: Names
) -> pd.DataFrame:
    """Updates from each start to the loss that the reference has after `counts` updates.

    Args:
        run, over: as for `ratios`.

    Returns:
        A `Needed` per start (index, the reference left out) and count (columns).
    """
    limits = curves.groupby("start")["update"].max()
    caught = catch_up(curves, reference, counts, run=run)
    starts = list(dict.fromkeys(caught["start"]))
    result = pd.DataFrame(index=starts, columns=list(counts), dtype=object)
    for (start, count), rows in caught.groupby(["start", "count"]):
        limit, never = int(limits[start]), int(np.isinf(rows["reached"]).sum())
        median = censored_median(rows, limit, over)
        result.at[start, count] = Needed(median, limit, never, len(rows))
    return result


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
    curves: pd.DataFrame, reference: str, counts: Sequence[int], *, run: Names
) -> pd.DataFrame:
    """When each start reaches the loss that the reference has after `counts` updates of the same
    run.

    Returns:
        The run's columns, start, count, and `reached`: updates, infinity where the curve ends
        before (censored).
    """
    rows = []
    for key, here in curves.groupby(list(run), sort=False):
        lines = {
            start: line.sort_values("update").set_index("update")["loss"]
            for start, line in here.groupby("start", sort=False)
        }
        for start, line in lines.items():
            if start != reference:
                for count in counts:
                    reached = first_reach(line.index, line, lines[reference][count])
                    named = dict(zip(run, key, strict=True))
                    rows.append({**named, "start": start, "count": count, "reached": reached})
    return pd.DataFrame(rows)


def censored_median(rows: pd.DataFrame, limit: float, over: Names) -> Interval:
    """Median of `reached`, where curves were followed for `limit` updates.

    All curves of a start end at the same number of updates, so that the median is known as long as
    more than half of them reach the loss. Where it (or a bound of its interval) is not known it is
    `limit`, and the truth is beyond.
    """

    def median(values: np.ndarray, weights: np.ndarray) -> float:
        return min(weighted_median(values, weights), limit)

    return bootstrap(rows, "reached", over, median)
