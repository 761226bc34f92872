"""Training for one style until it no longer helps."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import PositiveInt
from torch import Tensor

from metastyle import images
from metastyle.adaptation import Adaptation, adapt, evaluate
from metastyle.errors import InputError
from metastyle.losses import Perceptual, style_target
from metastyle.params import ImageSide, Probability, Section
from metastyle.transformer import TransformerNet
from metastyle.vgg import VGG16

log = logging.getLogger(__name__)


class Stop(Section):
    """The rule: after every `every` updates the evaluation loss on validation photos is looked
    at; training ends when it fell by less than the share `least` over the last `looks`."""

    every: PositiveInt
    looks: PositiveInt
    least: Probability
    photos: PositiveInt  # validation photos, the first by name
    photo_size: ImageSide


class _Flat(Exception):
    """Carries the network out of `adapt`."""


def is_flat(losses: Sequence[float], rule: Stop) -> bool:
    """Whether the rule says to stop, the losses being those of all looks so far."""
    return len(losses) > rule.looks and losses[-1] > (1 - rule.least) * losses[-1 - rule.looks]


def adapt_until_flat(
    start: TransformerNet,
    style: Tensor,
    training: Sequence[Path],
    validation: Sequence[Path],
    vgg: VGG16,
    perceptual: Perceptual,
    settings: Adaptation,
    rule: Stop,
) -> TransformerNet:
    """`adapt`, ended by the rule or after `settings.updates`.

    Raises:
        InputError: there are too few validation photos.
    """
    if len(validation) < rule.photos:
        raise InputError(
            f"stop.photos: {rule.photos} validation photos asked for, {len(validation)} given"
        )
    photos = images.load_squares(validation[: rule.photos], rule.photo_size)
    target = style_target(vgg, style.to(vgg.mean.device), perceptual)
    losses: list[float] = []

    def look(update: int, network: torch.nn.Module) -> None:
        if update % rule.every:
            return
        losses.append(evaluate(network, photos, target, vgg, perceptual)["loss"])
        if is_flat(losses, rule):
            raise _Flat(update, network)

    try:
        network, _ = adapt(start, style, training, vgg, perceptual, settings, callback=look)
        update = settings.updates
    except _Flat as flat:
        update, network = flat.args
    log.info("%d updates, evaluation loss %.4g -> %.4g", update, losses[0], losses[-1])
    return network
