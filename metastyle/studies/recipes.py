"""Chapter 3, the recipes: settings of adaptation that differ from a base in a few things, and the
losses that they lead to on validation images."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import pandas as pd
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from tqdm import tqdm

from metastyle.adaptation.adapt import Adaptation, Evaluations, Updates, adapt_with_evaluation
from metastyle.config import Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.checkpoint import load_neutral
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet
from metastyle.files import write_json, write_table
from metastyle.studies import adapt

PAPER = "paper"  # the recipe that the others are compared with


class Change(Section):
    """What one recipe has other than the base, by name, and why it is tried."""

    why: str
    adapt: dict = Field(default_factory=dict)


class Recipes(Section):
    """Section `recipes`.

    names: the recipes to run, the paper's among them. changes: all that are known, by name.
    adapt: the base. artworks: of validation, the first by name. evaluations: of the networks, on
    validation photos. held_out: so many held-out artworks, in the order of `adapt_styles`, are
    adapted to by the paper's recipe.
    """

    names: list[str]
    changes: dict[str, Change]
    adapt: Adaptation
    artworks: PositiveInt
    evaluations: Evaluations
    held_out: PositiveInt

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        if unknown := set(self.names) - set(self.changes):
            raise ValueError(f"recipes.changes has no {', '.join(sorted(unknown))}")
        if PAPER not in self.names:
            raise ValueError(f"recipes.names lacks {PAPER}, which the others are compared with")
        for name, change in self.changes.items():
            # The style's size and the seed are not a recipe's: all are evaluated by one loss.
            if wrong := set(change.adapt) - set(Updates.model_fields):
                known = ", ".join(Updates.model_fields)
                raise ValueError(f"{name} changes {', '.join(sorted(wrong))}; it may {known}")
        return self

    def known(self) -> dict[str, Adaptation]:
        """The settings of every recipe to run."""
        return {name: self.adapt.changed(**self.changes[name].adapt) for name in self.names}


class Run(NamedTuple):
    """The losses of all recipes on validation artworks, and of the paper's on held-out ones:
    columns recipe (of the first), artwork, and those of `curve`."""

    settings: Recipes
    losses: pd.DataFrame
    held_out: pd.DataFrame


def evaluate_at(recipe: Adaptation, wanted: Sequence[int]) -> list[int]:
    """After which updates a run of this recipe says what a recipe is worth.

    At the end always; on the way, after the wanted ones, only where the run so far is what the
    recipe with so many updates does: neither a cosine nor growing crops are.
    """
    alike = recipe.schedule == "constant" and len(set(recipe.sizes)) == 1
    return [u for u in wanted if alike and 0 < u < recipe.updates] + [recipe.updates]


def curve(
    start: TransformerNet,
    artwork: Path,
    training: Sequence[Path],
    photos: Tensor,
    loss: PerceptualLoss,
    recipe: Adaptation,
    evaluations: Evaluations,
) -> pd.DataFrame:
    """Losses of one recipe's networks for one artwork, `evaluate_at`; kept in the cache.

    Args:
        photos: RGB in [0, 1], (N, 3, H, W), which no training sees.

    Returns:
        Columns update, loss, content, style, saturated, patches: means over the photos, see
        `adaptation.evaluate`. No seconds: they differ from run to run.
    """
    evaluations = evaluations.changed(evaluate_at=evaluate_at(recipe, evaluations.evaluate_at))

    def compute() -> pd.DataFrame:
        style = images.load(artwork, recipe.style_size)
        rest = (training, photos, loss, recipe, evaluations)
        return adapt_with_evaluation(start, style, *rest).losses.drop(columns="seconds")

    decides = [start, artwork, list(training), photos, loss.vgg, loss.settings, recipe, evaluations]
    name = cache.key("recipe", *decides, by=["metastyle.adaptation.adapt"])
    return cache.kept_table(cache.cache_folder() / "tables" / f"{name}.csv", compute)


def run(project: Project) -> Run:
    """Adapt by every recipe to validation artworks, and by the paper's to held-out ones; write
    the losses and the recipes to results."""
    settings, sets = Recipes.read(project, "recipes"), splits.read(project)
    start, loss, known = load_neutral(project), load_loss(project), settings.known()
    plan = settings.evaluations

    def losses(artwork: Path, photos: Tensor, name: str) -> pd.DataFrame:
        return curve(start, artwork, sets.photos.train, photos, loss, known[name], plan)

    photos = images.load_squares(sets.photos.validation[: plan.photos], plan.photo_size)
    runs = [(name, k) for k in range(settings.artworks) for name in settings.names]
    tables = {
        (name, k): losses(sets.artworks.validation[k], photos, name)
        for name, k in tqdm(runs, unit="adaptation")
    }
    by_recipe = pd.concat(tables, names=["recipe", "artwork"]).reset_index(["recipe", "artwork"])
    paintings, unseen = adapt.held_out(project)
    tables = {
        k: losses(painting, unseen, PAPER)
        for k, painting in enumerate(tqdm(paintings[: settings.held_out], unit="adaptation"))
    }
    reported = pd.concat(tables, names=["artwork"]).reset_index("artwork")
    folder = project.outputs / "recipes"
    shutil.rmtree(folder, ignore_errors=True)
    write_table(folder / "losses.csv", by_recipe, float_format="%.5g")
    write_table(folder / "held_out.csv", reported, float_format="%.5g")
    described = {name: recipe.model_dump() for name, recipe in known.items()}
    write_json(folder / "recipes.json", described)
    return Run(settings, by_recipe, reported)


def ends(run: Run) -> pd.DataFrame:
    """What each recipe has other than the base and why, and its losses after its last update,
    means over the validation artworks."""
    last = run.losses.groupby("recipe", sort=False)["update"].transform("max")
    rows = run.losses[run.losses["update"] == last].groupby("recipe", sort=False)
    means = rows[["update", "loss", "content", "style", "patches"]].mean()
    changes = [run.settings.changes[name] for name in means.index]
    told = [", ".join(f"{k} {v}" for k, v in change.adapt.items()) or "-" for change in changes]
    means.insert(0, "differs in", told)
    means.insert(0, "why", [change.why for change in changes])
    return means


def check(run: Run) -> None:
    """Print how much was run, and whether all losses are finite."""
    recipes, artworks = (run.losses[name].nunique() for name in ("recipe", "artwork"))
    print("recipes:", recipes, "- validation artworks:", artworks)
    print("held-out artworks:", run.held_out["artwork"].nunique())
    print("finite:", bool((run.losses["loss"] < 1e9).all()))
