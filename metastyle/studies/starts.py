"""Chapter 7a, figure 6: a painting learnt with the same updates from different starts."""

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from tqdm import tqdm

from metastyle.adaptation import adapt
from metastyle.adaptation.adapt import Adaptation, Updates
from metastyle.baselines import Context, context
from metastyle.config import ImageSide, Project
from metastyle.core import cache, crops, images, splits
from metastyle.core.checkpoint import load_neutral
from metastyle.core.crops import derive_seed
from metastyle.core.gradients import each
from metastyle.core.network import TransformerNet, new_network, stylise, transform
from metastyle.files import write_table

Start = Literal["metastyle", "scratch", "scratch-best", "painting", "autoencoder"]
COLUMNS = ["arm", "artwork", "artist", "seed", "learning_rate"]  # of results, before the losses'


class Starts(Updates):
    """Section `starts`: the updates that are the same from every start, and their evaluation.

    names: where the network comes from. `metastyle`: the style-neutral network. `scratch`: drawn
        at random (Johnson et al.). `scratch-best`: the same with the learning rate of `rates`
        that is best on the first `rate_artworks` validation artworks. `painting`: trained for
        one training artwork by `painting`'s updates. `autoencoder`: trained by `autoencoder`'s
        to reproduce photos.
    run_on: updates of the starts that go on for longer than the others.
    artworks: held-out ones, the first of the order drawn from `order_seed`.
    seeds: one run each per artwork; a seed decides the crops, and the random start.
    photos: of the evaluation loss, the first of their set by name; photo_size: pixels.
    compare_at: updates after which starts are compared, of those in `evaluate_at`.
    render_at: updates whose images are kept, of the first artwork, seed and photo.
    """

    names: Annotated[list[Start], Field(min_length=1)]
    run_on: dict[Start, PositiveInt]
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
    def _comparable(self) -> Self:
        if self.warmup or self.schedule != "constant" or len(self.sizes) != 1:
            raise ValueError("runs of unequal length need one size and a constant learning rate")
        if self.updates not in self.evaluate_at:
            raise ValueError("evaluate_at needs the last update, `updates`")
        if not {u for u in self.evaluate_at if 0 < u <= self.updates} >= set(self.compare_at):
            raise ValueError("compare_at must be among evaluate_at and not beyond `updates`")
        return self


class Run(NamedTuple):
    """All runs from one start.

    prepared: what came before, if anything did: the losses of the learning rates tried, or the
        artworks trained for. losses: a row per artwork, seed, update and photo.
    """

    prepared: pd.DataFrame | None
    losses: pd.DataFrame


def recipe(
    name: Start, seed: int, adaptation: Adaptation, plan: Starts, *, rate: float | None = None
) -> Adaptation:
    """The updates of one run: for a seed, equal crops at equal updates from every start.

    Args:
        adaptation: section `adapt`; the painting's size and the crops' augmentation are its.
        rate: a learning rate of the start's own.
    """
    updates = plan.run_on.get(name, plan.updates)
    rate = rate or plan.learning_rate
    return adaptation.by(plan).changed(seed=seed, updates=updates, learning_rate=rate)


def learning_curve(
    start: TransformerNet,
    artwork: Path,
    held_out: Sequence[Path],
    context: Context,
    settings: Adaptation,
    plan: Starts,
) -> tuple[pd.DataFrame, dict[int, Tensor]]:
    """Adapt `start` to an artwork; the evaluation loss of each photo on the way.

    Args:
        held_out: photos of the evaluation; no update sees them.

    Returns:
        Columns update, photo (its place in `held_out`), loss, content, style (the two
        unweighted); and renderings of the first photo by update, (1, 3, H, W).
    """
    loss = context.loss
    style = images.load(artwork, settings.style_size)
    target = loss.style(style.to(loss.device))
    unseen = images.load_squares(held_out, plan.photo_size).split(1)
    rows, renders = [], {}
    for update, network in adapt.adapt_steps(start, style, context.photos, loss, settings):
        if update in plan.evaluate_at:
            losses = each(lambda photo, n=network: adapt.evaluate(n, photo, target, loss), unseen)
            rows += [{"update": update, "photo": k, **found} for k, found in enumerate(losses)]
        if update in plan.render_at:
            renders[update] = stylise(network, unseen[0]).cpu()
    return pd.DataFrame(rows)[["update", "photo", "loss", "content", "style"]], renders


def learn(
    start: TransformerNet,
    artwork: Path,
    held_out: Sequence[Path],
    context: Context,
    settings: Adaptation,
    plan: Starts,
) -> pd.DataFrame:
    """The losses of `learning_curve`, read back if they were computed before."""
    decides = [start, artwork, held_out, settings, plan.evaluate_at, plan.photo_size]
    file = _kept("tables/{}.csv", context, "learn", *decides)
    return cache.kept_table(
        file, lambda: learning_curve(start, artwork, held_out, context, settings, plan)[0]
    )


def initial_network(
    name: Start,
    seed: int,
    artworks: Sequence[Path],
    context: Context,
    plan: Starts,
) -> TransformerNet:
    """The network that the runs of one seed begin with; one that is trained first is kept.

    Args:
        artworks: training ones, of which `painting` takes `training_painting`.
        context: its `start` is the style-neutral network.
    """
    if name == "metastyle":
        return context.start
    random = new_network(seed).to(context.device)  # PyTorch's default initialisation
    if name in ("scratch", "scratch-best"):
        return random
    updates = plan.painting if name == "painting" else plan.autoencoder
    # Other crops than those of the runs that follow.
    settings = context.adaptation.by(updates).changed(seed=derive_seed(seed, "start"))
    artwork = training_painting(artworks, seed)

    def train() -> dict[str, Tensor]:
        if name == "painting":
            style = images.load(artwork, settings.style_size)
            done = adapt.adapt(random, style, context.photos, context.loss, settings)
        else:
            done = autoencode(random, context.photos, settings)
        return dict(done.named_parameters())

    file = _kept("tensors/{}.safetensors", context, name, random, artwork, settings)
    network = TransformerNet()
    network.load_state_dict(cache.kept_tensors(file, train))
    return network.to(context.device)


def _kept(name: str, context: Context, *decides: Any) -> Path:
    decides = [*decides, context.loss.vgg, context.loss.settings, context.photos]
    return cache.cache_folder() / name.format(cache.key(*decides, by=[__name__]))


def training_painting(artworks: Sequence[Path], seed: int) -> Path:
    """The artwork that the start `painting` is trained for, drawn from the seed."""
    return crops.draw(artworks, 1, derive_seed(seed, "painting"))[0]


def autoencode(
    start: TransformerNet, photos: Sequence[Path], settings: Adaptation
) -> TransformerNet:
    """Minimise the mean square of output minus input; `start` is not modified.

    The updates are those of an adaptation with another loss: for a seed, the same crops.
    """

    def loss(weights: dict[str, Tensor], _: None, contents: Tensor) -> tuple[Tensor, Tensor]:
        value = (torch.sigmoid(transform(weights, contents)) - contents).square().mean()
        return value, value.detach()

    *_, last = adapt.training_steps(start, loss, None, photos, settings)
    return last.network


def try_rates(artworks: Sequence[Path], context: Context, plan: Starts) -> pd.DataFrame:
    """Johnson's training by each of `plan.rates`, with the common number of updates.

    Args:
        artworks: validation ones; the first by name are used, as of the validation photos.

    Returns:
        Columns rate, artwork, loss: the mean evaluation loss at the last update.
    """
    last = [plan.updates]
    plan = plan.changed(evaluate_at=last, compare_at=last, run_on={})
    photos, seed = context.validation[: plan.photos], plan.seeds[0]
    start = new_network(seed).to(context.device)
    rows = []
    for rate, artwork in product(plan.rates, artworks[: plan.rate_artworks]):
        settings = recipe("scratch-best", seed, context.adaptation, plan, rate=rate)
        table = learn(start, artwork, photos, context, settings, plan)
        rows.append({"rate": rate, "artwork": artwork.name, "loss": table["loss"].mean()})
    return pd.DataFrame(rows)


def best_rate(tried: pd.DataFrame) -> float:
    """The rate of lowest loss in the geometric mean over artworks, so that no painting with a
    large Gram norm decides alone."""
    return float(np.log(tried.set_index("rate")["loss"]).groupby("rate").mean().idxmin())


def run(project: Project, name: Start) -> Run:
    """Adapt from one start to every artwork with every seed; write losses, pictures of the first
    run and, for `scratch-best`, the learning rates tried to results."""
    plan, shared = Starts.read(project, "starts"), context(project)
    shared = shared._replace(start=load_neutral(project))
    sets, listed = splits.read(project), splits.listed(project)
    folder = project.outputs / "starts" / name
    shutil.rmtree(folder, ignore_errors=True)
    rate = prepared = None
    if name == "scratch-best":
        tried = try_rates(sets.artworks.validation, shared, plan)
        write_table(folder / "rates.csv", tried, float_format="%.6g")
        rate, prepared = best_rate(tried), tried.pivot_table("loss", "rate", "artwork").round(1)
    elif name == "painting":
        files = [training_painting(sets.artworks.train, seed) for seed in plan.seeds]
        prepared = listed.loc[files, ["artist", "title"]].set_axis(plan.seeds).rename_axis("seed")
    begun = {
        seed: initial_network(name, seed, sets.artworks.train, shared, plan) for seed in plan.seeds
    }
    artworks = crops.draw(sets.artworks.held_out, plan.artworks, plan.order_seed)
    held_out, tables = sets.photos.held_out[: plan.photos], []
    for artwork, seed in tqdm([*product(artworks, plan.seeds)], unit="run"):
        settings = recipe(name, seed, shared.adaptation, plan, rate=rate)
        inputs = begun[seed], artwork, held_out, shared, settings, plan
        if tables:
            table = learn(*inputs)
        else:  # the first run's pictures are kept with the results
            table, renders = learning_curve(*inputs)
            for update, picture in renders.items():
                images.save(folder / f"renders/{update:04d}.png", picture)
        work = listed.loc[artwork]
        named = [name, work["file"], work["artist"], seed, settings.learning_rate]
        tables.append(table.assign(**dict(zip(COLUMNS, named, strict=True))))
    losses = pd.concat(tables)[[*COLUMNS, *table.columns]]
    write_table(folder / "losses.csv", losses, float_format="%.6g")
    return Run(prepared, losses)


def medians(run: Run) -> pd.DataFrame:
    """Medians over artworks, seeds and photos after each evaluated update."""
    return run.losses.groupby("update")[["loss", "content", "style"]].median()


def check(run: Run) -> None:
    """Print how many runs and evaluations there are, and whether learning lowered the loss."""
    runs, loss = len(run.losses.drop_duplicates(["artwork", "seed"])), medians(run)["loss"]
    print("runs:", runs, "- evaluations each:", len(loss))
    print("loss fell:", bool(loss.iloc[-1] < loss.iloc[0]))
