"""Chapter 3: what recipes of adaptation cost on the machine at hand, and which of them nothing
beats."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import NamedTuple

import numpy as np
import pandas as pd

from metastyle.adaptation.adapt import Adaptation, crop_size
from metastyle.config import Precision
from metastyle.core.network import ParameterSet
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.evaluation.timing import Timing, summary, time_in_turns
from metastyle.studies.recipes import PAPER

START = "start"  # an adaptation before its first update: the Gram matrices of the painting


class Kind(NamedTuple):
    """What decides the time of one update."""

    size: int
    contents: int
    parameters: ParameterSet
    precision: Precision

    def __str__(self) -> str:
        return f"{self.contents} of {self.size} px, {self.parameters}, {self.precision}"


Seconds = dict[Kind | str, Timing]


def kind(update: int, recipe: Adaptation) -> Kind:
    """Of an update, counted from 1."""
    size = crop_size(update, recipe)
    return Kind(size, recipe.contents_per_batch, recipe.parameters, recipe.precision)


def kinds(all_recipes: Iterable[Adaptation]) -> list[Kind]:
    """All that these recipes' updates are of."""
    return sorted({kind(u, r) for r in all_recipes for u in range(1, r.updates + 1)})


def measure(
    wanted: Iterable[Kind],
    adapted: Callable[[Adaptation, bool], object],
    base: Adaptation,
    others: Mapping[str, Callable[[], object]],
    *,
    turns: int,
    budget: float,
    largest: int | None,
) -> Seconds:
    """Seconds of one update of each kind, of START, and of `others`; they take turns.

    Args:
        adapted: adapts by the recipe given; with False to a painting of a few pixels.
        base: the recipe, but for what makes a kind.
        turns: fewer once `budget` seconds are spent.
        largest: larger crops are timed at this side and multiplied by the ratio of areas.

    Every call draws other photos, as the updates of an adaptation do. What a call does before its
    update (a call without updates tells, in each precision) is taken off, turn by turn.
    """
    seeds = count()
    sides = {k: min(k.size, largest or k.size) for k in wanted}

    def update(k: Kind) -> None:
        own = {"parameters": k.parameters, "precision": k.precision, "seed": next(seeds)}
        own |= {"updates": 1, "sizes": [sides[k]], "contents_per_batch": k.contents}
        adapted(base.changed(**own), False)

    calls = {START: lambda: adapted(base.changed(updates=0), True), **others}
    for p in sorted({k.precision for k in sides}):
        calls[f"bare, {p}"] = lambda p=p: adapted(base.changed(updates=0, precision=p), False)
    calls |= {str(k): lambda k=k: update(k) for k in sides}
    rows = time_in_turns(calls, repeats=turns, budget=budget)
    return {name: summary(rows[name]) for name in (START, *others)} | {
        k: summary((rows[str(k)] - rows[f"bare, {k.precision}"]) * (k.size / side) ** 2)
        for k, side in sides.items()
    }


def timings(seconds: Seconds) -> pd.DataFrame:
    """Median, quartiles and repeats of what was measured."""
    return pd.DataFrame({str(k): t for k, t in seconds.items()}, index=Timing._fields).T


def cost(recipe: Adaptation, updates: int, seconds: Seconds) -> float:
    """Seconds of the first updates of a recipe, from those of each, `measure`d."""
    steps = (seconds[kind(u, recipe)].median for u in range(1, updates + 1))
    return seconds[START].median + sum(steps)


def ratios(losses: pd.DataFrame) -> pd.DataFrame:
    """Losses over the end of the paper's recipe on the same artwork.

    Args:
        losses: columns recipe, artwork, update, loss.

    Returns:
        The same rows with a column `ratio`.
    """
    paper = losses[losses["recipe"] == PAPER]
    ends = paper[paper["update"] == paper["update"].max()].set_index("artwork")["loss"]
    return losses.assign(ratio=losses["loss"] / losses["artwork"].map(ends))


def points(losses: pd.DataFrame, known: Mapping[str, Adaptation], seconds: Seconds) -> pd.DataFrame:
    """A row per recipe and number of updates: columns recipe, update, seconds and ratio, the
    geometric mean over the artworks of the loss over the end of the paper's recipe."""
    logs = np.log(ratios(losses).set_index(["recipe", "update"])["ratio"])
    table = np.exp(logs.groupby(level=[0, 1], sort=False).mean()).reset_index()
    spent = [cost(known[p.recipe], p.update, seconds) for p in table.itertuples()]
    return table.assign(seconds=spent)[["recipe", "update", "seconds", "ratio"]]


def efficient(table: pd.DataFrame) -> pd.DataFrame:
    """The points that no other one beats in seconds or loss without losing in the other, by
    rising seconds; of equal ones the first."""
    ordered = table.sort_values(["seconds", "ratio"], kind="stable")
    best_before = ordered["ratio"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["ratio"] < best_before]


def cheapest(table: pd.DataFrame, limit: float = 1.0) -> pd.Series:
    """The cheapest point whose ratio is within the limit: 1, no worse than the paper's end."""
    return efficient(table[table["ratio"] <= limit]).iloc[0]


def choice(table: pd.DataFrame, seconds: float) -> pd.Series | None:
    """The rule: of the points that cost no more than `seconds`, the one of the lowest loss."""
    affordable = efficient(table[table["seconds"] <= seconds])
    return None if affordable.empty else affordable.iloc[-1]


def compared(ratio: Interval) -> str:
    """How a loss compares with the end of the paper's recipe, as far as the interval of their
    ratio tells."""
    if ratio.high <= 1:
        return "no worse than"
    return "worse than" if ratio.low > 1 else "not distinguishable from"


def ratio(losses: pd.DataFrame, point: pd.Series) -> Interval:
    """Of one point, with its interval over the artworks."""
    rows = ratios(losses)
    rows = rows[(rows["recipe"] == point["recipe"]) & (rows["update"] == point["update"])]
    return geometric_mean(rows, "ratio", ["artwork"])
