"""Changes of colour for batches, with factors in tensors: on a GPU no step waits for the CPU.

Values are those of torchvision's functions of one image and a number each, up to rounding.
"""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in grey


def _per_image(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1)


def _mixed(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    share = _per_image(share)
    return (images * share + others * (1 - share)).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def brightened(images: Tensor, factor: Tensor) -> Tensor:
    """Times a factor (N,), at most one that leaves 95 % of an image's pixels unclipped, or 1."""
    brightest = torch.quantile(images.amax(1).flatten(1), 0.95, dim=1)
    most = (1 / brightest.clamp(min=1 / 255)).clamp(min=1)
    return (images * _per_image(torch.minimum(factor, most))).clamp(0, 1)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the image's mean grey by a factor (N,); 1 changes nothing."""
    return _mixed(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """Away from every pixel's grey by a factor (N,); 1 changes nothing."""
    return _mixed(images, grey(images), factor)


def turned(images: Tensor, turn: Tensor) -> Tensor:
    """Every hue turned by a share (N,) of the circle."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    divisor = torch.where(chroma > 0, chroma, 1)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turn.view(-1, 1, 1)
    channels = []
    for start in (5, 3, 1):  # red, green, blue: how far round from where the channel is full
        along = (hue + start).remainder(6)
        channels.append(value - chroma * torch.minimum(along, 4 - along).clamp(0, 1))
    return torch.stack(channels, 1).clamp(0, 1)
