"""What a network is worth as a start: adapted by the paper's two rules to paintings, and judged."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.adaptation.adapt import Adaptation, Evaluations, adapt_with_evaluation, evaluate
from metastyle.config import Section
from metastyle.core import crops
from metastyle.core.crops import derive_seed
from metastyle.core.gradients import mean_gradient
from metastyle.core.losses import PerceptualLoss, idle_share, kurtosis
from metastyle.core.network import TransformerNet, stylise, transform
from metastyle.evaluation.defects import stray_share
from metastyle.evaluation.lpips import AlexNet, lpips, statistics, style_distance

ADAM, SGD = "Adam", "SGD"


class InnerRule(Section):
    """The inner loop's own way to adapt: so many steps of gradient descent, each on `photos`
    fresh crops."""

    steps: NonNegativeInt
    learning_rate: PositiveFloat
    photos: PositiveInt


class Judge(NamedTuple):
    """What every network is judged by: a loss, AlexNet, and photos that no training sees, RGB in
    [0, 1], (N, 3, H, W)."""

    loss: PerceptualLoss
    alexnet: AlexNet
    photos: Tensor


class Worth(NamedTuple):
    """losses: columns rule (ADAM, SGD), update, loss, content, style, saturated, patches. ends:
    a row of `measured` before Adam's first update and after the last. renders: by Adam's
    updates, (N, 3, H, W)."""

    losses: pd.DataFrame
    ends: pd.DataFrame
    renders: dict[int, Tensor]


def descend(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    loss: PerceptualLoss,
    settings: Adaptation,
    rule: InnerRule,
) -> Iterator[TransformerNet]:
    """The network before the first step of the inner rule and after each, always the same object;
    `start` is not modified.

    Args:
        settings: whose seed, crops' size and augmentation hold.
    """
    network = copy.deepcopy(start)
    parameters, target = dict(network.named_parameters()), loss.style(style.to(loss.device))
    yield network
    for step in range(1, rule.steps + 1):
        seed = derive_seed(settings.seed, "inner rule", step)
        drawn = crops.batch(photos, rule.photos, settings.sizes[0], settings.photos, seed)
        given = parameters, target, drawn.to(loss.device), list(parameters)
        gradient, _ = mean_gradient(loss.of_parameters, *given)
        with torch.no_grad():
            for name, tensor in parameters.items():
                tensor -= rule.learning_rate * gradient[name]
        yield network


def worth(
    start: TransformerNet,
    style: Tensor,
    photos: Sequence[Path],
    loss: PerceptualLoss,
    judge: Judge,
    settings: Adaptation,
    rule: InnerRule,
    plan: Evaluations,
) -> Worth:
    """Adapt a network to one painting by Adam and by the inner rule.

    Args:
        style: RGB in [0, 1], (1, 3, H, W). photos: what training crops are drawn from.
        loss: that is minimised.
    """
    given = start, style, photos
    adapted = adapt_with_evaluation(*given, judge.photos, loss, settings, plan, judge=judge.loss)
    target, rows = judge.loss.style(style.to(judge.loss.device)), []
    for step, network in enumerate(descend(*given, loss, settings, rule)):
        rows.append({"update": step, **evaluate(network, judge.photos, target, judge.loss)})
    losses = {ADAM: adapted.losses.drop(columns="seconds"), SGD: pd.DataFrame(rows)}
    ends = {0: start, settings.updates: adapted.network}
    found = {update: measured(network, style, judge) for update, network in ends.items()}
    return Worth(
        pd.concat(losses, names=["rule"]).reset_index("rule"),
        pd.DataFrame.from_dict(found, orient="index").rename_axis("update").reset_index(),
        adapted.renders,
    )


def measured(network: TransformerNet, style: Tensor, judge: Judge) -> dict[str, float]:
    """What no training minimises, means over the photos.

    Returns:
        lpips: AlexNet's distance from the photo. alexnet_style: `style_distance` to the painting.
        stray: share of colours that are neither the photo's nor the painting's. kurtosis: of the
        normalised maps, their mean. idle: see `idle_share`.
    """
    wanted, rows = statistics(style, judge.alexnet), []
    for photo in judge.photos.split(1):
        output, seen = stylise(network, photo), []
        with torch.no_grad():
            transform(dict(network.named_parameters()), photo.to(judge.loss.device), seen=seen)
        *normed, hidden = seen
        found = statistics(output, judge.alexnet)
        rows.append(
            {
                "lpips": lpips(output, photo, judge.alexnet).item(),
                "alexnet_style": style_distance(found, wanted).item(),
                "stray": stray_share(output.nan_to_num().cpu(), photo, style),
                "kurtosis": torch.stack([kurtosis(x).mean() for x in normed]).mean().item(),
                "idle": idle_share(hidden).item(),
            }
        )
    return pd.DataFrame(rows).mean().to_dict()
