"""Timing a call: warmed up, synchronised, repeated within a budget."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import NonNegativeFloat, PositiveInt

from metastyle.params import ImageSide, Section


class Table1(Section):
    """Section `table1`."""

    sizes: list[ImageSide]
    seconds_per_cell: NonNegativeFloat
    repeats: tuple[PositiveInt, PositiveInt]
    updates_timed: PositiveInt
    seed: int


class Timing(NamedTuple):
    """Seconds: median and quartiles over `repeats` calls."""

    median: float
    low: float
    high: float
    repeats: int

    def scaled(self, factor: float) -> "Timing":
        """The time of `factor` such calls, extrapolated."""
        return Timing(self.median * factor, self.low * factor, self.high * factor, self.repeats)


def measure(call: Callable[[], object], *, budget: float, repeats: tuple[int, int]) -> Timing:
    """Time a call.

    One call warms up and is not counted. Then at least `repeats[0]` calls, and more until
    `budget` seconds are spent or `repeats[1]` calls are made.
    """
    call()
    seconds: list[float] = []
    least, most = repeats
    while len(seconds) < least or (sum(seconds) < budget and len(seconds) < most):
        _synchronise()
        start = time.perf_counter()
        call()
        _synchronise()
        seconds.append(time.perf_counter() - start)
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


def side_by_side(calls: Mapping[str, Callable[[], object]], *, repeats: int) -> pd.DataFrame:
    """Seconds of calls that take turns, so that a machine's moods meet all alike.

    Each call warms up once. Returns one row per turn and one column per call; compare calls
    by the ratios of a row.
    """
    rows = []
    for turn in range(repeats + 1):
        row = {}
        for name, call in calls.items():
            _synchronise()
            start = time.perf_counter()
            call()
            _synchronise()
            row[name] = time.perf_counter() - start
        if turn:
            rows.append(row)
    return pd.DataFrame(rows)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
