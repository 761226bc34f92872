"""What all figures have in common."""

from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats


@cache
def _use_jpeg() -> None:
    """Figures of a notebook become JPEG: a page of photos stays under a megabyte."""
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})


def subplots(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """matplotlib's, at the resolution of all figures here; the axes always in rows and columns."""
    _use_jpeg()
    return plt.subplots(rows, columns, **{"squeeze": False, "dpi": 110, **options})
