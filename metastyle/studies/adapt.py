"""Chapter 3, the run: a network for each of some held-out paintings, evaluated on the way."""

import shutil
from pathlib import Path

import pandas as pd
from pydantic import PositiveInt
from torch import Tensor
from tqdm import tqdm

from metastyle.adaptation.adapt import Adaptation, Evaluations, adapt_with_evaluation
from metastyle.config import Project
from metastyle.core import crops, images, splits
from metastyle.core.checkpoint import load_neutral, save_network
from metastyle.core.losses import load_loss
from metastyle.files import write_json, write_table

MEASURES = ["loss", "content", "style", "saturated", "patches"]


class AdaptStyles(Evaluations):
    """Section `adapt_styles`.

    styles: held-out artworks, the first of an order drawn from `seed`.
    """

    styles: PositiveInt
    seed: int


def held_out(project: Project) -> tuple[list[Path], Tensor]:
    """Files of the held-out artworks of section `adapt_styles`, and its held-out photos, RGB in
    [0, 1], (N, 3, H, H)."""
    settings, sets = AdaptStyles.read(project, "adapt_styles"), splits.read(project)
    photos = sets.photos.held_out[: settings.photos]
    paintings = crops.draw(sets.artworks.held_out, settings.styles, settings.seed)
    return paintings, images.load_squares(photos, settings.photo_size)


def run(project: Project) -> pd.DataFrame:
    """Adapt to every painting; write networks, renderings and losses to results.

    Returns:
        A row per artwork and evaluation: columns artwork, and those of `adaptation.Evaluated`.
    """
    plan, settings = AdaptStyles.read(project, "adapt_styles"), Adaptation.read(project, "adapt")
    loss, start = load_loss(project), load_neutral(project)
    training = splits.read(project).photos.train
    paintings, photos = held_out(project)
    artworks = project.root / splits.Data.read(project, "data").artworks
    names = [file.relative_to(artworks).as_posix() for file in paintings]
    folder = project.outputs / "adapt"
    shutil.rmtree(folder, ignore_errors=True)
    tables = {}
    for k, file in enumerate(tqdm(paintings, unit="style")):
        style = images.load(file, settings.style_size)
        made = adapt_with_evaluation(start, style, training, photos, loss, settings, plan)
        tables[k] = made.losses
        for update, pictures in made.renders.items():
            for n, picture in enumerate(pictures.split(1)):
                images.save(folder / f"renders/{k}_{update:04d}_{n}.png", picture)
        parameters = dict(made.network.named_parameters())
        info = {"style": names[k], "settings": settings.model_dump()}
        save_network(folder / f"networks/{k}.safetensors", parameters, info, small=True)
    evaluations = pd.concat(tables, names=["artwork"]).reset_index("artwork")
    write_table(folder / "curves.csv", evaluations.drop(columns="seconds"), float_format="%.5g")
    write_json(folder / "styles.json", names)
    medians = evaluations.groupby("update")[MEASURES].median()
    write_table(folder / "median.csv", medians, index=True, float_format="%.5g")
    rounded = {
        f"{update} updates": {name: float(f"{value:.4g}") for name, value in row.items()}
        for update, row in medians.iterrows()
    }
    write_json(folder / "metrics.json", rounded)
    return evaluations


def medians(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Over the artworks, by the number of updates; and the extremes of the seconds, which are
    those of the updates alone."""
    by_update = evaluations.groupby("update")
    seconds = by_update["seconds"].agg(["min", "median", "max"]).add_prefix("seconds, ")
    return by_update[MEASURES].median().join(seconds)


def check(evaluations: pd.DataFrame) -> None:
    """Print whether adaptation lowered the loss on photos that it did not see."""
    losses = evaluations.groupby("update")["loss"].median()
    print("evaluation loss fell:", bool(losses.iloc[-1] < losses.iloc[0]))
    print("artworks:", evaluations["artwork"].nunique(), "- evaluations:", len(losses))
