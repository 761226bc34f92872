"""Style swap: content patches replaced by the most alike style patches (Chen and Schmidt 2016)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from metastyle.config import InputError

CHUNK = 2**24  # similarities, or numbers of style patches, held at once


@torch.no_grad()
def swap(content: Tensor, style: Tensor, size: int, *, chunk: int = CHUNK) -> Tensor:
    """Rebuild contents from overlapping style patches, stride 1.

    Args:
        content: features (N, C, H, W).
        style: features of one style (1, C, h, w).
        size: side of the patches.
        chunk: bounds the memory; the answer does not depend on it.

    Returns:
        (N, C, H, W), each pixel the mean of what the patches over it hold there.

    Raises:
        InputError: a map is smaller than a patch.
    """
    for name, features in (("content", content), ("style", style)):
        height, width = features.shape[-2:]
        if min(height, width) < size:
            raise InputError(
                f"{name} features of {height} x {width}: smaller than a patch of {size}; "
                "use a larger image"
            )
    return torch.cat([paste(style, nearest(c, style, size, chunk), size) for c in content.split(1)])


def nearest(content: Tensor, style: Tensor, size: int, chunk: int = CHUNK) -> Tensor:
    """The style patch of largest normalised cross-correlation, for each content patch.

    The length of the content patch does not matter to the order and is left out; the first of
    equals wins.

    Args:
        content: (1, C, H, W).
        style: (1, C, h, w).

    Returns:
        Index of its upper left pixel in the flattened style map, (H - size + 1, W - size + 1).
    """
    channels, height, width = style.shape[1:]
    down, across = height - size + 1, width - size + 1
    places = (content.shape[2] - size + 1, content.shape[3] - size + 1)
    best = content.new_full(places, -torch.inf)
    index = torch.zeros(places, dtype=torch.long, device=content.device)
    rows = max(1, chunk // (across * max(places[0] * places[1], channels * size * size)))
    for top in range(0, down, rows):
        slab = style[:, :, top : top + rows + size - 1]
        patches = F.normalize(F.unfold(slab, size)[0].T, dim=1)
        scores = F.conv2d(content, patches.view(-1, channels, size, size))[0]
        score, patch = scores.max(0)
        better = score > best
        best = best.where(~better, score)
        index = index.where(~better, (top + patch // across) * width + patch % across)
    return index


def paste(style: Tensor, index: Tensor, size: int) -> Tensor:
    """Lay style patches over one another and average: the fold, one offset in a patch at a time.

    Args:
        style: (1, C, h, w).
        index: from `nearest`, (H - size + 1, W - size + 1).

    Returns:
        (1, C, H, W).
    """
    down, across = index.shape
    width = style.shape[3]
    pixels = style[0].flatten(1).T.contiguous()
    total = pixels.new_zeros(down + size - 1, across + size - 1, pixels.shape[1])
    count = pixels.new_zeros(down + size - 1, across + size - 1, 1)
    for y in range(size):
        for x in range(size):
            under = (slice(y, y + down), slice(x, x + across))
            total[under] += pixels[index + y * width + x]
            count[under] += 1
    return (total / count).permute(2, 0, 1)[None]
