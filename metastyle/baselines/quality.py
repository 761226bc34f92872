"""Are the trainings good enough to judge a method by? What they learnt, against floors."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
import torch
from pydantic import PositiveFloat
from torch import Tensor

from metastyle.baselines._hypernetwork import CONTENT_LAYER, STYLE_LAYERS, statistics
from metastyle.config import Section
from metastyle.core.images import resize
from metastyle.core.vgg import VGG16
from metastyle.evaluation.metrics import psnr, ssim
from metastyle.evaluation.statistics import bootstrap


class Floor(Section):
    """The least mean PSNR (dB) and SSIM over photos that no training saw."""

    psnr: float
    ssim: float


class Generated(Section):
    """The most that the means of `distances` may be for Shen's generated networks."""

    content: PositiveFloat
    style: PositiveFloat


class Features(NamedTuple):
    """What Shen's loss compares of an image: relu3_3, and `statistics` of the style layers."""

    content: Tensor
    statistics: Tensor


def quality(reconstructions: Mapping[str, Tensor], photo: Tensor) -> pd.DataFrame:
    """PSNR and SSIM of one photo's reconstructions: columns decoder, psnr, ssim."""
    rows = [
        {"decoder": name, "psnr": psnr(image, photo), "ssim": ssim(image, photo)}
        for name, image in reconstructions.items()
    ]
    return pd.DataFrame(rows)


def references(photo: Tensor) -> dict[str, Tensor]:
    """What a reconstruction is to be read beside: the mean colour of a photo, (1, 3, H, W), and
    the photo on the grids of relu5_1 to relu2_1, enlarged again; by name, of the photo's shape."""
    size = [*photo.shape[-2:]]
    made = {"mean colour": photo.mean((2, 3), keepdim=True).expand_as(photo)}
    for layer in (5, 4, 3, 2):
        grid = [max(1, side >> (layer - 1)) for side in size]
        small = resize(photo, grid)
        made[f"grid of relu{layer}_1"] = resize(small, size)
    return made


def against_floors(table: pd.DataFrame, floors: Mapping[str, Floor]) -> pd.DataFrame:
    """Means with intervals over photos, and whether both means reach their floors.

    Args:
        table: columns decoder, photo, psnr, ssim.

    Returns:
        Indexed by decoder: psnr, ssim (Interval), psnr_floor, ssim_floor, reached (bool).
    """
    rows = {}
    for name, floor in floors.items():
        photos = table[table["decoder"] == name]
        psnrs, ssims = (bootstrap(photos, k, ["photo"]) for k in ("psnr", "ssim"))
        reached = psnrs.value >= floor.psnr and ssims.value >= floor.ssim
        rows[name] = [psnrs, ssims, floor.psnr, floor.ssim, reached]
    columns = ["psnr", "ssim", "psnr_floor", "ssim_floor", "reached"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


@torch.no_grad()
def features(vgg: VGG16, image: Tensor) -> Features:
    """Of RGB in [0, 1], (1, 3, H, W)."""
    layers = vgg(image, STYLE_LAYERS)
    return Features(layers[CONTENT_LAYER], statistics(layers)[0])


def distances(
    output: Features, photo: Features, other: Features, painting: Features
) -> dict[str, float]:
    """How far an image is from what Shen's loss compares it with, in units of what a reader knows.

    Args:
        output: of the photo, in the painting's style. other: another photo. These have one size.

    Returns:
        content: squared distance of relu3_3 to the photo's, over the other photo's to it;
        style: squared distance of the channel moments to the painting's, over the photo's to it.
    """
    content = (output.content - photo.content).square().mean()
    unlike = (other.content - photo.content).square().mean()
    style = (output.statistics - painting.statistics).square().sum()
    plain = (photo.statistics - painting.statistics).square().sum()
    return {"content": (content / unlike).item(), "style": (style / plain).item()}


def against_limits(table: pd.DataFrame, limits: Generated) -> pd.DataFrame:
    """Means of `distances` over pairs, with intervals over artists and photos, and whether each is
    within its limit.

    Args:
        table: columns artist, photo, content, style.

    Returns:
        Indexed by content, style: mean (Interval), limit, reached (bool).
    """
    rows = {}
    for name, limit in limits:
        mean = bootstrap(table, name, ["artist", "photo"])
        rows[name] = {"mean": mean, "limit": limit, "reached": mean.value <= limit}
    return pd.DataFrame.from_dict(rows, orient="index")
