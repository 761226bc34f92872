"""Figure 1: one photo in many styles; and where any of them clips."""

from collections.abc import Mapping

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.config import ImageSide, Probability, Section
from metastyle.core.gradients import each
from metastyle.core.network import stylise
from metastyle.evaluation.defects import saturated_patches


class StylesFigure(Section):
    """Section `styles_figure`.

    photo: which held-out photo is shown, by name from 0; size: pixels, of the pictures and of
    the check; inset: side of the painting in the corner over the picture's; columns: pictures
    in a row; measured_photos: held-out photos whose renderings are checked, the first by name;
    worst: renderings shown.
    """

    photo: NonNegativeInt
    size: ImageSide
    inset: Probability
    columns: PositiveInt
    measured_photos: PositiveInt
    worst: PositiveInt


def with_inset(picture: Tensor, painting: Tensor, share: float, border: int = 2) -> Tensor:
    """The picture with the painting in its lower left corner, in a white frame.

    Args:
        picture, painting: squares in [0, 1], (1, 3, H, H).
        share: side of the painting in the result over the picture's.
        border: of the frame, pixels.
    """
    side = max(1, round(share * picture.shape[-1]))
    small = F.interpolate(painting, size=(side, side), mode="bilinear", antialias=True)
    framed = F.pad(small.clamp(0, 1), (0, border, border, 0), value=1.0)
    result = picture.clone()
    result[..., -(side + border) :, : side + border] = framed
    return result


def saturation(networks: Mapping[str, nn.Module], photos: Mapping[str, Tensor]) -> pd.DataFrame:
    """`saturated_patches` of every photo, (1, 3, H, W), rendered by every network.

    Returns:
        Columns style (the network's name), photo, patches: share of all 8 x 8 squares.
    """
    rows = []
    for style, network in networks.items():
        shares = each(
            lambda photo, network=network: float(
                saturated_patches(stylise(network, photo).cpu(), photo)
            ),
            photos.values(),
        )
        rows += [
            {"style": style, "photo": name, "patches": share}
            for name, share in zip(photos, shares, strict=True)
        ]
    return pd.DataFrame(rows)
