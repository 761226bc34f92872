"""Random crops that are a pure function of a seed, so that a resumed run sees the same ones.

What is random is drawn on the CPU, where crops stay uint8; their colours are changed on the
device that they are for.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from metastyle.config import InputError, Probability, Section
from metastyle.core import colours, images

log = logging.getLogger(__name__)

DECODED_BYTES = 2**30  # of images kept in memory
_decoded: OrderedDict[Path, Tensor] = OrderedDict()  # the one used last is at the end
unreadable: dict[Path, str] = {}  # files that `readable` met and passed over, and what they are
_reported: set[Path] = set()


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
    return [files[i] for i in _order(files, count, seed)[:count].tolist()]


def _order(files: Sequence[Path], count: int, seed: int) -> Tensor:
    if count > len(files):
        raise InputError(f"a batch of {count} needs as many images, {len(files)} given; add some")
    return torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))


def pairs(
    photos: Sequence[Path], artworks: Sequence[Path], count: int, seed: int
) -> list[tuple[Path, Path]]:
    """(photo, artwork) pairs: both are shuffled by the seed and dealt together; whichever ends
    is dealt from the start again. A smaller count gives the first of a larger one's."""
    photos = draw(photos, len(photos), seed)
    artworks = draw(artworks, len(artworks), seed + 1)
    return [(photos[k % len(photos)], artworks[k % len(artworks)]) for k in range(count)]


class Cut(NamedTuple):
    """Crops as they are drawn.

    levels: uint8, (N, 3, size, size). shares: float32 in [0, 1), (N, 4): where each crop's
    brightness, contrast, saturation and hue lie between their bounds.
    """

    levels: Tensor
    shares: Tensor

    def on(self, device: torch.device, augmentation: Augmentation) -> Tensor:
        """The crops in their colours, made on a device: float RGB in [0, 1], (N, 3, size, size)."""
        levels, shares = (t.to(device, non_blocking=True) for t in self)
        return recolour(images.to_float(levels), shares, augmentation)


def cut(given: Iterable[Tensor], size: int, augmentation: Augmentation, seed: int) -> Cut:
    """One random crop of each image, uint8 (3, H, W), drawn from `seed` alone."""
    a = augmentation
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=a.scale, ratio=a.aspect, antialias=True),
            v2.RandomHorizontalFlip(a.flip),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        levels, shares = zip(*[(transform(image), torch.rand(4)) for image in given], strict=True)
    return Cut(torch.stack(levels), torch.stack(shares))


def recolour(
    given: Tensor, shares: Tensor, augmentation: Augmentation, *, at_once: bool | None = None
) -> Tensor:
    """Change brightness, contrast, saturation and hue of (N, 3, H, W) in [0, 1]; see `Cut`.

    Args:
        at_once: by `colours`, without the CPU, or by torchvision an image after the other; the
            same up to rounding. None: at once on a GPU.
    """
    if not (given.is_cuda if at_once is None else at_once):
        pairs = zip(given, shares.tolist(), strict=True)
        return torch.stack([_recoloured(image, s, augmentation) for image, s in pairs])
    a, (gain, contrast, saturation, hue) = augmentation, shares.unbind(1)
    if a.brightness != (1, 1):
        given = colours.brightened(given, _between(a.brightness, gain))
    if a.contrast:
        given = colours.contrasted(given, 1 + a.contrast * (2 * contrast - 1))
    if a.saturation != (1, 1):
        given = colours.saturated(given, _between(a.saturation, saturation))
    return colours.turned(given, a.hue * (2 * hue - 1)) if a.hue else given


def _recoloured(image: Tensor, shares: list[float], augmentation: Augmentation) -> Tensor:
    a, (gain, contrast, saturation, hue) = augmentation, shares
    if a.brightness != (1, 1):
        brightest = torch.quantile(image.amax(0).flatten(), 0.95).item()
        most = max(1.0, 1 / max(brightest, 1 / 255))
        image = F.adjust_brightness(image, min(_between(a.brightness, gain), most))
    if a.contrast:
        image = F.adjust_contrast(image, 1 + a.contrast * (2 * contrast - 1))
    if a.saturation != (1, 1):
        image = F.adjust_saturation(image, _between(a.saturation, saturation))
    return F.adjust_hue(image, a.hue * (2 * hue - 1)) if a.hue else image


def _between(bounds: tuple[float, float], share: Any) -> Any:
    low, high = bounds
    return low + share * (high - low)


def crops(files: Sequence[Path], size: int, augmentation: Augmentation, seed: int) -> Tensor:
    """One random crop of each file: float RGB in [0, 1], (N, 3, size, size)."""
    drawn = cut(map(decoded, files), size, augmentation, seed)
    return drawn.on(torch.device("cpu"), augmentation)


def cut_batch(
    files: Sequence[Path], count: int, size: int, augmentation: Augmentation, seed: int
) -> Cut:
    """Random crops of `count` different random files; see `readable` and `cut`."""
    return cut(readable(files, range(count), count, seed), size, augmentation, seed)


def batch(
    files: Sequence[Path], count: int, size: int, augmentation: Augmentation, seed: int
) -> Tensor:
    """`cut_batch` in its colours, on the CPU."""
    drawn = cut_batch(files, count, size, augmentation, seed)
    return drawn.on(torch.device("cpu"), augmentation)


def readable(
    files: Sequence[Path], places: Iterable[int], count: int, seed: int
) -> Iterator[Tensor]:
    """The images at some places of `draw(files, count, seed)`.

    A file that does not decode is reported and replaced by the next one that would be drawn for
    its place, so that what a place gets depends on no other; where none is left, by any.

    Raises:
        InputError: there are fewer files than `count`, or none is left for a place.
    """
    order = _order(files, count, seed)
    for place in places:
        candidates = (files[k] for some in (order[place::count], order) for k in some)
        for path in candidates:
            if path in unreadable:
                continue
            try:
                image = decoded(path)
            except InputError as error:
                unreadable[path] = str(error)
                report({path: str(error)})
            else:
                break
        else:
            raise InputError(f"{unreadable[files[order[place]]]}; and no other image is left")
        yield image


def report(found: Mapping[Path, str]) -> None:
    """Warn of unreadable files, of each once; a loader's worker leaves that to its master."""
    for path, error in found.items() if get_worker_info() is None else ():
        if path not in _reported:
            log.warning("replaced by another: %s", error)
            _reported.add(path)


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
    """Keep no decoded image, and nothing of unreadable ones."""
    _decoded.clear()
    unreadable.clear()
