"""What recipes of adaptation cost on the machine at hand, and which of them nothing beats."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch.nn import functional as F

from metastyle.adaptation.adapt import Adaptation, crop_size
from metastyle.config import CropSide, Precision, Section
from metastyle.core.network import ParameterSet
from metastyle.evaluation.statistics import Interval
from metastyle.evaluation.timing import Timing, side_by_side, summary
from metastyle.studies import recipes
from metastyle.studies.recipes import PAPER


class Frontier(Section):
    """Section `frontier`.

    seconds: what an adaptation may cost. turns: of the measurement, fewer once `budget` seconds
    are spent. largest: larger crops are timed at this side and multiplied by the ratio of areas;
    None: every crop is timed as it is.
    """

    seconds: PositiveFloat
    turns: PositiveInt
    budget: NonNegativeFloat
    largest: CropSide | None


class Kind(NamedTuple):
    """What decides the time of one update."""

    size: int
    contents: int
    parameters: ParameterSet
    precision: Precision

    def __str__(self) -> str:
        return f"{self.contents} of {self.size} px, {self.parameters}, {self.precision}"


START = "start"  # an adaptation before its first update: the Gram matrices of the painting


def kind(update: int, recipe: Adaptation) -> Kind:
    """Of an update, counted from 1."""
    size = crop_size(update, recipe)
    return Kind(size, recipe.contents_per_batch, recipe.parameters, recipe.precision)


def kinds(all_recipes: Iterable[Adaptation]) -> list[Kind]:
    """All that these recipes' updates are of."""
    return sorted({kind(u, r) for r in all_recipes for u in range(1, r.updates + 1)})


def measure(
    wanted: Iterable[Kind],
    run: Callable[[Adaptation, bool], object],
    base: Adaptation,
    plan: Frontier,
    others: Mapping[str, Callable[[], object]],
) -> dict[Kind | str, Timing]:
    """Seconds of one update of each kind, of START, and of `others`; they take turns.

    Args:
        run: adapts by the settings given; with False to a painting of a few pixels.
        base: the settings, but for what makes a kind.

    Every call draws other photos, as the updates of an adaptation do. What a call does before its
    update (a call without updates tells, in each precision) is taken off, turn by turn.
    """
    seeds = count()
    timed = {k: min(k.size, plan.largest or k.size) for k in wanted}

    def update(k: Kind) -> None:
        run(
            base.model_copy(
                update={
                    "updates": 1,
                    "sizes": [timed[k]],
                    "contents_per_batch": k.contents,
                    "parameters": k.parameters,
                    "precision": k.precision,
                    "seed": next(seeds),
                }
            ),
            False,
        )

    none = recipes.cut(base, 0)
    calls = {START: lambda: run(none, True), **others}
    for p in sorted({k.precision for k in timed}):
        bare = none.model_copy(update={"precision": p})
        calls[f"bare, {p}"] = lambda bare=bare: run(bare, False)
    calls |= {str(k): lambda k=k: update(k) for k in timed}
    turns = side_by_side(calls, repeats=plan.turns, budget=plan.budget)
    areas = {k: (k.size / side) ** 2 for k, side in timed.items()}
    return {name: summary(turns[name]) for name in (START, *others)} | {
        k: summary((turns[str(k)] - turns[f"bare, {k.precision}"]) * area)
        for k, area in areas.items()
    }


def bfloat16_over_float32(turns: int) -> Timing:
    """Ratio of the times of a convolution like VGG-16's in the two formats, turn by turn."""
    x, weight = torch.rand(1, 128, 32, 32), torch.rand(128, 128, 3, 3)

    def call(dtype: torch.dtype) -> Callable[[], object]:
        a, b = (t.to(dtype, memory_format=torch.channels_last) for t in (x, weight))
        return lambda: F.conv2d(a, b, padding=1)

    seconds = side_by_side(
        {"bfloat16": call(torch.bfloat16), "float32": call(torch.float32)}, repeats=turns
    )
    return summary(seconds["bfloat16"] / seconds["float32"])


def cost(recipe: Adaptation, updates: int, seconds: Mapping[Kind | str, Timing]) -> float:
    """Seconds of the first updates of a recipe, from those of each, `measure`d."""
    steps = (seconds[kind(u, recipe)].median for u in range(1, updates + 1))
    return seconds[START].median + sum(steps)


def ratios(losses: pd.DataFrame) -> pd.DataFrame:
    """Losses against the end of the paper's recipe on the same artwork.

    Args:
        losses: columns recipe, artwork, update, loss.

    Returns:
        The same rows with a column `ratio`: loss / loss of the paper's recipe at its end.
    """
    paper = losses[losses["recipe"] == PAPER]
    ends = paper[paper["update"] == paper["update"].max()].set_index("artwork")["loss"]
    return losses.assign(ratio=losses["loss"] / losses["artwork"].map(ends))


def points(
    losses: pd.DataFrame, known: Mapping[str, Adaptation], seconds: Mapping[Kind | str, Timing]
) -> pd.DataFrame:
    """One row per recipe and number of updates: columns recipe, update, seconds and ratio, the
    geometric mean over the artworks of the loss over the end of the paper's recipe."""
    logs = np.log(ratios(losses).set_index(["recipe", "update"])["ratio"])
    table = np.exp(logs.groupby(level=[0, 1], sort=False).mean()).reset_index()
    spent = [
        cost(known[recipe], update, seconds)
        for recipe, update in zip(table["recipe"], table["update"], strict=True)
    ]
    return table.assign(seconds=spent)[["recipe", "update", "seconds", "ratio"]]


def efficient(table: pd.DataFrame) -> pd.DataFrame:
    """The points that no other one beats in seconds or loss without losing in the other, by
    rising seconds; of equal ones the first."""
    ordered = table.sort_values(["seconds", "ratio"], kind="stable")
    best_before = ordered["ratio"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["ratio"] < best_before]


def cheapest(table: pd.DataFrame, limit: float = 1.0) -> pd.Series:
    """The cheapest point whose ratio is within the limit: 1, no worse than the paper's end."""
    within = efficient(table[table["ratio"] <= limit])
    return within.iloc[0]


def choice(table: pd.DataFrame, seconds: float) -> pd.Series | None:
    """The rule: of the points that cost no more than `seconds`, the one of the lowest loss."""
    affordable = efficient(table[table["seconds"] <= seconds])
    return None if affordable.empty else affordable.iloc[-1]


def verdict(ratio: Interval) -> str:
    """How the loss compares with the paper's end, as far as the interval tells."""
    if ratio.high <= 1:
        return "no worse than"
    return "worse than" if ratio.low > 1 else "not told apart from"


def figure(table: pd.DataFrame, marks: Mapping[str, float], limit: float) -> Figure:
    """Loss over the end of the paper's recipe against seconds, both logarithmic; the efficient
    points joined by steps and numbered by rising seconds. On the right those around the limit.

    Args:
        table: from `points`.
        marks: seconds drawn as upright lines, by label.
        limit: seconds.
    """
    drawing, axes = plt.subplots(1, 2, figsize=(12.5, 4.4), width_ratios=(3, 2), dpi=110)
    edge = efficient(table)
    near = table[table["seconds"].between(limit / 2.2, limit * 1.4)]
    for axis in axes:
        kinds = iter(range(len(table)))
        for name, rows in table.groupby("recipe", sort=False):
            style = {"color": "0.8", "marker": "o", "ms": 2.5, "lw": 0.6, "zorder": 1}
            if name in {*edge["recipe"], PAPER}:
                k = next(kinds)
                style = {"color": f"C{k}", "marker": "osv^DPX*"[k % 8], "ms": 4.5, "lw": 0.9}
                style["label"] = name
            axis.plot(rows["seconds"], rows["ratio"], **style)
        steps = {"where": "post", "color": "k", "lw": 1.4, "alpha": 0.6, "zorder": 0}
        axis.step(edge["seconds"], edge["ratio"], **steps)
        for number, point in enumerate(edge.itertuples(), start=1):
            if axis is axes[0] and point.seconds in set(near["seconds"]):
                continue  # they would run into each other; the other panel has them
            place = (point.seconds, point.ratio)
            shift = {"textcoords": "offset points", "ha": "right", "clip_on": True}
            axis.annotate(number, place, (-3, -10), fontsize=7, annotation_clip=True, **shift)
        axis.axhline(1, color="k", lw=0.6, ls=":")
        axis.set(xlabel="seconds", xscale="log", yscale="log")
        for side, subs in ((axis.xaxis, (1, 2, 5)), (axis.yaxis, (1, 1.2, 1.5, 2, 3, 5))):
            side.set_major_locator(LogLocator(subs=subs))
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.25)
    if not near.empty:
        axes[1].set_xlim(limit / 2.2, limit * 1.4)
        axes[1].set_ylim(near["ratio"].min() / 1.03, near["ratio"].quantile(0.9) * 1.03)
        axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes[1].yaxis.set_major_locator(LogLocator(subs=tuple(np.arange(1, 10, 0.05))))
    for axis in axes:
        for label, seconds in marks.items():
            if axis.get_xlim()[0] < seconds < axis.get_xlim()[1]:
                axis.axvline(seconds, color="k", lw=0.6, ls="--")
                axis.annotate(
                    label, (seconds, 0.98), (-2, 0), axis.get_xaxis_transform(), "offset points",
                    rotation=90, va="top", ha="right", fontsize=6.5,
                )  # fmt: skip
    axes[0].set_ylabel("loss over the paper recipe's")
    axes[1].legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    drawing.tight_layout()
    return drawing
