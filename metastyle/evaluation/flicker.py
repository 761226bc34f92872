"""Flicker: how far a clip departs from its own past, carried along by the motion (claim C8).

Every error is a root mean square over pixels and channels of values in [0, 1]. A frame that is
the last one moved along has none.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

LEVEL = 1.01 / 255  # a step of 8-bit values, with room for rounding


def rms(x: Tensor) -> float:
    """Root of the mean square of all values."""
    return x.square().mean().sqrt().item()


def pan(photo: Tensor, size: int, step: int, frames: int) -> Iterator[Tensor]:
    """A camera that moves over a still photo, `step` whole pixels right and down per frame.

    Args:
        photo: (1, 3, H, W), each side at least size + step * (frames - 1).

    Yields:
        `frames` windows, (1, 3, size, size).
    """
    for start in (step * k for k in range(frames)):
        yield photo[..., start : start + size, start : start + size]


def pan_errors(frames: Iterable[Tensor], step: int) -> list[float]:
    """Difference of each frame of a `pan` to the one before, over the part that both show.

    The motion is known and in whole pixels: nothing is estimated and nothing interpolated.
    """
    return [
        rms(now[..., : -step or None, : -step or None] - before[..., step:, step:])
        for before, now in pairwise(frames)
    ]


def flow(image: Tensor, other: Tensor) -> Tensor:
    """Where each pixel of `image` is found in `other`: DIS optical flow (Kroeger et al. 2016).

    Args:
        image, other: RGB in [0, 1], (1, 3, H, W), H and W at least 16.

    Returns:
        (1, 2, H, W) in pixels, x before y.
    """
    grey = [cv2.cvtColor(_bytes(picture), cv2.COLOR_RGB2GRAY) for picture in (image, other)]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return torch.from_numpy(search.calc(*grey, None)).permute(2, 0, 1)[None]


def warp(image: Tensor, motion: Tensor) -> Tensor:
    """out(p) = image(p + motion(p)), bilinear; beyond the edge the edge's value.

    Args:
        image: (1, C, H, W).
        motion: (1, 2, H, W) in pixels, as `flow` gives it.
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack([x, y]) + motion  # pixel centres; grid_sample wants them in [-1, 1]
    scale = torch.tensor([width - 1, height - 1]).view(2, 1, 1) / 2
    grid = (at / scale - 1).permute(0, 2, 3, 1)
    return F.grid_sample(image, grid.to(image.dtype), padding_mode="border", align_corners=True)


def visible(back: Tensor, forth: Tensor) -> Tensor:
    """Pixels whose flow leads to a place whose own flow leads back: (1, 1, H, W), True or False.

    The tolerance is that of Sundaram et al. (2010): |b + f|^2 <= 0.01 (|b|^2 + |f|^2) + 0.5, f
    taken where b leads. What was hidden before, or comes from outside the frame, is False.

    Args:
        back: flow from this frame to the one before; forth: from that one to this.
    """
    height, width = back.shape[-2:]
    returned = warp(forth, back)
    squares = back.square().sum(1, True) + returned.square().sum(1, True)
    close = (back + returned).square().sum(1, True) <= 0.01 * squares + 0.5
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = x + back[:, :1], y + back[:, 1:]
    return close & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def errors(clip: Iterable[dict[str, Tensor]], source: str) -> pd.DataFrame:
    """Flicker of several renderings of one clip, frame by frame; two frames are held at a time.

    Args:
        clip: for each frame the pictures by name, (1, 3, H, W) in [0, 1], the source among them.
        source: whose motion is estimated.

    Returns:
        A row per picture name and frame but the first, with columns
        `warp`: rms(o_t - warp(o_{t-1})) where the motion is known (`visible` on the source), nan
        if it is so nowhere;
        `change`: rms((o_t - o_{t-1}) - (x_t - x_{t-1})), x the source: needs no motion;
        `still`: rms(o_t - o_{t-1}) where no channel of the source changes by more than a level of
        255, nan if it is so nowhere;
        `contrast`: rms(o_t - its mean colour), what a value is to be compared with;
        `seen`: share of the pixels whose motion is known.
    """
    rows = []
    for number, (before, now) in enumerate(pairwise(clip), start=1):
        x, last = now[source], before[source]
        back = flow(x, last)
        mask = visible(back, flow(last, x))
        still = (x - last).abs().amax(1, keepdim=True) <= LEVEL
        seen = mask.float().mean().item()
        for name, o in now.items():
            moved = (o - warp(before[name], back)).masked_select(mask)
            rows.append(
                {
                    "frame": number,
                    "name": name,
                    "warp": rms(moved),
                    "change": rms((o - before[name]) - (x - last)),
                    "still": rms((o - before[name]).masked_select(still)),
                    "contrast": rms(o - o.mean((2, 3), keepdim=True)),
                    "seen": seen,
                }
            )
    return pd.DataFrame(rows)


def _bytes(image: Tensor) -> np.ndarray:
    levels = image[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()
