"""Are the trainings good enough to judge a method by? What they learnt, against floors."""

from collections.abc import Mapping

import pandas as pd
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.baselines._hypernetwork import CONTENT_LAYER, style_statistics
from metastyle.config import ImageSide, Section
from metastyle.core.images import resize
from metastyle.core.vgg import VGG16
from metastyle.evaluation.metrics import psnr, ssim
from metastyle.evaluation.statistics import Interval, bootstrap


class Floor(Section):
    """The least mean PSNR (dB) and SSIM over photos that no training saw."""

    psnr: float
    ssim: float


class Generated(Section):
    """The most that the means of `apart` may be for Shen's generated networks."""

    content: PositiveFloat
    style: PositiveFloat


class Baselines(Section):
    """Section `baselines`; photos: held-out ones, the first by name; null: all."""

    photos: PositiveInt | None
    photo_size: ImageSide
    shown: PositiveInt
    floors: dict[str, Floor]  # by decoder, in the figure's order
    generated: Generated


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
        found: dict[str, Interval] = {k: bootstrap(photos, k, ["photo"]) for k in ("psnr", "ssim")}
        rows[name] = {
            **found,
            "psnr_floor": floor.psnr,
            "ssim_floor": floor.ssim,
            "reached": found["psnr"].value >= floor.psnr and found["ssim"].value >= floor.ssim,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.no_grad()
def apart(
    output: Tensor, photo: Tensor, other: Tensor, painting: Tensor, vgg: VGG16
) -> dict[str, float]:
    """How far an image is from what Shen's loss compares it with, in units of what a reader knows.

    Args:
        output: of the photo, in the painting's style. other: another photo. All
            (1, 3, H, W) in [0, 1], but the painting, which may have another size.

    Returns:
        content: squared distance of relu3_3 to the photo's, over the other photo's to it;
        style: squared distance of the channel moments to the painting's, over the photo's to it.
    """
    found, wanted, unlike = (
        vgg(image, [CONTENT_LAYER])[CONTENT_LAYER] for image in (output, photo, other)
    )
    content = (found - wanted).square().mean() / (unlike - wanted).square().mean()
    style = style_statistics(vgg, painting)
    own, plain = (style_statistics(vgg, image) for image in (output, photo))
    moved = (own - style).square().sum() / (plain - style).square().sum()
    return {"content": content.item(), "style": moved.item()}


def against_limits(table: pd.DataFrame, limits: Generated) -> pd.DataFrame:
    """Means of `apart` over pairs, with intervals over artists and photos, and whether each is
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
