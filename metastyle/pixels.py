"""Figure 7: pixels optimised from the photo, from its style-neutral rendering, and from noise."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from metastyle.comparison import Pairs
from metastyle.kept_tensors import kept_tensors
from metastyle.losses import Perceptual, style_target
from metastyle.methods import gatys
from metastyle.params import ImageSide
from metastyle.transformer import stylise
from metastyle.vgg import VGG16


class Pixels(Pairs):
    """Section `pixels`.

    steps: of the optimiser. style_size: shorter side of the painting, pixels. compare_at: steps
    after which the starts are compared.
    """

    steps: PositiveInt
    style_size: ImageSide
    compare_at: Annotated[list[PositiveInt], Field(min_length=1)]


def starts(photo: Tensor, neutral: nn.Module, seed: int) -> dict[str, Tensor]:
    """Where an optimisation may begin, each of the photo's shape and in [0, 1]: `content`, the
    photo itself; `neutral`, its rendering by the style-neutral network; `noise`, uniform."""
    noise = torch.rand(photo.shape, generator=torch.Generator().manual_seed(seed))
    return {"content": photo, "neutral": stylise(neutral, photo).cpu(), "noise": noise}


def optimise(
    start: Tensor,
    photo: Tensor,
    style: Tensor,
    features: VGG16,
    perceptual: Perceptual,
    steps: int,
    *,
    cache: Path | None = None,
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise the perceptual loss of all trainings here over pixels, by L-BFGS as Gatys et al.

    Args:
        start, photo: RGB in [0, 1], (1, 3, H, W).
        style: likewise, any size.

    Returns:
        The image after `steps` steps, clamped to [0, 1], and the loss at each (columns step,
        from 0, and loss; of pixels that may lie beyond the range).
    """
    device = features.mean.device

    def compute() -> dict[str, Tensor]:
        target = style_target(features, style.to(device), perceptual)
        begin, content = start.to(device), photo.to(device)
        # The optimiser evaluates the loss once before its first step.
        image, curve = gatys.optimise(
            begin, content, target, features, perceptual, updates=steps + 1
        )
        return {"image": image, "losses": torch.tensor(curve, dtype=torch.float64)}

    kept = kept_tensors(
        cache, ["pixels", start, photo, style, features, perceptual, steps], compute
    )
    losses = kept["losses"].tolist()
    return kept["image"], pd.DataFrame({"step": range(len(losses)), "loss": losses})
