"""Timing a call: warmed up, synchronised, repeated within a budget."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metastyle.core import device
from metastyle.evaluation.statistics import number


class Timing(NamedTuple):
    """Seconds: median and quartiles over `repeats` calls."""

    median: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        return f"{number(self.median)} [{number(self.low)}, {number(self.high)}]"

    def over(self, other: "Timing") -> "Timing":
        """Ratio of the medians, and the range from quartile over opposite quartile."""
        return Timing(
            self.median / other.median,
            self.low / other.high,
            self.high / other.low,
            min(self.repeats, other.repeats),
        )


def summary(seconds: Sequence[float]) -> Timing:
    """Median and quartiles of repeats."""
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(seconds))


class Stopwatch:
    """Adds up the seconds that pass while it runs; `pause` and `resume` may repeat."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def resume(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> float:
        """Stop and tell the seconds so far."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None
        return self.seconds


def time_in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    least: int = 1,
    budget: float = math.inf,
) -> pd.DataFrame:
    """Seconds of calls that take turns, so that a machine's moods meet all alike.

    `repeats` turns, or fewer once `least` are made and `budget` seconds spent. The first turn
    warms up and is not counted, unless it alone outlasts the budget: beside so long a turn
    what warming up adds is little. Returns one row per turn and one column per call; compare
    calls by the ratios of a row.
    """
    rows: list[dict[str, float]] = []
    warm, spent = False, 0.0
    while len(rows) < repeats and (len(rows) < least or spent < budget):
        row = {}
        for name, call in calls.items():
            device.synchronise()
            start = time.perf_counter()
            call()
            device.synchronise()
            row[name] = time.perf_counter() - start
        if warm or sum(row.values()) > budget:
            rows.append(row)
            spent += sum(row.values())
        warm = True
    return pd.DataFrame(rows)
