"""Adapting a network to one style, and the same loop from scratch (Johnson et al. 2016)."""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle import batches
from metastyle.batches import Augmentation, derive_seed
from metastyle.gradients import each, mean_gradient
from metastyle.losses import (
    Perceptual,
    StyleTarget,
    content_target,
    perceptual_loss,
    saturated_share,
    style_target,
    task_loss,
)
from metastyle.measures import saturated_patches
from metastyle.params import CropSide, ImageSide, Section
from metastyle.transformer import ParameterSet, TransformerNet, parameter_names, stylise
from metastyle.vgg import VGG16, Precision


class Updates(Section):
    """How a network is trained for one style.

    sizes: sides of the crops, each for an equal share of the updates.
    warmup: updates over which the learning rate rises from 0 to `learning_rate`.
    schedule: afterwards it stays `constant`, or falls along a `cosine` to 0 at the last update.
    precision: of VGG-16 in the updates; evaluations compute in float32.
    """

    updates: NonNegativeInt
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    schedule: Literal["constant", "cosine"]
    contents_per_batch: PositiveInt
    sizes: Annotated[list[CropSide], Field(min_length=1)]
    parameters: ParameterSet
    precision: Precision = "float32"


class Adaptation(Updates):
    """Section `adapt`; `methods.johnson` gives other updates."""

    seed: int
    style_size: ImageSide
    photos: Augmentation

    def by(self, updates: Updates) -> "Adaptation":
        """The same with other updates."""
        return self.model_copy(update={n: getattr(updates, n) for n in Updates.model_fields})


class Adapted(NamedTuple):
    """The adapted network and the training loss of each update (columns update, loss,
    content, style; the loss before that update's step)."""

    network: TransformerNet
    curve: pd.DataFrame


def learning_rate(update: int, settings: Adaptation) -> float:
    """The step size of Adam at an update, counted from 1."""
    s = settings
    if update <= s.warmup:
        return s.learning_rate * update / (s.warmup + 1)
    if s.schedule == "constant":
        return s.learning_rate
    done = (update - s.warmup - 1) / (s.updates - s.warmup)
    return s.learning_rate * (1 + math.cos(math.pi * done)) / 2


def crop_size(update: int, settings: Adaptation) -> int:
    """The side of the training crops at an update, counted from 1."""
    return settings.sizes[(update - 1) * len(settings.sizes) // settings.updates]


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
    loss = task_loss(features.computing_in(s.precision), perceptual)
    target = style_target(features, style.to(features.mean.device), perceptual)
    parameters = dict(network.named_parameters())
    names = parameter_names(network, s.parameters)
    optimiser = torch.optim.Adam([parameters[name] for name in names], lr=s.learning_rate)
    if callback:
        callback(0, network)
    curve = []
    for update in range(1, s.updates + 1):
        seed = derive_seed(s.seed, "adapt", update)
        size = crop_size(update, s)
        contents = batches.batch(photos, s.contents_per_batch, size, s.photos, seed)
        contents = contents.to(features.mean.device)
        gradient, report = mean_gradient(loss, parameters, target, contents, names)
        for name in names:
            parameters[name].grad = gradient[name]
        optimiser.param_groups[0]["lr"] = learning_rate(update, s)
        optimiser.step()
        curve.append([update, *report[:3].tolist()])
        if callback:
            callback(update, network)
    return Adapted(network, pd.DataFrame(curve, columns=["update", "loss", "content", "style"]))


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
        `loss` (weighted sum), `content`, `style` (unweighted); `saturated`, the share of output
        values within 1/255 of 0 or 1; and `patches`, from `saturated_patches`: means over the
        photos.
    """

    @torch.no_grad()
    def row(content: Tensor) -> Tensor:
        output = stylise(network, content)
        wanted = content_target(features, content, perceptual)
        parts = perceptual_loss(features, output, wanted, target, perceptual)
        patches = saturated_patches(output, content)
        return torch.stack([*parts, saturated_share(output), patches])

    rows = each(row, contents.to(features.mean.device).split(1))
    names = ["loss", "content", "style", "saturated", "patches"]
    return dict(zip(names, torch.stack(rows).mean(0).tolist(), strict=True))
