"""Which photo meets which artwork."""

from collections.abc import Sequence
from pathlib import Path

from metastyle.batches import draw


def pairs(
    photos: Sequence[Path], artworks: Sequence[Path], count: int, seed: int
) -> list[tuple[Path, Path]]:
    """(photo, artwork) pairs: both are shuffled by the seed and dealt together; whichever ends
    is dealt from the start again. A smaller count gives the first of a larger one's."""
    photos = draw(photos, len(photos), seed)
    artworks = draw(artworks, len(artworks), seed + 1)
    return [(photos[k % len(photos)], artworks[k % len(artworks)]) for k in range(count)]
