"""Figure 7: pixels optimised from the photo, from its style-neutral rendering, and from noise."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from metastyle.kept import kept_tensors
from metastyle.losses import Perceptual, content_target, perceptual_loss, style_target
from metastyle.params import ImageSide, Section
from metastyle.transformer import stylise
from metastyle.vgg import VGG16


class Pixels(Section):
    """Section `pixels`.

    pairs: drawn from `seed`; size: pixels. steps, learning_rate: of Adam. style_size: shorter
    side of the painting, pixels. compare_at: steps after which the starts are compared.
    """

    pairs: PositiveInt
    seed: int
    size: ImageSide
    steps: PositiveInt
    learning_rate: PositiveFloat
    style_size: ImageSide
    compare_at: Annotated[list[PositiveInt], Field(min_length=1)]

    @model_validator(mode="after")
    def _within(self) -> "Pixels":
        if max(self.compare_at) > self.steps:
            raise ValueError("compare_at goes beyond `steps`")
        return self


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
    plan: Pixels,
    *,
    cache: Path | None = None,
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise the perceptual loss of all trainings here over the pixels of an image.

    By Adam, not Gatys' L-BFGS: without a line search that overshoots from some starts, and such
    an accident would decide between them. Adam's steps are bounded. After each the pixels are
    brought back into [0, 1], so that every loss is that of a picture.

    Args:
        start, photo: RGB in [0, 1], (1, 3, H, W).
        style: likewise, any size.

    Returns:
        The image after the last step, and the loss at each (columns step, from 0, and loss).
    """

    def compute() -> dict[str, Tensor]:
        device = features.mean.device
        content = content_target(features, photo.to(device), perceptual)
        target = style_target(features, style.to(device), perceptual)
        pixels = start.to(device).clone().requires_grad_()
        optimiser = torch.optim.Adam([pixels], lr=plan.learning_rate)
        losses = []
        for step in range(plan.steps + 1):
            loss = perceptual_loss(features, pixels, content, target, perceptual).total
            losses.append(loss.item())
            if step < plan.steps:
                (pixels.grad,) = torch.autograd.grad(loss, pixels)
                optimiser.step()
                with torch.no_grad():
                    pixels.clamp_(0, 1)
        return {"image": pixels, "losses": torch.tensor(losses, dtype=torch.float64)}

    decides = [start, photo, style, features, perceptual, plan.steps, plan.learning_rate]
    kept = kept_tensors(cache, ["pixels", *decides], compute)
    losses = kept["losses"].tolist()
    return kept["image"], pd.DataFrame({"step": range(len(losses)), "loss": losses})
