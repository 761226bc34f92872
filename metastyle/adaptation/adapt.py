"""Adapting a network to one style, and the same loop from scratch (Johnson et al. 2016)."""

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.config import CropSide, ImageSide, InputError, Precision, Probability, Section
from metastyle.core import capture, crops, images
from metastyle.core.crops import Augmentation, derive_seed
from metastyle.core.gradients import TaskLoss, each, mean_gradient
from metastyle.core.losses import PerceptualLoss, StyleTarget, saturated_share
from metastyle.core.network import ParameterSet, TransformerNet, parameter_names, stylise
from metastyle.evaluation.defects import saturated_patches
from metastyle.evaluation.timing import Stopwatch

log = logging.getLogger(__name__)


class Updates(Section):
    """How a network is trained for one style.

    sizes: sides of the crops, each for an equal share of the updates.
    warmup: updates over which the learning rate rises from 0 to `learning_rate`.
    schedule: afterwards it stays `constant`, or falls along a `cosine` to 0 at the last update.
    precision: of all convolutions in the updates on a GPU, of VGG-16's on a processor; evaluations
        compute in float32.
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
        return self.changed(**{name: getattr(updates, name) for name in Updates.model_fields})


class Evaluations(Section):
    """After which updates a network is evaluated and rendered, and on what.

    photos: of the evaluation loss, the first of their set by name; photo_size: pixels.
    renders: how many of them are rendered, likewise.
    """

    photos: PositiveInt
    photo_size: ImageSide
    renders: NonNegativeInt
    evaluate_at: list[NonNegativeInt]
    render_at: list[NonNegativeInt]


class Stop(Section):
    """When a training has converged: after every `every` updates the loss on validation photos is
    evaluated; it ends when the best of the last `evaluations` is lower by less than the share
    `least` than the best before them."""

    every: PositiveInt
    evaluations: PositiveInt
    least: Probability
    photos: PositiveInt  # validation photos, the first by name
    photo_size: ImageSide


class Step(NamedTuple):
    """The number of updates done, and the network so far, which the next update changes."""

    update: int
    network: TransformerNet


class Evaluated(NamedTuple):
    """The adapted network; a row per evaluation (columns update, seconds, loss, content, style,
    saturated, patches; the seconds of the updates alone); renderings by update, (N, 3, H, W)."""

    network: TransformerNet
    losses: pd.DataFrame
    renders: dict[int, Tensor]


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


def training_steps(
    start: TransformerNet,
    loss: TaskLoss,
    target: StyleTarget | None,
    photos: Sequence[Path],
    settings: Adaptation,
) -> Iterator[Step]:
    """Minimise a loss by Adam, starting from `start` (not modified).

    Args:
        loss: called with the parameters, `target` and a batch of crops.
        photos: files that training crops are drawn from.

    Yields:
        The network before the first update, and after each.
    """
    s = settings
    network = copy.deepcopy(start)
    parameters = dict(network.named_parameters())
    names = parameter_names(s.parameters)
    device = parameters[names[0]].device
    optimiser = capture.adam([parameters[name] for name in names], s.learning_rate)

    def change(size: int, contents: Tensor, rate: float | Tensor) -> Tensor:
        gradient, report = mean_gradient(loss, parameters, target, contents, names)
        for name in names:
            parameters[name].grad = gradient[name]
        capture.set_rate(optimiser, rate)
        optimiser.step()
        return report

    step = capture.Replayed(change, capture.graphs())
    yield Step(0, network)
    for update in range(1, s.updates + 1):
        seed, size = derive_seed(s.seed, "adapt", update), crop_size(update, s)
        cut = crops.cut_batch(photos, s.contents_per_batch, size, s.photos, seed)
        rate = capture.scalar(learning_rate(update, s), device)
        step(size, cut.on(device, s.photos), rate)
        yield Step(update, network)


def adapt_steps(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    loss: PerceptualLoss,
    settings: Adaptation,
) -> Iterator[Step]:
    """`training_steps` on the perceptual loss of one style (paper, section 3.2).

    Args:
        style: RGB in [0, 1], (1, 3, H, W), any size.
    """
    computed = loss.to_precision(settings.precision)
    target = loss.style(style.to(loss.device))
    return training_steps(start, computed.of_parameters, target, photos, settings)


def adapt(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    loss: PerceptualLoss,
    settings: Adaptation,
) -> TransformerNet:
    """The network after the last of `adapt_steps`."""
    for step in adapt_steps(start, style, photos, loss, settings):
        network = step.network
    return network


def adapt_with_evaluation(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    unseen: Tensor,
    loss: PerceptualLoss,
    settings: Adaptation,
    plan: Evaluations,
    *,
    judge: PerceptualLoss | None = None,
) -> Evaluated:
    """`adapt`, evaluated and rendered on photos that no training sees.

    Args:
        unseen: RGB in [0, 1], (N, 3, H, W).
        judge: the loss of the evaluation, if it is not the one of the training.
    """
    judge = judge or loss
    target = judge.style(style.to(judge.device))
    rows, renders = [], {}
    clock = Stopwatch()  # stands while the network is evaluated
    clock.resume()
    for update, network in adapt_steps(start, style, photos, loss, settings):
        seconds = clock.pause()
        if update in plan.evaluate_at:
            losses = evaluate(network, unseen, target, judge)
            rows.append({"update": update, "seconds": seconds, **losses})
        if update in plan.render_at:
            renders[update] = stylise(network, unseen[: plan.renders])
        clock.resume()
    return Evaluated(network, pd.DataFrame(rows), renders)


def has_converged(losses: Sequence[float], rule: Stop) -> bool:
    """Whether the rule says to stop, the losses being those of all evaluations so far."""
    if len(losses) <= rule.evaluations:
        return False
    before, last = losses[: -rule.evaluations], losses[-rule.evaluations :]
    return min(last) > (1 - rule.least) * min(before)


def adapt_until_converged(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    validation: Sequence[Path],
    loss: PerceptualLoss,
    settings: Adaptation,
    rule: Stop,
) -> TransformerNet:
    """`adapt`, ended by the rule or after `settings.updates`; the network of the best evaluation.

    Raises:
        InputError: there are too few validation photos.
    """
    if len(validation) < rule.photos:
        raise InputError(
            f"stop.photos: {rule.photos} validation photos asked for, {len(validation)} given"
        )
    unseen = images.load_squares(validation[: rule.photos], rule.photo_size)
    target = loss.style(style.to(loss.device))
    losses: dict[int, float] = {}
    for update, network in adapt_steps(start, style, photos, loss, settings):
        if update % rule.every:
            continue
        losses[update] = evaluate(network, unseen, target, loss)["loss"]
        if losses[update] == min(losses.values()):
            best = copy.deepcopy(network)
        if has_converged([*losses.values()], rule):
            break
    told = min(losses, key=losses.get), max(losses), losses[0], min(losses.values())
    log.info("best after %d of %d updates, evaluation loss %.4g -> %.4g", *told)
    return best


def evaluate(
    network: TransformerNet, contents: Tensor, target: StyleTarget, loss: PerceptualLoss
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
        parts = loss(output, loss.content(content), target)
        patches = saturated_patches(output, content)
        return torch.stack([*parts, saturated_share(output), patches])

    rows = each(row, contents.to(loss.device).split(1))
    names = ["loss", "content", "style", "saturated", "patches"]
    return dict(zip(names, torch.stack(rows).mean(0).tolist(), strict=True))
