"""Figure 6: one painting, the same updates, different starts."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from metastyle.adaptation.adapt import (
    Adaptation,
    Updates,
    adapt,
    crop_size,
    evaluate,
    learning_rate,
)
from metastyle.config import ImageSide
from metastyle.core import images
from metastyle.core.cache import kept_table, kept_tensors
from metastyle.core.crops import derive_seed
from metastyle.core.gradients import each, mean_gradient
from metastyle.core.losses import Perceptual, style_target
from metastyle.core.network import TransformerNet, new_network, stylise, transform
from metastyle.core.vgg import VGG16

Arm = Literal["metastyle", "scratch", "scratch-best", "painting", "autoencoder"]


class Learning(Updates):
    """Section `learning`: the updates that all arms share, and what is looked at.

    arms: where the network comes from. `metastyle`: the style-neutral network. `scratch`: drawn
        at random (Johnson et al.). `scratch-best`: the same with the learning rate of `rates`
        that is best on the first `rate_artworks` validation artworks. `painting`: trained for
        one training artwork by `painting`'s updates. `autoencoder`: trained by `autoencoder`'s
        to reproduce photos.
    run_on: updates of the arms that go on for longer than the others.
    artworks: held-out ones, the first of the order drawn from `order_seed`.
    seeds: one run each per artwork; a seed decides the crops, and the random start.
    photos: of the evaluation loss, the first of their set by name; photo_size: pixels.
    compare_at: updates after which arms are compared, of those in `evaluate_at`.
    render_at: updates whose images are kept, of the first artwork, seed and photo.
    """

    arms: Annotated[list[Arm], Field(min_length=1)]
    run_on: dict[Arm, PositiveInt]
    artworks: PositiveInt
    order_seed: int
    seeds: Annotated[list[int], Field(min_length=1)]
    photos: PositiveInt
    photo_size: ImageSide
    evaluate_at: list[NonNegativeInt]
    compare_at: Annotated[list[PositiveInt], Field(min_length=1)]
    render_at: list[NonNegativeInt]
    rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    rate_artworks: PositiveInt
    painting: Updates
    autoencoder: Updates

    @model_validator(mode="after")
    def _comparable(self) -> "Learning":
        if self.warmup or self.schedule != "constant" or len(self.sizes) != 1:
            raise ValueError("arms of unequal length need one size and a constant learning rate")
        if self.updates not in self.evaluate_at:
            raise ValueError("evaluate_at needs the last update, `updates`")
        if not {u for u in self.evaluate_at if 0 < u <= self.updates} >= set(self.compare_at):
            raise ValueError("compare_at must be among evaluate_at and not beyond `updates`")
        return self


class Common(NamedTuple):
    """What all runs share: the loss, section `adapt`, and the photos that crops come from."""

    features: VGG16
    perceptual: Perceptual
    adaptation: Adaptation
    photos: Sequence[Path]


def recipe(
    arm: Arm, seed: int, adaptation: Adaptation, plan: Learning, *, rate: float | None = None
) -> Adaptation:
    """The updates of one run: equal crops at equal updates for all arms of a seed.

    Args:
        adaptation: section `adapt`; the painting's size and the crops' augmentation are its.
        rate: a learning rate of the arm's own.
    """
    changes = {"seed": seed, "updates": plan.run_on.get(arm, plan.updates)}
    changes["learning_rate"] = rate or plan.learning_rate
    return adaptation.by(plan).model_copy(update=changes)


def learn(
    start: TransformerNet,
    artwork: Path,
    held_out: Sequence[Path],
    common: Common,
    settings: Adaptation,
    plan: Learning,
    *,
    look: Callable[[int, TransformerNet], None] | None = None,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Adapt `start` to an artwork; the evaluation losses of each photo on the way.

    Args:
        held_out: photos of the evaluation; no update sees them.
        look: called after every update (0 first) with the network so far; not called where the
            table is read from `cache`.

    Returns:
        Columns update, photo (its place in `held_out`), loss, content, style (the two
        unweighted).
    """
    c = common

    def compute() -> pd.DataFrame:
        style = images.load(artwork, settings.style_size)
        target = style_target(c.features, style.to(c.features.mean.device), c.perceptual)
        contents = images.load_squares(held_out, plan.photo_size)
        rows = []

        def after(update: int, network: TransformerNet) -> None:
            if update in plan.evaluate_at:
                losses = each(
                    lambda content: evaluate(network, content, target, c.features, c.perceptual),
                    contents.split(1),
                )
                rows.extend({"update": update, "photo": k, **row} for k, row in enumerate(losses))
            if look:
                look(update, network)

        adapt(start, style, c.photos, c.features, c.perceptual, settings, callback=after)
        return pd.DataFrame(rows)[["update", "photo", "loss", "content", "style"]]

    decides = [start, artwork, held_out, *c, settings, plan.evaluate_at, plan.photo_size]
    return kept_table(cache, ["learn", *decides], compute)


def learning_curve(
    start: TransformerNet,
    artwork: Path,
    held_out: Sequence[Path],
    common: Common,
    settings: Adaptation,
    plan: Learning,
) -> tuple[pd.DataFrame, dict[int, Tensor]]:
    """`learn`, computed afresh, and renderings of the first photo by update, (1, 3, H, W)."""
    photo = images.load_square(held_out[0], plan.photo_size)
    renders = {}

    def look(update: int, network: TransformerNet) -> None:
        if update in plan.render_at:
            renders[update] = stylise(network, photo).cpu()

    table = learn(start, artwork, held_out, common, settings, plan, look=look)
    return table, renders


def start(
    arm: Arm,
    seed: int,
    neutral: TransformerNet,
    artworks: Sequence[Path],
    common: Common,
    plan: Learning,
    *,
    cache: Path | None = None,
) -> TransformerNet:
    """The network that an arm's runs of one seed begin with.

    Args:
        neutral: the style-neutral network.
        artworks: training ones, of which `painting` takes `training_painting`.
        cache: see `kept_tensors`; the starts that are trained first are kept there.
    """
    c, device = common, common.features.mean.device
    if arm == "metastyle":
        return neutral
    random = new_network(seed).to(device)  # PyTorch's default initialisation
    if arm in ("scratch", "scratch-best"):
        return random
    updates = plan.painting if arm == "painting" else plan.autoencoder
    # Other crops than those of the race.
    settings = c.adaptation.by(updates).model_copy(update={"seed": derive_seed(seed, "start")})
    artwork = training_painting(artworks, seed)

    def train() -> dict[str, Tensor]:
        if arm == "painting":
            style = images.load(artwork, settings.style_size)
            done = adapt(random, style, c.photos, c.features, c.perceptual, settings).network
        else:
            done = autoencode(random, c.photos, settings)
        return dict(done.named_parameters())

    decides = [arm, random, artwork, *c, settings]
    network = TransformerNet()
    network.load_state_dict(kept_tensors(cache, decides, train))
    return network.to(device)


def training_painting(artworks: Sequence[Path], seed: int) -> Path:
    """The artwork that the start of `painting` is trained for, drawn from the seed."""
    return batches.draw(artworks, 1, derive_seed(seed, "painting"))[0]


def autoencode(
    start: TransformerNet, photos: Sequence[Path], settings: Adaptation
) -> TransformerNet:
    """Minimise the mean square of output minus input by Adam; `start` is not modified.

    The updates are those of `adaptation.adapt` with another loss: for a seed, the same crops.
    """
    s = settings
    network = copy.deepcopy(start)
    parameters = dict(network.named_parameters())
    names = list(parameters)
    device = parameters[names[0]].device
    optimiser = torch.optim.Adam(parameters.values(), lr=s.learning_rate)

    def loss(weights, _, contents):
        value = (torch.sigmoid(transform(weights, contents)) - contents).square().mean()
        return value, value.detach()

    for update in range(1, s.updates + 1):
        seed, size = derive_seed(s.seed, "adapt", update), crop_size(update, s)
        contents = batches.batch(photos, s.contents_per_batch, size, s.photos, seed)
        gradient, _ = mean_gradient(loss, parameters, None, contents.to(device), names)
        for name in names:
            parameters[name].grad = gradient[name]
        optimiser.param_groups[0]["lr"] = learning_rate(update, s)
        optimiser.step()
    return network


def try_rates(
    artworks: Sequence[Path],
    photos: Sequence[Path],
    common: Common,
    plan: Learning,
    *,
    cache: Path | None,
) -> pd.DataFrame:
    """Johnson's training by each of `plan.rates`, with the common number of updates.

    Args:
        artworks, photos: validation ones; the first of each by name are used.

    Returns:
        Columns rate, artwork, loss: the mean evaluation loss at the last update.
    """
    rows = []
    seed = plan.seeds[0]
    last = plan.model_copy(update={"evaluate_at": [plan.updates], "run_on": {}})
    for rate in plan.rates:
        for artwork in artworks[: plan.rate_artworks]:
            settings = recipe("scratch-best", seed, common.adaptation, last, rate=rate)
            random = new_network(seed).to(common.features.mean.device)
            table = learn(
                random, artwork, photos[: plan.photos], common, settings, last, cache=cache
            )
            rows.append({"rate": rate, "artwork": artwork.name, "loss": table["loss"].mean()})
    return pd.DataFrame(rows)


def best_rate(trials: pd.DataFrame) -> float:
    """The rate of lowest loss in the geometric mean, so that no loud painting decides alone."""
    return float(np.log(trials.set_index("rate")["loss"]).groupby("rate").mean().idxmin())
