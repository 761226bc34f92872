"""How far a figure would move with other paintings, photos or seeds: bootstrap intervals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

DRAWS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and the bounds between which 95 % of the resampled ones lie."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = map(number, self)
        return f"{value} [{low}, {high}]"


def number(value: float) -> str:
    """Three digits; whole numbers, and others from a thousand on, in full: 0.312, 2,596."""
    whole = isinstance(value, int) or abs(value) >= 999.5
    return f"{value:,.0f}" if whole else f"{value:.3g}"


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Mean of values that count `weights` times."""
    return float(np.average(values, weights=weights))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Median of values that count `weights` (whole numbers) times; between two middle ones
    their mean, as usual."""
    order = np.argsort(values)
    values, until = values[order], np.cumsum(weights[order])
    lower = np.searchsorted(until, until[-1] / 2, side="left")
    upper = np.searchsorted(until, until[-1] / 2, side="right")
    return float(values[lower] + values[upper]) / 2


def bootstrap(
    rows: pd.DataFrame,
    column: str,
    over: Sequence[str],
    statistic: Callable[[np.ndarray, np.ndarray], float] = weighted_mean,
    *,
    seed: int = 0,
) -> Interval:
    """A statistic of a column, and how it varies when what was sampled is drawn anew.

    Every factor in `over` (artist, photo, seed ...) is resampled with replacement, each
    independently of the others, and a row counts as often as all of its levels together: what
    paintings or photos share does not pass for independent evidence (Owen's pigeonhole
    bootstrap, 2007, which errs on the wide side).

    Raises:
        ValueError: there are no rows.
    """
    if rows.empty:
        raise ValueError("no rows to resample")
    values = rows[column].to_numpy(float)
    factors = [pd.factorize(rows[factor]) for factor in over]
    generator = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < DRAWS:
        weights = np.ones(len(rows), dtype=int)
        for codes, levels in factors:
            share = np.full(len(levels), 1 / len(levels))
            weights *= generator.multinomial(len(levels), share)[codes]
        if weights.any():  # crossed factors of an incomplete table can miss every row
            drawn.append(statistic(values, weights))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(statistic(values, np.ones(len(rows), dtype=int)), float(low), float(high))


def geometric_mean(rows: pd.DataFrame, column: str, over: Sequence[str]) -> Interval:
    """`bootstrap` of the geometric mean of a column of positive values."""
    logs = rows[[*over]].assign(log=np.log(rows[column]))
    return Interval(*np.exp(bootstrap(logs, "log", over)).tolist())
