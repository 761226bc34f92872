"""Which photo meets which artwork in the comparison (paper, figure 4)."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveInt

from metastyle.batches import draw
from metastyle.params import ImageSide, Section


class Pairs(Section):
    """How many pairs, the seed they are drawn from, and the side of the images in pixels."""

    pairs: PositiveInt
    seed: int
    size: ImageSide


class Comparison(Pairs):
    """Section `comparison`; `methods`: those whose images are compared, in this order."""

    methods: list[str]


def pairs(
    photos: Sequence[Path], artworks: Sequence[Path], settings: Pairs
) -> list[tuple[Path, Path]]:
    """(photo, artwork) pairs, every file used once, drawn from the seed alone."""
    s = settings
    return list(
        zip(draw(photos, s.pairs, s.seed), draw(artworks, s.pairs, s.seed + 1), strict=True)
    )
