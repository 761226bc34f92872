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
from metastyle.plots.single import against_delta, histograms

__all__ = [
    "against_delta",
    "against_parameters",
    "bands",
    "curves",
    "frontier",
    "grid",
    "histograms",
    "means",
    "quartile_bands",
    "sheet",
    "subplots",
    "timings",
    "trade_offs",
    "triangle",
]
