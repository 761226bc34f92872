"""Chapter 8, figure 7: pixels optimised from the photo, from its style-neutral rendering, and from
noise (claim C7)."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from tqdm import tqdm

from metastyle import plots
from metastyle.config import ImageSide, Project, Section
from metastyle.core import cache, code, crops, images, splits
from metastyle.core.checkpoint import load_neutral
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import stylise
from metastyle.evaluation import claims, curves
from metastyle.files import write_table

RULE = (
    "Reproduced if at every count the 95 % interval of the median over the pairs (artists drawn "
    "anew) of the loss from the photo over that from the style-neutral rendering lies above 1, "
    "partly if at some, else not."
)


class Pixels(Section):
    """Section `pixels`.

    pairs: drawn from `seed`; size: pixels. steps, learning_rate: of Adam. style_size: shorter
    side of the painting, pixels. compare_at: steps after which the starts are compared.
    """

    pairs: PositiveInt
    seed: int
    size: ImageSide
    steps: PositiveInt
    learning_rate: PositiveFloat
    style_size: ImageSide
    compare_at: Annotated[list[PositiveInt], Field(min_length=1)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if max(self.compare_at) > self.steps:
            raise ValueError("compare_at goes beyond `steps`")
        return self


class Pair(NamedTuple):
    """A painting and a photo, where the optimisations began, and their images after the last
    step; by name, (1, 3, H, W) in [0, 1]."""

    painting: Tensor
    photo: Tensor
    starts: dict[str, Tensor]
    images: dict[str, Tensor]


class Run(NamedTuple):
    """The pairs, and the loss at each step: columns pair, artist, start, step, loss."""

    settings: Pixels
    pairs: list[Pair]
    losses: pd.DataFrame


def starts(photo: Tensor, neutral: nn.Module, seed: int) -> dict[str, Tensor]:
    """Where an optimisation may begin, each of the photo's shape and in [0, 1]: `content`, the
    photo itself; `neutral`, its rendering by the style-neutral network; `noise`, uniform."""
    noise = torch.rand(photo.shape, generator=torch.Generator().manual_seed(seed))
    return {"content": photo, "neutral": stylise(neutral, photo).cpu(), "noise": noise}


def optimise(
    start: Tensor,
    photo: Tensor,
    style: Tensor,
    loss: PerceptualLoss,
    settings: Pixels,
    *,
    folder: Path | None = None,
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise the perceptual loss of all trainings here over the pixels of an image.

    By Adam, not Gatys' L-BFGS: without a line search that overshoots from some starts, and such
    an accident would decide between them. Adam's steps are bounded. After each the pixels are
    brought back into [0, 1], so that every loss is that of a picture.

    Args:
        start, photo: RGB in [0, 1], (1, 3, H, W).
        style: likewise, any size.
        folder: where results are kept, see `cache.cache_folder`.

    Returns:
        The image after the last step, and the loss at each (columns step, from 0, and loss).
    """

    def compute() -> dict[str, Tensor]:
        content = loss.content(photo.to(loss.device))
        target = loss.style(style.to(loss.device))
        pixels = start.to(loss.device).clone().requires_grad_()
        optimiser = torch.optim.Adam([pixels], lr=settings.learning_rate)
        losses = []
        for step in range(settings.steps + 1):
            value = loss(pixels, content, target).total
            losses.append(value.item())
            if step < settings.steps:
                (pixels.grad,) = torch.autograd.grad(value, pixels)
                optimiser.step()
                with torch.no_grad():
                    pixels.clamp_(0, 1)
        return {"image": pixels, "losses": torch.tensor(losses, dtype=torch.float64)}

    file = None
    if folder:
        # Of this module only what computes: a change of a figure makes nothing again.
        computed = code.executed(inspect.getsource(optimise))
        decides = [start, photo, style, loss.vgg, loss.settings, settings.steps]
        decides += [settings.learning_rate, computed]
        name = cache.key("pixels", *decides, by=["metastyle.core.losses"])
        file = folder / "tensors" / f"{name}.safetensors"
    kept = cache.kept_tensors(file, compute)
    losses = kept["losses"].tolist()
    return kept["image"], pd.DataFrame({"step": range(len(losses)), "loss": losses})


def run(project: Project) -> Run:
    """Optimise every pair from every start; write the images and the losses to results."""
    settings, loss = Pixels.read(project, "pixels"), load_loss(project)
    sets, artist = splits.read(project), splits.listed(project)["artist"]
    neutral = load_neutral(project)
    files = (sets.photos.held_out, sets.artworks.held_out)
    folder = project.outputs / "pixels"
    shutil.rmtree(folder, ignore_errors=True)
    pairs, tables = [], []
    for k, (file, artwork) in enumerate(
        tqdm(crops.pairs(*files, settings.pairs, settings.seed), unit="pair")
    ):
        photo = images.load_square(file, settings.size)
        style = images.load(artwork, settings.style_size)
        begun, found = starts(photo, neutral, seed=k), {}
        for name, start in begun.items():
            found[name], curve = optimise(
                start, photo, style, loss, settings, folder=cache.cache_folder()
            )
            images.save(folder / f"{k}_{name}.png", found[name])
            tables.append(curve.assign(start=name, pair=k, artist=artist[artwork]))
        painting = images.load_square(artwork, settings.size)
        pairs.append(Pair(painting, photo, begun, found))
    losses = pd.concat(tables)[["pair", "artist", "start", "step", "loss"]]
    write_table(folder / "losses.csv", losses, float_format="%.6g")
    return Run(settings, pairs, losses)


def figure(run: Run) -> Figure:
    """Loss against steps from each start; on the right over the last one from the photo of the
    same pair, in which the size of a painting's Gram matrices cancels."""
    losses, steps = run.losses, run.settings.steps
    end = losses[(losses["start"] == "content") & (losses["step"] == steps)]
    last = losses["pair"].map(end.set_index("pair")["loss"])
    relative = losses.assign(relative=losses["loss"] / last)
    tables = {f"from {name}": table for name, table in relative.groupby("start", sort=False)}
    titles = ["loss", f"loss over that from content at {steps}"]
    return plots.quartile_bands(tables, "step", ["loss", "relative"], titles)


def ratios(run: Run) -> pd.DataFrame:
    """Median over the pairs of the loss over that from the style-neutral rendering, an interval
    per start and count; above 1 the rendering is ahead."""
    return _compared(curves.ratios, run)


def needed(run: Run) -> pd.DataFrame:
    """Steps to the losses from the rendering after `compare_at` steps, a `curves.Needed` per
    start and count."""
    return _compared(curves.needed, run)


def _compared(compare: Callable[..., pd.DataFrame], run: Run) -> pd.DataFrame:
    table, counts = run.losses.rename(columns={"step": "update"}), run.settings.compare_at
    found = compare(table, "neutral", counts, run=["pair", "artist"], over=["artist"])
    return found.rename_axis(columns="steps")


def judge(run: Run) -> list[claims.Row]:
    """C7 by `RULE`, and how long the photo needs for the rendering's losses."""
    intervals, counts = ratios(run), run.settings.compare_at
    ahead = curves.ahead(intervals, ["content"])
    verdict = claims.row(
        "C7",
        "steps after which the style-neutral rendering is ahead of the photo",
        ", ".join(map(str, ahead)) or "none",
        rule=RULE,
        paper="ahead, for one pair",
        verdict=claims.graded(len(ahead), len(counts)),
        note=f"{len(run.pairs)} pairs with paintings by {run.losses['artist'].nunique()} artists.",
    )
    rows = [verdict]
    for count in counts:
        quantity = f"loss from the photo over that from the style-neutral rendering, step {count}"
        rows.append(claims.row("C7", quantity, intervals.at["content", count]))
    for count, found in needed(run).loc["content"].items():
        quantity = f"steps from the photo to the loss of the rendering after {count}"
        rows.append(claims.row("C7", quantity, found.median, note=found.told()))
    return rows


def pictures(run: Run) -> Figure:
    """The pairs: painting, photo, style-neutral rendering, and the images after the last step."""
    rows = [
        [pair.painting, pair.photo, pair.starts["neutral"], *pair.images.values()]
        for pair in run.pairs
    ]
    columns = ["painting", "photo", "style-neutral", *(f"from {k}" for k in run.pairs[0].images)]
    return plots.grid(rows, columns=columns)


def check(run: Run) -> None:
    """Print whether every optimisation was made and lowered its loss."""
    first, last = (
        run.losses[run.losses["step"] == step].set_index(["pair", "start"])["loss"]
        for step in (0, run.settings.steps)
    )
    print("optimisations:", len(last), "- steps:", run.losses["step"].max())
    print("every loss fell:", bool((last < first).all()))
