"""The same picture under two names: a perceptual hash, for sets that must not share one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIDE, LOW = 32, 8  # pixels the picture is scaled to; frequencies kept per direction
# Share of differing bits below which two pictures count as one. Of our images and copies of them
# without 3 % of every border, nineteen in twenty differ by less; of our images among each other
# none that are not the same view do.
NEAR = 0.2


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """Which of the lowest cosine frequencies of a picture exceed their median.

    Scaling, compression and changes of contrast leave nearly all of them as they are.

    Args:
        grey: (SIDE, SIDE).

    Returns:
        LOW^2 - 1 booleans; the mean brightness is left out.
    """
    k, x = np.arange(LOW)[:, None], np.arange(SIDE)[None]
    cosines = np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE))
    low = (cosines @ grey @ cosines.T).flatten()[1:]
    return low > np.median(low)


def distances(files: Sequence[str | Path]) -> np.ndarray:
    """The share of differing bits of each two images, mirrored or not, whichever is less.

    Returns:
        (N, N), from 0, the same, to about 0.5, nothing in common.
    """
    pictures = []
    for file in files:
        with Image.open(file) as image:
            pictures.append(np.asarray(image.convert("L").resize((SIDE, SIDE)), dtype=float))
    prints = np.array([fingerprint(p) for p in pictures])
    mirrored = np.array([fingerprint(p[:, ::-1]) for p in pictures])
    apart = [(prints[:, None] != others).mean(2) for others in (prints, mirrored)]
    apart = np.minimum(*apart)
    return np.minimum(apart, apart.T)  # mirroring moves the median a little


def nearest(files: Sequence[str | Path], number: int) -> pd.DataFrame:
    """The pairs that resemble each other most: columns `one`, `other`, `distance`, ascending."""
    apart = distances(files)
    rows, columns = np.triu_indices(len(files), k=1)
    order = np.argsort(apart[rows, columns], kind="stable")[:number]
    pairs = [
        (files[i], files[j], apart[i, j]) for i, j in zip(rows[order], columns[order], strict=True)
    ]
    return pd.DataFrame(pairs, columns=["one", "other", "distance"])
