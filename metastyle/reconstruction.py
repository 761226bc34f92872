"""Are the decoders good enough to judge a method by? Photos encoded and decoded, against floors."""

from collections.abc import Mapping

import pandas as pd
from pydantic import PositiveInt
from torch import Tensor

from metastyle.intervals import Interval, bootstrap
from metastyle.metrics import psnr, ssim
from metastyle.params import ImageSide, Section


class Floor(Section):
    """The least mean PSNR (dB) and SSIM over photos that no training saw."""

    psnr: float
    ssim: float


class Baselines(Section):
    """Section `baselines`; photos: held-out ones, the first by name; null: all."""

    photos: PositiveInt | None
    photo_size: ImageSide
    shown: PositiveInt
    floors: dict[str, Floor]  # by decoder, in the figure's order


def quality(reconstructions: Mapping[str, Tensor], photo: Tensor) -> pd.DataFrame:
    """PSNR and SSIM of one photo's reconstructions: columns decoder, psnr, ssim."""
    rows = [
        {"decoder": name, "psnr": psnr(image, photo), "ssim": ssim(image, photo)}
        for name, image in reconstructions.items()
    ]
    return pd.DataFrame(rows)


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
