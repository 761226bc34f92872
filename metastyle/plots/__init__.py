"""Every figure; imported by studies alone."""

from metastyle.plots._canvas import subplots
from metastyle.plots.lines import (
    against_parameters,
    bands,
    curves,
    frontier,
    means,
    quartile_bands,
    timings,
    trade_offs,
)
from metastyle.plots.pictures import grid, sheet, triangle

__all__ = [
    "against_parameters",
    "bands",
    "curves",
    "frontier",
    "grid",
    "means",
    "quartile_bands",
    "sheet",
    "subplots",
    "timings",
    "trade_offs",
    "triangle",
]
