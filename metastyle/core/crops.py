"""Random crops that are a pure function of a seed, so that a resumed run sees the same ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torchvision.transforms import v2

from metastyle.config import InputError, Probability, Section
from metastyle.core import images

DECODED_BYTES = 2**30  # of images kept in memory
_decoded: OrderedDict[Path, Tensor] = OrderedDict()  # the one used last is at the end


class Augmentation(Section):
    """How a crop is drawn from an image.

    scale: bounds of the crop's share of the image's area. aspect: bounds of its width over
    height. flip: probability of mirroring. The others are torchvision's ColorJitter.
    """

    scale: tuple[Probability, Probability] = (0.5, 1.0)
    aspect: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    flip: Probability = 0.5
    brightness: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


def derive_seed(seed: int, *key: object) -> int:
    """A 63-bit seed for one use, e.g. `derive_seed(0, "query", iteration, style)`."""
    text = repr((seed, *key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def draw(files: Sequence[Path], count: int, seed: int) -> list[Path]:
    """`count` different files, drawn from `seed` alone.

    Raises:
        InputError: there are fewer files than that.
    """
    if count > len(files):
        raise InputError(f"a batch of {count} needs as many images, {len(files)} given; add some")
    generator = torch.Generator().manual_seed(seed)
    return [files[i] for i in torch.randperm(len(files), generator=generator)[:count].tolist()]


def pairs(
    photos: Sequence[Path], artworks: Sequence[Path], count: int, seed: int
) -> list[tuple[Path, Path]]:
    """(photo, artwork) pairs: both are shuffled by the seed and dealt together; whichever ends
    is dealt from the start again. A smaller count gives the first of a larger one's."""
    photos = draw(photos, len(photos), seed)
    artworks = draw(artworks, len(artworks), seed + 1)
    return [(photos[k % len(photos)], artworks[k % len(artworks)]) for k in range(count)]


def crops(files: Sequence[Path], size: int, augmentation: Augmentation, seed: int) -> Tensor:
    """One random crop of each file: float RGB in [0, 1], (N, 3, size, size)."""
    a = augmentation
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=a.scale, ratio=a.aspect, antialias=True),
            v2.RandomHorizontalFlip(a.flip),
            v2.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(decoded(file)) for file in files])


def batch(
    files: Sequence[Path], count: int, size: int, augmentation: Augmentation, seed: int
) -> Tensor:
    """Random crops of `count` different random files; see `draw` and `crops`."""
    return crops(draw(files, count, seed), size, augmentation, seed)


def decoded(path: Path) -> Tensor:
    """`images.decode`; the images used last are kept, up to `DECODED_BYTES`."""
    if path in _decoded:
        _decoded.move_to_end(path)
        return _decoded[path]
    _decoded[path] = image = images.decode(path)
    while len(_decoded) > 1 and sum(kept.nbytes for kept in _decoded.values()) > DECODED_BYTES:
        _decoded.popitem(last=False)
    return image


def forget_decoded() -> None:
    """Keep no decoded image."""
    _decoded.clear()
