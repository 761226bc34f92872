"""Chapter 9: blends of adapted networks, and how smooth they are (figure 5a, claim C6)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from metastyle.config import ImageSide, Probability, Section
from metastyle.core.kernels import gram
from metastyle.core.losses import PerceptualLoss, StyleTarget, content_loss, style_loss


class Interpolation(Section):
    """Section `interpolation`.

    styles: of the adapted ones; the line joins the first two, the triangle all three.
    weights: shares of the second style on the line, and strengths of the first.
    divisions: of a side of the triangle.
    measured_photos, measured_steps: how many photos and how finely the smoothness is measured.
    """

    styles: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    weights: Annotated[list[Probability], Field(min_length=2)]
    divisions: PositiveInt
    photos: PositiveInt
    size: ImageSide
    measured_photos: PositiveInt
    measured_steps: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _three_different_styles(self) -> "Interpolation":
        if len(set(self.styles)) < 3:
            raise ValueError("styles must be three different ones")
        return self


def triangle(divisions: int) -> list[list[tuple[float, float, float]]]:
    """Weights of three styles at the points of a triangular grid, row by row from the top.

    The corners are the styles themselves: the first on top, the second at the left, the third at
    the right. Row k has k + 1 points; every point's weights sum to 1.
    """
    n = divisions
    return [[((n - k) / n, (k - i) / n, i / n) for i in range(k + 1)] for k in range(n + 1)]


def cross_fade(first: Tensor, last: Tensor, shares: Sequence[float]) -> Tensor:
    """The control: pictures mixed instead of networks, (1, 3, H, W) twice -> (K, 3, H, W)."""
    return torch.cat([torch.lerp(first, last, share) for share in shares])


@torch.no_grad()
def along(
    pictures: Tensor, loss: PerceptualLoss, targets: Mapping[str, StyleTarget]
) -> pd.DataFrame:
    """What a walk from one picture to another looks like to VGG-16.

    Args:
        pictures: renderings of one photo in their order, (K, 3, H, W) in [0, 1].
        targets: Gram matrices of paintings by name.

    Returns:
        K rows with columns `step`, the distance to the picture before (nan in the first row):
        the root of the content loss between the two, a distance in feature space in which the
        steps of a straight line add up to its length; `distance`, the same to the first
        picture; and per painting its style loss (`release` or `paper`, as the loss has it).
    """
    settings = loss.settings
    rows = []
    first = before = None
    for picture in pictures.split(1):
        layers = loss.vgg(picture, [settings.content_layer, *settings.style_layers])
        features = layers[settings.content_layer]
        first = features if first is None else first
        grams = {k: gram(layers[k]) for k in settings.style_layers}
        rows.append(
            {
                "step": _distance(features, before) if before is not None else float("nan"),
                "distance": _distance(features, first),
                **{k: style_loss(grams, target, settings).item() for k, target in targets.items()},
            }
        )
        before = features
    return pd.DataFrame(rows)


def smoothness(walk: pd.DataFrame) -> dict[str, float]:
    """Of a table of `along`: `largest`, the longest step over the mean one (1: all are equal), and
    `detour`, the sum of the steps over the distance of the ends (1: a straight line)."""
    steps = walk["step"].iloc[1:]
    return {
        "largest": steps.max() / steps.mean(),
        "detour": steps.sum() / walk["distance"].iloc[-1],
    }


def _distance(a: Tensor, b: Tensor) -> float:
    return content_loss(a, b).sqrt().item()
