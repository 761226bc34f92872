"""Measures of images that no training minimises."""

from torch import Tensor
from torch.nn import functional as F


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
