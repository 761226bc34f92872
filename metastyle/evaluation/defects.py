"""Defects of renderings: saturated patches, stray colours, hatching, and droplets.

Hatching is what in an image keeps step with the grid of the network's upsampling. The network
halves the image twice and doubles it twice by repeating values. Its smallest layers
have one value where the output has a tile of 4 x 4 pixels; what tells the pixels of a tile apart
is laid out by the convolutions behind the doublings, and what these do alike in every tile shows
as a grid of four pixels.

Droplets are what makes stray colours: spikes in the maps of a network with instance norms, which
weaken all the rest of a map (Karras et al. 2020, section 2).
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional as F

from metastyle.core.images import resize
from metastyle.core.losses import idle_share, kurtosis, spike_penalty
from metastyle.core.network import TransformerNet, transform

STRAY, STRAY_SIDE = 12.0, 96  # a distance in CIE Lab; pixels
SPIKED = 6.0  # the kurtosis from which a map counts as spiked
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
    found = 255 * (images - _blurred(images))
    return found[..., BORDER:-BORDER, BORDER:-BORDER]


def _blurred(images: Tensor) -> Tensor:
    """A Gaussian blur of deviation BLUR, the image mirrored at its edges."""
    half = round(2.5 * BLUR)
    at = torch.arange(-half, half + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(at / BLUR).square() / 2)
    weights = weights / weights.sum()
    kernel = torch.outer(weights, weights).expand(images.shape[1], 1, -1, -1)
    padded = F.pad(images, [half] * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=images.shape[1])


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


def saturated_patches(outputs: Tensor, photos: Tensor, side: int = 8) -> Tensor:
    """Share of the side x side squares whose every value is within 1/255 of 0 or 1 in the
    output, and not so in the photo: white, black or pure colours that the style put there.

    Args:
        outputs, photos: in [0, 1], (N, 3, H, W).
    """

    def whole(images: Tensor) -> Tensor:
        free = ((images - 0.5).abs() <= 0.5 - 1 / 255).any(1, keepdim=True).float()
        return F.max_pool2d(free, side, stride=1) == 0

    return (whole(outputs) & ~whole(photos)).float().mean()


class Droplets(NamedTuple):
    """kurtosis: of every instance norm the median over its maps; spikes: mean excess of a map's
    kurtosis over `SPIKED`; idle: see `idle_share`."""

    kurtosis: list[float]
    spikes: float
    idle: float


@torch.no_grad()
def droplets(network: TransformerNet, photos: Tensor) -> Droplets:
    """Spikes in the maps of a network, and where its last hidden layer has hardly any channel left.

    Args:
        photos: RGB in [0, 1], (N, 3, H, W), of any size.
    """
    parameters, seen = dict(network.named_parameters()), []
    height, width = photos.shape[-2:]
    padded = F.pad(photos, (0, -width % 4, 0, -height % 4), mode="reflect")
    transform(parameters, padded.to(next(network.parameters()).device), seen=seen)
    *normed, hidden = seen
    medians = [kurtosis(x).median().item() for x in normed]
    return Droplets(medians, spike_penalty(normed, SPIKED).item(), idle_share(hidden).item())


def stray_share(
    output: Tensor, photo: Tensor, painting: Tensor | None = None, limit: float = STRAY
) -> float:
    """Share of an image's pixels whose colour is far from every colour of its photo and painting.

    Images are scaled down first (STRAY_SIDE pixels on the shorter side), so that single pixels and
    fine mixtures do not count. Distances are those of CIE Lab (Delta E 1976).

    Args:
        output, photo, painting: RGB in [0, 1], (1, 3, H, W), any sizes; no painting: of its photo
            alone.
        limit: a distance beyond which a colour is neither's.
    """
    shown = [output, photo] if painting is None else [output, photo, painting]
    small = (resize(x, STRAY_SIDE)[0].clamp(0, 1).permute(1, 2, 0).cpu() for x in shown)
    found, *given = (rgb2lab(x.numpy()).reshape(-1, 3) for x in small)
    distance, _ = cKDTree(np.concatenate(given)).query(found)
    return float((distance > limit).mean())
