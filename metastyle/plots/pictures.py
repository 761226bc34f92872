"""Pictures in rows and columns: matplotlib only, nothing computed here."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from metastyle.plots._canvas import subplots


def grid(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    under: Sequence[Sequence[str]] | None = None,
    cell: float = 1.7,
    shape: float = 1.0,
    text: float = 8,
) -> Figure:
    """Images in rows and columns.

    Args:
        rows: images in [0, 1], (3, H, W) or (1, 3, H, W); None leaves a cell empty.
        columns, labels: titles above the columns and beside the rows.
        under: a short text under each cell.
        cell: width of a cell in inches.
        shape: height of a cell over its width.
        text: size of the titles, in points.
    """
    width = max(len(row) for row in rows)
    deep = cell * shape * (1.12 if under else 1.0)
    size = (cell * width, deep * len(rows) + 0.3)
    figure, axes = subplots(len(rows), width, figsize=size)
    for i, row in enumerate(rows):
        for j, axis in enumerate(axes[i]):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if j < len(row) and row[j] is not None:
                image = row[j].squeeze(0).permute(1, 2, 0).clamp(0, 1).cpu()
                axis.imshow(image, interpolation="lanczos")
            if i == 0 and j < len(columns):
                axis.set_title(columns[j], fontsize=text)
            if j == 0 and i < len(labels):
                axis.set_ylabel(labels[i], fontsize=text)
            if under:
                axis.set_xlabel(under[i][j], fontsize=0.8 * text, labelpad=2)
    figure.tight_layout(pad=0.3)
    return figure


def sheet(pictures: Sequence[Tensor], texts: Sequence[str], width: int, cell: float) -> Figure:
    """`grid` of pictures with a text under each, so many in a row."""
    rows = range(0, len(pictures), width)
    padded = [*texts, *[""] * width]
    under = [padded[k : k + width] for k in rows]
    return grid([pictures[k : k + width] for k in rows], under=under, cell=cell)


def triangle(
    rows: Sequence[Sequence[Tensor]], corners: Sequence[str], *, cell: float = 1.4
) -> Figure:
    """Images on a triangular grid, one more per row; the corners named top, left, right."""
    n = len(rows)
    figure = plt.figure(figsize=(cell * n, cell * n), dpi=110)
    places = {(0, 0): corners[0], (n - 1, 0): corners[1], (n - 1, n - 1): corners[2]}
    for k, row in enumerate(rows):
        for i, image in enumerate(row):
            left = (i + (n - 1 - k) / 2) / n
            axis = figure.add_axes((left, 1 - (k + 1) / n, 0.94 / n, 0.94 / n))
            axis.imshow(
                image.squeeze(0).permute(1, 2, 0).clamp(0, 1).cpu(), interpolation="lanczos"
            )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if (k, i) in places:
                write = axis.set_title if k == 0 else axis.set_xlabel
                write(places[k, i], fontsize=8)
    return figure
