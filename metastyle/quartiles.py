"""Curves as median and quartiles: matplotlib only."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

TICKS = (0, 3, 10, 25, 50, 100, 200, 400, 1000, 2000)


def quartile_bands(
    tables: Mapping[str, pd.DataFrame], x: str, ys: Sequence[str], titles: Sequence[str]
) -> Figure:
    """One panel per column of `ys`; for each table the median over its rows of equal `x`, and in
    a shade the range from the lower to the upper quartile. Every second line is dashed, so that
    it shows one that it covers. Both axes are logarithmic, the horizontal one linear up to 10 so
    that it has a 0."""
    width = 3.6 * len(ys) + 1.3
    figure, axes = plt.subplots(1, len(ys), figsize=(width, 3.2), squeeze=False, dpi=110)
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
        ticks = sorted(set(TICKS) & set().union(*(t[x] for t in tables.values())))
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axis.tick_params(axis="y", which="both", labelsize=7)
        axis.set_xlabel(x, fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.25)
    axes[0][-1].legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    return figure
