"""Chapter 8, figure 7: pixels optimised from the photo, from its style-neutral rendering, and from
noise (claim C7)."""

import inspect
import shutil
from collections.abc import Callable
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


class Run(NamedTuple):
    """Pictures of each pair by name, (1, 3, H, W) in [0, 1], and the loss at each step: columns
    pair, artist, start, step, loss."""

    settings: Pixels
    pairs: list[dict[str, Tensor]]
    losses: pd.DataFrame


def starts(photo: Tensor, neutral: nn.Module, seed: int) -> dict[str, Tensor]:
    """Where an optimisation may begin, each of the photo's shape and in [0, 1]: `content`, the
    photo itself; `neutral`, its rendering by the style-neutral network; `noise`, uniform."""
    noise = torch.rand(photo.shape, generator=torch.Generator().manual_seed(seed))
    return {"content": photo, "neutral": stylise(neutral, photo).cpu(), "noise": noise}


def optimise(
    start: Tensor, photo: Tensor, style: Tensor, loss: PerceptualLoss, settings: Pixels
) -> dict[str, Tensor]:
    """Minimise the perceptual loss of all trainings here over the pixels of an image.

    By Adam, not Gatys' L-BFGS: without a line search that overshoots from some starts, and such
    an accident would decide between them. Adam's steps are bounded. After each the pixels are
    brought back into [0, 1], so that every loss is that of a picture.

    Args:
        start, photo: RGB in [0, 1], (1, 3, H, W).
        style: likewise, any size.

    Returns:
        `image`, after the last step, and `losses`, at each step from 0.
    """
    content, target = loss.content(photo.to(loss.device)), loss.style(style.to(loss.device))
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


def kept(
    start: Tensor, photo: Tensor, style: Tensor, loss: PerceptualLoss, settings: Pixels
) -> dict[str, Tensor]:
    """What `optimise` returns, on the CPU, read back if it was computed before."""
    # Of this module only what computes: a change of a figure makes nothing again.
    computed = code.executed(inspect.getsource(optimise))
    decides = [start, photo, style, loss.vgg, loss.settings, settings.steps, settings.learning_rate]
    name = cache.key("pixels", *decides, computed, by=["metastyle.core.losses"])
    file = cache.cache_folder() / "tensors" / f"{name}.safetensors"
    return cache.kept_tensors(file, lambda: optimise(start, photo, style, loss, settings))


def run(project: Project) -> Run:
    """Optimise every pair from every start; write the images and the losses to results."""
    settings = Pixels.read(project, "pixels")
    loss, neutral = load_loss(project), load_neutral(project)
    sets, artist = splits.read(project), splits.listed(project)["artist"]
    files = sets.photos.held_out, sets.artworks.held_out
    folder = project.outputs / "pixels"
    shutil.rmtree(folder, ignore_errors=True)
    pairs, tables = [], []
    for file, artwork in tqdm(crops.pairs(*files, settings.pairs, settings.seed), unit="pair"):
        photo = images.load_square(file, settings.size)
        style = images.load(artwork, settings.style_size)
        begun = starts(photo, neutral, seed=len(pairs))
        shown = {"painting": images.load_square(artwork, settings.size), "photo": photo}
        shown["style-neutral"] = begun["neutral"]
        for name, start in begun.items():
            found = kept(start, photo, style, loss, settings)
            images.save(folder / f"{len(pairs)}_{name}.png", found["image"])
            shown[f"from {name}"] = found["image"]
            named = {"pair": len(pairs), "artist": artist[artwork], "start": name}
            curve = {"step": range(settings.steps + 1), "loss": found["losses"].tolist()}
            tables.append(pd.DataFrame(named | curve))
        pairs.append(shown)
    losses = pd.concat(tables)
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
    told = f"{len(run.pairs)} pairs with paintings by {run.losses['artist'].nunique()} artists."
    rows = [
        claims.row(
            "C7", "steps after which the style-neutral rendering is ahead of the photo",
            ", ".join(map(str, ahead)) or "none", rule=RULE, paper="ahead, for one pair",
            verdict=claims.graded(len(ahead), len(counts)), note=told,
        )
    ]  # fmt: skip
    for count in counts:
        quantity = f"loss from the photo over that from the style-neutral rendering, step {count}"
        rows.append(claims.row("C7", quantity, intervals.at["content", count]))
    for count, found in needed(run).loc["content"].items():
        quantity = f"steps from the photo to the loss of the rendering after {count}"
        rows.append(claims.row("C7", quantity, found.median, note=found.told()))
    return rows


def pictures(run: Run) -> Figure:
    """The pairs: painting, photo, style-neutral rendering, and the images after the last step."""
    return plots.grid([[*pair.values()] for pair in run.pairs], columns=[*run.pairs[0]])


def check(run: Run) -> None:
    """Print whether every optimisation was made and lowered its loss."""
    losses = run.losses.set_index(["pair", "start", "step"])["loss"].unstack()
    print("optimisations:", len(losses), "- steps:", losses.columns[-1])
    print("every loss fell:", bool((losses[run.settings.steps] < losses[0]).all()))
