"""Figures that one chapter alone needs: matplotlib only, nothing computed here."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metastyle.plots._canvas import subplots


def histograms(tables: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> Figure:
    """One panel per column; for each table a line of the share of its rows in twenty bins from 0
    to 1. Every second line is dashed."""
    figure, axes = subplots(1, len(columns), figsize=(4.0 * len(columns), 2.8))
    for axis, column in zip(axes[0], columns, strict=True):
        for k, (label, table) in enumerate(tables.items()):
            shares, edges = np.histogram(table[column], bins=20, range=(0, 1))
            style = {"color": f"C{k // 2}", "ls": ("-", "--")[k % 2], "label": label}
            axis.stairs(shares / max(1, len(table)), edges, lw=1.3, **style)
        axis.set_xlabel(column)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("share of the images")
    axes[0][-1].legend(fontsize=6.5)
    figure.tight_layout()
    return figure


def against_delta(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Columns against `delta`, whose axis is logarithmic, a line each."""
    figure, ((axis,),) = subplots(figsize=(4.6, 2.8))
    for column in columns:
        axis.plot(table["delta"], table[column], lw=1.3, marker="o", label=column.replace("_", " "))
    axis.set(xscale="log", xlabel="delta")
    axis.axhline(1, color="k", lw=0.6, ls=":")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=6.5)
    figure.tight_layout()
    return figure
