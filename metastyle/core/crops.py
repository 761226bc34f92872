"""Random crops that are a pure function of a seed, so that a resumed run sees the same ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from metastyle.config import InputError, Probability, Section
from metastyle.core import images

DECODED_BYTES = 2**30  # of images kept in memory
_decoded: OrderedDict[Path, Tensor] = OrderedDict()  # the one used last is at the end


class Augmentation(Section):
    """How a crop is drawn from an image.

    scale: bounds of the crop's share of the image's area. aspect: bounds of its width over
    height. flip: probability of mirroring. brightness, saturation: bounds of a factor; that of
    brightness is at most what leaves 95 % of the crop's pixels unclipped, or 1. contrast, hue:
    the most that a factor departs from 1, and a hue from its own (0.5: all hues).
    """

    scale: tuple[Probability, Probability] = (0.5, 1.0)
    aspect: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    flip: Probability = 0.5
    brightness: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    saturation: tuple[NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0)
    contrast: Probability = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        for name in ("scale", "aspect", "brightness", "saturation"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low:g} is above the upper {high:g}")
        return self


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
    cut = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=a.scale, ratio=a.aspect, antialias=True),
            v2.RandomHorizontalFlip(a.flip),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([recolour(images.to_float(cut(decoded(file))), a) for file in files])


def recolour(image: Tensor, augmentation: Augmentation) -> Tensor:
    """Random changes of brightness, contrast, saturation and hue: (3, H, W) in [0, 1]."""
    a, (gain, contrast, saturation, hue) = augmentation, torch.rand(4).tolist()
    brightest = torch.quantile(image.amax(0).flatten(), 0.95).item()
    most = max(1.0, 1 / max(brightest, 1 / 255))
    image = F.adjust_brightness(image, min(_between(a.brightness, gain), most))
    if a.contrast:
        image = F.adjust_contrast(image, 1 + a.contrast * (2 * contrast - 1))
    image = F.adjust_saturation(image, _between(a.saturation, saturation))
    return F.adjust_hue(image, a.hue * (2 * hue - 1)) if a.hue else image


def _between(bounds: tuple[float, float], share: float) -> float:
    low, high = bounds
    return low + share * (high - low)


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
