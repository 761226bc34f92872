"""Hatching: what in an image keeps step with the grid of the network's upsampling.

The network halves the image twice and doubles it twice by repeating values. Its smallest layers
have one value where the output has a tile of 4 x 4 pixels; what tells the pixels of a tile apart
is laid out by the convolutions behind the doublings, and what these do alike in every tile shows
as a grid of four pixels.
"""

from torch import Tensor
from torchvision.transforms.v2 import functional as F

PERIOD = 4  # pixels
BORDER = 16  # pixels left out, since padding disturbs them
BLUR = 2.5  # pixels, deviation of the blur that is subtracted


def details(images: Tensor) -> Tensor:
    """Images less their blur, borders left out.

    Args:
        images: RGB in [0, 1], (N, 3, H, W).

    Returns:
        (N, 3, H - 2 BORDER, W - 2 BORDER), in levels of 255; row and column 0 begin a tile.
    """
    kernel = 2 * round(2.5 * BLUR) + 1
    found = 255 * (images - F.gaussian_blur(images, [kernel, kernel], [BLUR, BLUR]))
    return found[..., BORDER:-BORDER, BORDER:-BORDER]


def pattern(images: Tensor, period: int = PERIOD) -> Tensor:
    """The mean tile of `details`: what repeats every `period` pixels, each channel's mean 0.

    Details that do not keep step with the tiles average out, the less the smaller the image;
    so does a grid that changes its sign from place to place.

    Args:
        images: RGB in [0, 1], (N, 3, H, W).

    Returns:
        (N, 3, period, period), in levels of 255.
    """
    found = details(images)
    height, width = (n // period for n in found.shape[-2:])
    found = found[..., : period * height, : period * width]
    tile = found.reshape(*found.shape[:2], height, period, width, period).mean((2, 4))
    return tile - tile.mean((2, 3), keepdim=True)


def rms(values: Tensor) -> Tensor:
    """Root of the mean square of each image's values, (N, ...) -> (N,)."""
    return values.flatten(1).square().mean(1).sqrt()


def hatching(images: Tensor, period: int = PERIOD) -> Tensor:
    """R.m.s. of `pattern`, (N,), in levels of 255."""
    return rms(pattern(images, period))


def agreement(a: Tensor, b: Tensor) -> float:
    """Correlation of two sets of patterns, over all their values."""
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
