"""Gatys et al. 2016: the pixels themselves are optimised, from the content image."""

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from metastyle.baselines import Context, Method, Printed
from metastyle.config import ImageSide
from metastyle.core.images import resize
from metastyle.core.losses import Balance, PerceptualLoss, StyleTarget


class Settings(Balance):
    """`methods.gatys`."""

    updates: PositiveInt
    tv_weight: NonNegativeFloat
    history: PositiveInt
    style_size: ImageSide


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, both directions summed."""
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean()
    right = (images[..., :, 1:] - images[..., :, :-1]).square().mean()
    return down + right


def optimise(
    start: Tensor,
    content: Tensor,
    target: StyleTarget,
    loss: PerceptualLoss,
    *,
    updates: int,
    history: int = 100,
    tv_weight: float = 0.0,
) -> tuple[Tensor, list[float]]:
    """Minimise the perceptual loss over pixels by L-BFGS.

    Args:
        start: where to begin, (1, 3, H, W) in [0, 1].
        content: the photo, same shape.
        updates: evaluations of loss and gradient; L-BFGS without line search spends one a step.

    Returns:
        The image, clamped to [0, 1], and the loss at each evaluation.
    """
    wanted = loss.content(content)
    pixels = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [pixels],
        max_iter=updates,
        max_eval=updates,
        history_size=history,
        tolerance_grad=0,
        tolerance_change=0,
    )
    curve: list[float] = []

    def closure() -> Tensor:
        value = loss(pixels, wanted, target).total + tv_weight * total_variation(pixels)
        (pixels.grad,) = torch.autograd.grad(value, pixels)
        curve.append(value.item())
        return value.detach()

    optimiser.step(closure)
    return pixels.detach().clamp(0, 1), curve


def build(settings: Settings, context: Context) -> Method:
    s = settings
    loss = PerceptualLoss(context.loss.vgg, s)

    def prepare(style):
        return loss.style(resize(style, s.style_size).to(loss.device))

    def stylise(target, contents, updates=s.updates):
        options = {"updates": updates, "history": s.history, "tv_weight": s.tv_weight}
        contents = contents.to(loss.device).split(1)
        return torch.cat([optimise(c, c, target, loss, **options)[0] for c in contents])

    return Method(
        label="Gatys et al. 2016",
        parameters=None,
        styles="any",
        updates=s.updates,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("N/A", {256: 7.7428, 512: 27.0517}),
    )
