"""Hatching: what in an image keeps step with the grid of the network's upsampling.

The network halves the image twice and doubles it twice by repeating values, so that the four
rows (and columns) under one value of the smallest layer are treated differently by the
convolutions behind it. What these do not make good repeats every four pixels.
"""

from torch import Tensor
from torchvision.transforms.v2 import functional as F

PERIOD = 4  # pixels
BORDER = 16  # pixels left out, since padding disturbs them
BLUR = 2.5  # pixels, deviation of the blur that is subtracted


def pattern(images: Tensor, period: int = PERIOD) -> Tensor:
    """The mean tile: what repeats every `period` pixels, in grey levels of 255, mean 0.

    Details that do not keep step with the tiles average out, the less the smaller the image.

    Args:
        images: RGB in [0, 1], (N, 3, H, W).

    Returns:
        (N, period, period); row and column 0 are those of the image.
    """
    grey = 255 * F.rgb_to_grayscale(images)[:, 0]
    kernel = 2 * round(2.5 * BLUR) + 1
    details = grey - F.gaussian_blur(grey, [kernel, kernel], [BLUR, BLUR])
    begin = -(-BORDER // period) * period
    height, width = ((n - begin - BORDER) // period for n in grey.shape[-2:])
    inner = details[:, begin : begin + period * height, begin : begin + period * width]
    tile = inner.reshape(-1, height, period, width, period).mean((1, 3))
    return tile - tile.mean((1, 2), keepdim=True)


def hatching(images: Tensor, period: int = PERIOD) -> Tensor:
    """R.m.s. of `pattern`, (N,), in grey levels of 255."""
    return pattern(images, period).square().mean((1, 2)).sqrt()


def agreement(a: Tensor, b: Tensor) -> float:
    """Correlation of two sets of patterns, (N, period, period), over all their values."""
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
