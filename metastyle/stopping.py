"""Training for one style until it no longer helps."""

import contextlib
import copy
import logging
from collections.abc import Sequence
from pathlib import Path

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
    at; training ends when the best of the last `looks` is lower by less than the share `least`
    than the best before them, and the network with the best look of all is the result."""

    every: PositiveInt
    looks: PositiveInt
    least: Probability
    photos: PositiveInt  # validation photos, the first by name
    photo_size: ImageSide


class _Flat(Exception):
    """Ends `adapt`."""


def is_flat(losses: Sequence[float], rule: Stop) -> bool:
    """Whether the rule says to stop, the losses being those of all looks so far."""
    if len(losses) <= rule.looks:
        return False
    return min(losses[-rule.looks :]) > (1 - rule.least) * min(losses[: -rule.looks])


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
    """`adapt`, ended by the rule or after `settings.updates`; the network at its best look.

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
    best = start

    def look(update: int, network: TransformerNet) -> None:
        nonlocal best
        if update % rule.every:
            return
        losses.append(evaluate(network, photos, target, vgg, perceptual)["loss"])
        if losses[-1] == min(losses):
            best = copy.deepcopy(network)
        if is_flat(losses, rule):
            raise _Flat

    with contextlib.suppress(_Flat):
        adapt(start, style, training, vgg, perceptual, settings, callback=look)
    looked = [update * rule.every for update in range(len(losses))]
    told = looked[losses.index(min(losses))], looked[-1], losses[0], min(losses)
    log.info("best after %d of %d updates, evaluation loss %.4g -> %.4g", *told)
    return best
