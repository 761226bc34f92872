"""An adaptation, watched: its loss on photos that it does not see, and renderings, on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from metastyle.adaptation import Adaptation, adapt, evaluate
from metastyle.losses import Perceptual, style_target
from metastyle.params import ImageSide, Section
from metastyle.timing import Stopwatch
from metastyle.transformer import TransformerNet, stylise
from metastyle.vgg import VGG16


class Watch(Section):
    """After which updates to look, and at what.

    photos: of the evaluation loss, the first of their set by name; photo_size: pixels.
    renders: how many of them are rendered, likewise.
    """

    photos: PositiveInt
    photo_size: ImageSide
    renders: NonNegativeInt
    evaluate_at: list[NonNegativeInt]
    render_at: list[NonNegativeInt]


class AdaptStyles(Watch):
    """Section `adapt_styles`: how many held-out artworks are adapted to, drawn from a seed."""

    styles: PositiveInt
    seed: int


class Validation(Watch):
    """Section `validation`: the artworks, and at most how many of the networks kept on the way."""

    artworks: PositiveInt
    snapshots: PositiveInt


class Watched(NamedTuple):
    """The adapted network; a row per evaluation (columns update, seconds, loss, content, style,
    saturated; the seconds of the updates alone); renderings by update, (N, 3, H, W)."""

    network: TransformerNet
    losses: pd.DataFrame
    renders: dict[int, Tensor]


def adapt_and_watch(
    start: TransformerNet,
    style: Tensor,
    training: Sequence[Path],
    photos: Tensor,
    features: VGG16,
    perceptual: Perceptual,
    settings: Adaptation,
    plan: Watch,
    *,
    judge: Perceptual | None = None,
) -> Watched:
    """`adaptation.adapt`, evaluated and rendered on `photos` after some updates.

    Args:
        style: RGB in [0, 1], (1, 3, H, W).
        training: files that training crops are drawn from.
        photos: RGB in [0, 1], (N, 3, H, W), seen by no training.
        judge: the loss of the evaluation, if it is not the one of the training.
    """
    judge = judge or perceptual
    target = style_target(features, style.to(features.mean.device), judge)
    clock = Stopwatch()  # stands while the network is evaluated
    rows, renders = [], {}

    def look(update: int, network: TransformerNet) -> None:
        seconds = clock.pause()
        if update in plan.evaluate_at:
            losses = evaluate(network, photos, target, features, judge)
            rows.append({"update": update, "seconds": seconds, **losses})
        if update in plan.render_at:
            renders[update] = stylise(network, photos[: plan.renders])
        clock.resume()

    clock.resume()
    network, _ = adapt(start, style, training, features, perceptual, settings, callback=look)
    return Watched(network, pd.DataFrame(rows), renders)
