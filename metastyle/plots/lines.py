"""Curves and points: matplotlib only, nothing computed here."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from metastyle.evaluation.statistics import Interval
from metastyle.evaluation.timing import Timing
from metastyle.plots._canvas import subplots

TICKS = (0, 3, 10, 25, 50, 100, 200, 400, 1000, 2000)  # updates


def bands(
    tables: Mapping[str, pd.DataFrame], x: str, ys: Sequence[str], titles: Sequence[str]
) -> Figure:
    """One panel per column of `ys`; for each table the mean over its rows of equal `x`, and in a
    shade their standard deviation on both sides."""
    figure, axes = subplots(1, len(ys), figsize=(3.4 * len(ys), 2.8))
    for axis, y, title in zip(axes[0], ys, titles, strict=True):
        for label, table in tables.items():
            values = table.groupby(x)[y].agg(["mean", "std"]).dropna(subset="mean").fillna(0)
            mean, std = values["mean"], values["std"]
            axis.plot(values.index, mean, lw=1.4, marker="o", ms=2.5, label=label)
            axis.fill_between(values.index, mean - std, mean + std, alpha=0.2, lw=0)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(x)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.25)
    axes[0][-1].legend(fontsize=6.5)
    figure.tight_layout()
    return figure


def curves(
    tables: Mapping[str, pd.DataFrame],
    x: str,
    ys: Sequence[str],
    *,
    smooth: int = 1,
    linear: Sequence[str] = (),
    marker: str | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """One panel per column of `ys`, one line per table.

    Args:
        smooth: width of the running median drawn over the raw values; 1 draws the values.
        linear: columns whose vertical axis is not logarithmic.
        marks: places on the horizontal axis, by what is written beside an upright line there.
    """
    figure, axes = subplots(1, len(ys), figsize=(3.4 * len(ys), 2.8))
    lines = cycler(linestyle=["-", "--", ":"]) * cycler(color=plt.get_cmap("tab10").colors)
    for axis, y in zip(axes[0], ys, strict=True):
        axis.set_prop_cycle(lines)
        for label, table in tables.items():
            if smooth > 1:
                axis.plot(table[x], table[y], lw=0.4, alpha=0.35, color="C0")
                median = table[y].rolling(smooth, center=True, min_periods=1).median()
                median = median.where(table[y].notna())  # no line where nothing was measured
                axis.plot(table[x], median, lw=1.6, color="C0", label=label)
            else:
                axis.plot(table[x], table[y], lw=1.3, marker=marker, ms=3, label=label)
        if y not in linear:
            _logarithmic(axis)
        for label, place in (marks or {}).items():
            axis.axvline(place, color="k", lw=0.7, ls="--")
            at, transform = (place, 0.98), axis.get_xaxis_transform()
            axis.annotate(
                label, at, (-2, 0), transform, "offset points",
                rotation=90, ha="right", va="top", fontsize=6.5,
            )  # fmt: skip
        axis.set_xlabel(x)
        axis.set_title(y.replace("_", " "), fontsize=9)
        axis.grid(alpha=0.25)
    if len(tables) > 1:
        axes[0][-1].legend(fontsize=6.5, bbox_to_anchor=(1, 1), loc="upper left")
    figure.tight_layout()
    return figure


def means(tables: Mapping[str, pd.DataFrame], x: str, ys: Sequence[str]) -> Figure:
    """One panel per column of `ys`; for each table its rows as dots, and a line through their
    means where `x` is equal. In the first panel the table's name stands at the line's end. The
    vertical axis is logarithmic."""
    figure, axes = subplots(1, len(ys), figsize=(3.4 * len(ys), 2.8))
    for axis, y in zip(axes[0], ys, strict=True):
        for k, (label, table) in enumerate(tables.items()):
            mean = table.groupby(x)[y].mean()
            axis.plot(mean.index, mean, lw=1.4, color=f"C{k}")
            axis.plot(table[x], table[y], "o", ms=3, alpha=0.6, color=f"C{k}")
            if axis is axes[0][0]:
                end = mean.index[-1], mean.iloc[-1]
                style = {"va": "center", "fontsize": 7, "color": f"C{k}"}
                axis.annotate(label, end, (6, 0), textcoords="offset points", **style)
        _logarithmic(axis)
        axis.locator_params(axis="x", nbins=4)
        axis.set_xlabel(x)
        axis.set_title(y, fontsize=9)
        axis.grid(alpha=0.25)
    axes[0][0].set_xlim(right=1.35 * axes[0][0].get_xlim()[1])
    figure.tight_layout()
    return figure


def _logarithmic(axis: Axes) -> None:
    """Make the vertical axis logarithmic, with as many numbers as its decades need."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    decades = np.ptp(np.log10(axis.get_ylim()))
    axis.yaxis.set_minor_formatter("{x:g}" if decades < 2 else NullFormatter())


def timings(table: Mapping[str, Mapping[int, Timing]]) -> Figure:
    """Median time with quartiles against image size, one line per method; both logarithmic."""
    figure, ((axis,),) = subplots(figsize=(6.4, 3.4))
    sizes = sorted({size for by_size in table.values() for size in by_size})
    for k, (label, by_size) in enumerate(table.items()):
        axis.errorbar(
            sorted(by_size),
            [by_size[size].median for size in sorted(by_size)],
            yerr=_bars([by_size[size] for size in sorted(by_size)]),
            marker="osv^DPX*"[k % 8],
            ms=4,
            capsize=3,
            label=label,
        )
    axis.set(xlabel="image side (pixels)", ylabel="seconds per image", xscale="log", yscale="log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    figure.tight_layout()
    return figure


def against_parameters(
    times: Mapping[str, Mapping[str, Timing]], parameters: Mapping[str, int | None]
) -> Figure:
    """Time over Johnson's against parameters, one panel per heading; both logarithmic.

    Args:
        times: heading -> method -> ratio of times.
        parameters: of each method; one without any becomes a level line.
    """
    figure, axes = subplots(1, len(times), figsize=(3.9 * len(times), 3.4), sharey=True)
    for axis, (heading, by_method) in zip(axes[0], times.items(), strict=True):
        for k, (label, time) in enumerate(by_method.items()):
            if parameters[label] is None:
                axis.axhline(time.median, color=f"C{k}", lw=0.8, ls="--")
                place = (0.98, time.median), axis.get_yaxis_transform()
                axis.annotate(
                    f"{label}, no network", place[0], (0, 3), place[1], "offset points",
                    ha="right", fontsize=7,
                )  # fmt: skip
                continue
            at = parameters[label], time.median
            axis.errorbar(*at, yerr=_bars([time]), color=f"C{k}", marker="o", ms=4, capsize=3)
            alike = [by_method[name].median for name in by_method if parameters[name] == at[0]]
            up = 3 if time.median == max(alike) else -9  # of equal ones the slowest above
            axis.annotate(label, at, (5, up), textcoords="offset points", fontsize=7, color=f"C{k}")
        axis.set(xscale="log", yscale="log", xlabel="parameters")
        axis.set_title(heading, fontsize=9)
        axis.margins(x=0.2, y=0.12)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("time over Johnson's")
    figure.tight_layout()
    return figure


def _bars(times: Sequence[Timing]) -> list[list[float]]:
    """Distances from the medians down and up to the quartiles."""
    return [[t.median - t.low for t in times], [t.high - t.median for t in times]]


def quartile_bands(
    tables: Mapping[str, pd.DataFrame], x: str, ys: Sequence[str], titles: Sequence[str]
) -> Figure:
    """One panel per column of `ys`; for each table the median over its rows of equal `x`, and in
    a shade the range from the lower to the upper quartile. Every second line is dashed, so that
    it shows one that it covers. Both axes are logarithmic, the horizontal one linear up to 10 so
    that it has a 0."""
    width = 3.6 * len(ys) + 1.3
    figure, axes = subplots(1, len(ys), figsize=(width, 3.2))
    for axis, y, title in zip(axes[0], ys, titles, strict=True):
        for (label, table), dashes in zip(tables.items(), cycle(["-", "--"]), strict=False):
            low, median, high = (table.groupby(x)[y].quantile(q) for q in (0.25, 0.5, 0.75))
            marker = "o" if len(median) < 20 else None
            (line,) = axis.plot(
                median.index, median, dashes, lw=1.4, marker=marker, ms=2.5, label=label
            )
            line.set_zorder(2 + len(dashes))  # dashed ones above
            axis.fill_between(median.index, low, high, alpha=0.15, lw=0)
        axis.set_xscale("symlog", linthresh=10)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.2, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_minor_formatter("{x:g}")
        found = set().union(*(t[x] for t in tables.values()))
        ticks = sorted(found if len(found) < 7 else found & set(TICKS))
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axis.tick_params(axis="y", which="both", labelsize=7)
        axis.set_xlabel(x, fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.25)
    axes[0][-1].legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    return figure


def frontier(
    points: pd.DataFrame, edge: pd.DataFrame, shown: Sequence[str], marks: Mapping[str, float]
) -> Figure:
    """Loss over the paper recipe's against seconds, both logarithmic: a line per recipe, grey but
    for those shown, and black steps that join the edge.

    Args:
        points, edge: columns recipe, seconds, ratio.
        marks: seconds drawn as upright lines, by label.
    """
    figure, ((axis,),) = subplots(figsize=(9.0, 4.6))
    for name, rows in points.groupby("recipe", sort=False):
        style = {"color": "0.8", "lw": 0.6, "zorder": 1}
        if name in shown:
            style = {"color": f"C{shown.index(name)}", "lw": 1.2, "label": name}
        axis.plot(rows["seconds"], rows["ratio"], marker="o", ms=3, **style)
    axis.step(edge["seconds"], edge["ratio"], where="post", color="k", lw=1.2, label="frontier")
    axis.axhline(1, color="k", lw=0.6, ls=":")
    for label, seconds in marks.items():
        axis.axvline(seconds, color="k", lw=0.6, ls="--")
        place = {"xycoords": axis.get_xaxis_transform(), "textcoords": "offset points"}
        axis.annotate(label, (seconds, 0.98), (-9, 0), rotation=90, va="top", fontsize=7, **place)
    axis.set(xlabel="seconds", ylabel="loss over the paper recipe's", xscale="log", yscale="log")
    for side, subs in ((axis.xaxis, (1, 2, 5)), (axis.yaxis, (1, 1.2, 1.5, 2, 3, 5))):
        side.set_major_locator(LogLocator(subs=subs))
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7)
    figure.tight_layout()
    return figure


def trade_offs(
    points: Mapping[str, tuple[Interval, Interval]],
    reference: str,
    near: Sequence[float],
    measures: Sequence[str],
) -> Figure:
    """Differences to a reference in two measures, of which less is better, with their intervals.

    Args:
        near: half the sides of a grey box around the reference.
    """
    figure, ((axis,),) = subplots(figsize=(6.4, 4.2))
    for k, (label, (x, y)) in enumerate(points.items()):
        bars = {"xerr": [[x.value - x.low], [x.high - x.value]]}
        bars["yerr"] = [[y.value - y.low], [y.high - y.value]]
        axis.errorbar(x.value, y.value, **bars, marker="osv^DPX"[k % 7], ms=5, lw=0.8, label=label)
    axis.plot(0, 0, "k*", ms=10, label=reference)
    width, height = near
    axis.fill_between([-width, width], -height, height, color="0.85", lw=0, zorder=0, label="near")
    axis.axhline(0, color="0.6", lw=0.6, zorder=0)
    axis.axvline(0, color="0.6", lw=0.6, zorder=0)
    labels = [f"{measure}, minus {reference}'s (less is closer)" for measure in measures]
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    figure.tight_layout()
    return figure
