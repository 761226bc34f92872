"""Adapting a network to one style, and the same loop from scratch (Johnson et al. 2016)."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle import batches
from metastyle.batches import Augmentation, derive_seed
from metastyle.losses import (
    Perceptual,
    StyleTarget,
    content_target,
    perceptual_loss,
    saturated_share,
    style_target,
    task_loss,
)
from metastyle.params import CropSide, ImageSide, Section
from metastyle.transformer import ParameterSet, TransformerNet, parameter_names, stylise
from metastyle.vgg import VGG16


class Adaptation(Section):
    """Section `adapt`, and `methods.johnson` for training from scratch."""

    seed: int
    updates: NonNegativeInt
    learning_rate: PositiveFloat
    contents_per_batch: PositiveInt
    size: CropSide
    style_size: ImageSide
    parameters: ParameterSet
    photos: Augmentation


class AdaptStyles(Section):
    """Section `adapt_styles`: which styles are adapted to, and how the result is watched."""

    styles: PositiveInt
    seed: int
    photos: PositiveInt
    photo_size: ImageSide
    renders: PositiveInt
    evaluate_at: list[NonNegativeInt]
    render_at: list[NonNegativeInt]


class Adapted(NamedTuple):
    """The adapted network and the training loss of each update (columns update, loss,
    content, style; the loss before that update's step)."""

    network: TransformerNet
    curve: pd.DataFrame


def adapt(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    features: VGG16,
    perceptual: Perceptual,
    settings: Adaptation,
    *,
    callback: Callable[[int, TransformerNet], None] | None = None,
) -> Adapted:
    """Minimise the perceptual loss for one style by Adam, starting from `start` (not modified).

    Args:
        style: RGB in [0, 1], (1, 3, H, W), any size.
        photos: files that training crops are drawn from.
        callback: called with the number of updates done (0 first) and the network so far.
    """
    s = settings
    network = copy.deepcopy(start)
    loss = task_loss(network, features, perceptual)
    target = style_target(features, style.to(features.mean.device), perceptual)
    parameters = dict(network.named_parameters())
    trained = [parameters[name] for name in parameter_names(network, s.parameters)]
    optimiser = torch.optim.Adam(trained, lr=s.learning_rate)
    if callback:
        callback(0, network)
    curve = []
    for update in range(1, s.updates + 1):
        seed = derive_seed(s.seed, "adapt", update)
        contents = batches.batch(photos, s.contents_per_batch, s.size, s.photos, seed)
        value, report = loss(parameters, target, contents.to(features.mean.device))
        gradients = torch.autograd.grad(value, trained)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        curve.append([update, *report[:3].tolist()])
        if callback:
            callback(update, network)
    return Adapted(network, pd.DataFrame(curve, columns=["update", "loss", "content", "style"]))


@torch.no_grad()
def evaluate(
    network: TransformerNet,
    contents: Tensor,
    target: StyleTarget,
    features: VGG16,
    perceptual: Perceptual,
) -> dict[str, float]:
    """Perceptual loss of stylised photos that no training saw, one photo at a time.

    Args:
        contents: RGB in [0, 1], (N, 3, H, W).

    Returns:
        `loss` (weighted sum), `content`, `style` (unweighted) and `saturated`, the share of
        output values within 1/255 of 0 or 1; means over the photos.
    """
    rows = []
    for content in contents.to(features.mean.device).split(1):
        output = stylise(network, content)
        wanted = content_target(features, content, perceptual)
        parts = perceptual_loss(features, output, wanted, target, perceptual)
        rows.append(torch.stack([*parts, saturated_share(output)]))
    names = ["loss", "content", "style", "saturated"]
    return dict(zip(names, torch.stack(rows).mean(0).tolist(), strict=True))
