"""Chapter 2: what one inner step does, by which the loss is chosen that the paper can have run.

Its text and its authors' release sum and average the squared entries of Gram matrices, with one
pair of weights: the style terms differ by factors of the squared number of channels.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.config import CropSide, Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.checkpoint import load_neutral
from metastyle.core.gradients import Parameters, mean_gradient
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet, new_network, parameter_names
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import number
from metastyle.meta.bilevel import Task, directions
from metastyle.meta.loader import MetaTraining

PAPER = 1e-4  # its delta
VARIANTS = {"release": "mean over Gram entries", "paper": "sum over Gram entries"}
RULE = (
    "A loss can have been run with the paper's numbers if from the trained start one inner step of "
    f"{PAPER:g} lowers the loss of its own batch, and cannot if the step raises it from both "
    "(geometric means over paintings); else, and if the trained start has no lower loss than the "
    "random one, this does not decide."
)
OFF = {"range_weight": 0.0, "spike_weight": 0.0}  # our penalties


class InnerStep(Section):
    """Section `meta_train_chapter.inner_step`: training paintings and photos, the first by name,
    at `size` pixels; deltas beside the paper's."""

    paintings: PositiveInt
    photos: PositiveInt
    size: CropSide
    deltas: list[PositiveFloat]

    def all_deltas(self) -> list[float]:
        """Rising, the paper's among them."""
        return sorted({PAPER, *self.deltas})


def _starts(project: Project) -> dict[str, TransformerNet]:
    seed = MetaTraining.read(project, "meta_train").seed
    trained = load_neutral(project)
    return {"random": new_network(seed).to(next(trained.parameters()).device), "trained": trained}


def _key(project: Project, settings: InnerStep, loss: PerceptualLoss, sets: splits.Sets) -> str:
    photos = [files[: settings.photos] for files in (sets.photos.inner, sets.photos.outer)]
    files = *photos, sets.artworks.train[: settings.paintings]
    meta = MetaTraining.read(project, "meta_train")
    decides = [settings, meta.inner_parameters, loss.settings, loss.vgg, loss.device.type]
    networks = _starts(project).values()
    return cache.key(*decides, *map(list, files), *networks, by=[__name__])


def measure(project: Project) -> pd.DataFrame:
    """Terms of the loss without our penalties, and what one inner step on a batch makes of them.

    Returns:
        A row per variant, start (`random`, `trained`), painting (from 0, by name) and delta:
        columns loss, content, style (weighted), gradient_norm, factor (loss of the batch after the
        step over that before).
    """
    settings = InnerStep.read(project, "meta_train_chapter.inner_step")
    loss, sets = load_loss(project), splits.read(project)

    def compute() -> pd.DataFrame:
        photos = images.load_squares(sets.photos.inner[: settings.photos], settings.size)
        files = sets.artworks.train[: settings.paintings]
        inner = parameter_names(MetaTraining.read(project, "meta_train").inner_parameters)
        rows = [
            {"variant": variant, "start": start, "painting": k} | row
            for variant in VARIANTS
            for start, network in _starts(project).items()
            for k, file in enumerate(files)
            for row in _steps(
                dict(network.named_parameters()),
                images.load_square(file, settings.size),
                photos.to(loss.device),
                loss.changed(variant=variant, **OFF),
                settings.all_deltas(),
                inner,
            )
        ]
        return pd.DataFrame(rows)

    name = _key(project, settings, loss, sets)
    return cache.kept_table(cache.cache_folder() / f"{name}-steps.csv", compute)


def _steps(
    theta: Parameters,
    painting: Tensor,
    photos: Tensor,
    loss: PerceptualLoss,
    deltas: list[float],
    inner: list[str],
) -> Iterator[dict[str, float]]:
    style = loss.style(painting)
    gradient, report = mean_gradient(loss.of_parameters, theta, style, photos, inner)
    before, content, raw = report[:3].tolist()
    norm = torch.stack([g.norm() for g in gradient.values()]).norm().item()
    found = {"loss": before, "content": content, "style": loss.settings.style_weight * raw}
    for delta in deltas:
        moved = theta | {name: theta[name] - delta * gradient[name] for name in inner}
        with torch.no_grad():
            after = loss.of_parameters(moved, style, photos)[0].item()
        yield found | {"gradient_norm": norm, "delta": delta, "factor": after / before}


def table(steps: pd.DataFrame) -> pd.DataFrame:
    """`measure` by variant and start: means over the paintings; of the factors the geometric
    mean, a column per delta."""
    by = ["variant", "start"]
    terms = steps.groupby(by)[["loss", "content", "style", "gradient_norm"]].mean()
    factors = _factors(steps).unstack("delta")
    names = {delta: f"loss after a step of {delta:g}, over before" for delta in factors}
    return terms.join(factors.rename(columns=names))


def _factors(steps: pd.DataFrame) -> pd.Series:
    """Geometric means over the paintings, by variant, start and delta."""
    logs = steps.assign(factor=np.log(steps["factor"]))
    return np.exp(logs.groupby(["variant", "start", "delta"])["factor"].mean())


def compare(project: Project) -> pd.DataFrame:
    """How far the exact gradient is from joint training's and first order's, by delta.

    The loss is that of the run, the start its result; half of the photos are for the inner step.

    Returns:
        Columns delta, and those of `bilevel.Directions`, of the sum over the paintings.
    """
    settings = InnerStep.read(project, "meta_train_chapter.inner_step")
    loss, sets = load_loss(project), splits.read(project)

    def compute() -> pd.DataFrame:
        half = max(1, settings.photos // 2)
        inner, outer = (
            images.load_squares(files[:half], settings.size).to(loss.device)
            for files in (sets.photos.inner, sets.photos.outer)
        )
        tasks = [
            Task(loss.style(images.load_square(file, settings.size)), [inner], outer)
            for file in sets.artworks.train[: settings.paintings]
        ]
        theta = dict(load_neutral(project).named_parameters())
        names = parameter_names(MetaTraining.read(project, "meta_train").inner_parameters)
        rows = {
            delta: directions(theta, tasks, loss.of_parameters, delta=delta, inner=names)
            for delta in settings.all_deltas()
        }
        return pd.DataFrame(rows.values(), index=pd.Index(rows, name="delta")).reset_index()

    name = _key(project, settings, loss, sets)
    return cache.kept_table(cache.cache_folder() / f"{name}-directions.csv", compute)


def conclusion(random: float, trained: float) -> tuple[str, claims.Verdict]:
    """`RULE`, of what a step of the paper's delta multiplies the loss by."""
    if trained < 1:
        return "can have been run", "reproduced"
    if random > 1:
        words = f"one inner step multiplies the loss by {number(trained)}"
        return f"cannot have been run: {words}", "not reproduced"
    return "not decided", "undecided"


def judge(steps: pd.DataFrame, compared: pd.DataFrame) -> list[claims.Row]:
    """Which of the variants can have been run, and the directions at the paper's delta."""
    at, rows = _factors(steps).xs(PAPER, level="delta"), []
    loss = steps[steps["variant"] == "release"].groupby("start")["loss"].mean()
    is_trained = loss["trained"] < loss["random"]
    for variant, words in VARIANTS.items():
        random, trained = float(at[variant, "random"]), float(at[variant, "trained"])
        found, verdict = conclusion(random, trained) if is_trained else ("not decided", "undecided")
        rows.append(
            claims.row(
                "the paper's numbers", f"style loss as the {words} (`{variant}`)", found,
                rule=RULE, verdict=verdict, note="From a random start the step multiplies the loss "
                f"by {number(random)}, from the trained one by {number(trained)}.",
            )
        )  # fmt: skip
    for row in compared.itertuples():
        for name, words in (
            ("joint", "cosine of the exact gradient and joint training's"),
            ("first_order", "cosine of the exact gradient and first order's"),
            ("second_order_share", "norm of the second-order term over the exact gradient's"),
        ):
            quantity = f"{words}, at delta {row.delta:g} from the trained start"
            rows.append(claims.row("meta-training", quantity, float(getattr(row, name))))
    return rows
