"""Figures: matplotlib only, nothing computed here."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats
from pydantic import PositiveInt
from torch import Tensor

from metastyle.params import ImageSide, Section
from metastyle.timing import Timing


class MetaFigure(Section):
    """Section `meta_figure`."""

    photos: PositiveInt
    size: ImageSide
    smooth: PositiveInt


def setup() -> None:
    """Figures of a notebook become JPEG: a page of photos stays under a megabyte."""
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})


def grid(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    under: Sequence[Sequence[str]] | None = None,
    cell: float = 1.7,
) -> Figure:
    """Images in rows and columns.

    Args:
        rows: images in [0, 1], (3, H, W) or (1, 3, H, W); None leaves a cell empty.
        columns, labels: titles above the columns and beside the rows.
        under: a short text under each cell.
        cell: width of a cell in inches.
    """
    width = max(len(row) for row in rows)
    deep = cell * (1.12 if under else 1.0)
    figure, axes = plt.subplots(
        len(rows), width, figsize=(cell * width, deep * len(rows) + 0.3), squeeze=False, dpi=110
    )
    for i, row in enumerate(rows):
        for j, axis in enumerate(axes[i]):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if j < len(row) and row[j] is not None:
                image = row[j].squeeze(0).permute(1, 2, 0).clamp(0, 1).cpu()
                axis.imshow(image, interpolation="lanczos")
            if i == 0 and j < len(columns):
                axis.set_title(columns[j], fontsize=8)
            if j == 0 and i < len(labels):
                axis.set_ylabel(labels[i], fontsize=8)
            if under:
                axis.set_xlabel(under[i][j], fontsize=6.5, labelpad=2)
    figure.tight_layout(pad=0.3)
    return figure


def curves(
    tables: Mapping[str, pd.DataFrame],
    x: str,
    ys: Sequence[str],
    *,
    smooth: int = 1,
    log: bool = True,
    marker: str | None = None,
) -> Figure:
    """One panel per column of `ys`, one line per table.

    Args:
        smooth: width of the running median drawn over the raw values; 1 draws the values.
        log: logarithmic vertical axis.
    """
    figure, axes = plt.subplots(1, len(ys), figsize=(3.4 * len(ys), 2.8), squeeze=False, dpi=110)
    for axis, y in zip(axes[0], ys, strict=True):
        for label, table in tables.items():
            if smooth > 1:
                axis.plot(table[x], table[y], lw=0.4, alpha=0.35, color="C0")
                median = table[y].rolling(smooth, center=True, min_periods=1).median()
                axis.plot(table[x], median, lw=1.6, color="C0", label=label)
            else:
                axis.plot(table[x], table[y], lw=1.3, marker=marker, ms=3, label=label)
        if log:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            decades = np.ptp(np.log10(axis.get_ylim()))
            axis.yaxis.set_minor_formatter("{x:g}" if decades < 2 else NullFormatter())
        axis.set_xlabel(x)
        axis.set_title(y.replace("_", " "), fontsize=9)
        axis.grid(alpha=0.25)
    if len(tables) > 1:
        axes[0][-1].legend(fontsize=6.5)
    figure.tight_layout()
    return figure


def timings(table: Mapping[str, Mapping[int, Timing]]) -> Figure:
    """Median time with quartiles against image size, one line per method."""
    figure, axis = plt.subplots(figsize=(4.6, 2.8), dpi=110)
    for label, by_size in table.items():
        sizes = list(by_size)
        medians = [t.median for t in by_size.values()]
        spread = [
            [t.median - t.low for t in by_size.values()],
            [t.high - t.median for t in by_size.values()],
        ]
        axis.errorbar(sizes, medians, yerr=spread, marker="o", ms=4, capsize=3, label=label)
    axis.set(xlabel="image side (pixels)", ylabel="seconds per image", yscale="log")
    axis.set_xticks(sizes)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7)
    figure.tight_layout()
    return figure
