"""Chapter 2b: networks kept along the meta-training, adapted to validation artworks."""

import pandas as pd
from pydantic import PositiveInt
from tqdm import tqdm

from metastyle.adaptation.adapt import Adaptation, Evaluations, adapt_with_evaluation
from metastyle.config import Project
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_network
from metastyle.core.losses import load_loss
from metastyle.files import write_table


class Validation(Evaluations):
    """Section `validation`: the artworks, and at most how many of the networks kept on the way."""

    artworks: PositiveInt
    snapshots: PositiveInt


def run(project: Project) -> pd.DataFrame:
    """Adapt every network to every artwork; write the evaluation losses to results.

    Returns:
        Columns network (`snapshot` or `result`), iteration, artwork (from 0, by name), update,
        and those of `evaluate`. The result stands at the iteration of the last snapshot.
    """
    plan, loss = Validation.read(project, "validation"), load_loss(project)
    settings = Adaptation.read(project, "adapt").changed(updates=max(plan.evaluate_at))
    sets = splits.read(project)
    unseen = images.load_squares(sets.photos.validation[: plan.photos], plan.photo_size)
    styles = [
        images.load(file, settings.style_size) for file in sets.artworks.validation[: plan.artworks]
    ]
    folder = project.inputs / "meta_train"
    snapshots = sorted((folder / "snapshots").glob("*.safetensors"))[: plan.snapshots]
    networks = {("snapshot", int(file.stem)): file for file in snapshots}
    networks["result", int(snapshots[-1].stem)] = folder / "network.safetensors"
    tables = {}
    for name, file in tqdm(networks.items(), unit="network"):
        for k, style in enumerate(styles):
            tables[*name, k] = adapt_with_evaluation(
                load_network(file), style, sets.photos.train, unseen, loss, settings, plan
            ).losses
    index = ["network", "iteration", "artwork"]
    curves = pd.concat(tables, names=index).reset_index(index).drop(columns="seconds")
    write_table(project.outputs / "validation" / "curves.csv", curves, float_format="%.5g")
    return curves


def means(curves: pd.DataFrame) -> pd.DataFrame:
    """Evaluation loss, mean over the artworks: a row per network, a column per count of updates."""
    return curves.pivot_table("loss", ["network", "iteration"], "update")


def check(curves: pd.DataFrame) -> None:
    """Print whether every adaptation was made and lowered its loss."""
    losses = means(curves)
    print("networks:", len(losses), "- finite:", bool(losses.notna().all(axis=None)))
    fell = losses[losses.columns.max()] < losses[losses.columns.min()]
    print("adaptation lowers the loss:", bool(fell.all()))
