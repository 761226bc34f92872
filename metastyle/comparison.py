"""Which photo meets which artwork in the comparison (paper, figure 4)."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveInt

from metastyle.batches import draw
from metastyle.params import ImageSide, Section


class Comparison(Section):
    """Section `comparison`."""

    pairs: PositiveInt
    seed: int
    size: ImageSide


def pairs(
    photos: Sequence[Path], artworks: Sequence[Path], settings: Comparison
) -> list[tuple[Path, Path]]:
    """(photo, artwork) pairs, every file used once, drawn from the seed alone."""
    s = settings
    return list(
        zip(draw(photos, s.pairs, s.seed), draw(artworks, s.pairs, s.seed + 1), strict=True)
    )
