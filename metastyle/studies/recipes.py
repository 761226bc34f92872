"""Recipes of adaptation that differ from a base in a few things, and the losses they lead to."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from metastyle.adaptation.adapt import Adaptation, Updates, Watch, adapt_and_watch
from metastyle.config import Section
from metastyle.core import images
from metastyle.core.cache import kept_table
from metastyle.core.losses import Perceptual
from metastyle.core.network import TransformerNet
from metastyle.core.vgg import VGG16

PAPER = "paper"  # the recipe that the others are held against


class Change(Section):
    """What one recipe has other than the base, by name, and why it is tried."""

    why: str
    adapt: dict = Field(default_factory=dict)


class Recipes(Section):
    """Section `recipes`.

    names: the recipes to run, the paper's among them. changes: all that are known, by name.
    adapt: the base. artworks: of validation, the first by name. watch: how the networks are
    judged. held_out: so many held-out artworks, in the order of `adapt_styles`, are adapted to
    by the paper's recipe.
    """

    names: list[str]
    changes: dict[str, Change]
    adapt: Adaptation
    artworks: PositiveInt
    watch: Watch
    held_out: NonNegativeInt

    @model_validator(mode="after")
    def _known_names(self) -> "Recipes":
        if unknown := set(self.names) - set(self.changes):
            raise ValueError(f"recipes.changes has no {', '.join(sorted(unknown))}")
        if PAPER not in self.names:
            raise ValueError(f"recipes.names lacks {PAPER}, which the others are held against")
        for name, change in self.changes.items():
            # The style's size and the seed are not a recipe's: all are judged by one loss.
            if wrong := set(change.adapt) - set(Updates.model_fields):
                known = ", ".join(Updates.model_fields)
                raise ValueError(f"{name} changes {', '.join(sorted(wrong))}; it may {known}")
        return self


def settings(recipes: Recipes, name: str) -> Adaptation:
    """The adaptation of one recipe."""
    values = recipes.adapt.model_dump() | recipes.changes[name].adapt
    return Adaptation.model_validate(values)


def cut(recipe: Adaptation, updates: int) -> Adaptation:
    """The same recipe with another number of updates."""
    return recipe.model_copy(update={"updates": updates})


def looks(recipe: Adaptation, at: Sequence[int]) -> list[int]:
    """After which updates a run of this recipe says what a recipe is worth.

    At the end always; on the way, after those of `at`, only where the run so far is what the
    recipe cut to so many updates does: neither a cosine nor growing crops are.
    """
    alike = recipe.schedule == "constant" and len(set(recipe.sizes)) == 1
    return [u for u in at if alike and 0 < u < recipe.updates] + [recipe.updates]


def curve(
    start: TransformerNet,
    artwork: Path,
    training: Sequence[Path],
    photos: Tensor,
    features: VGG16,
    perceptual: Perceptual,
    recipe: Adaptation,
    watch: Watch,
    *,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Losses of one recipe's networks for one artwork, at `looks`.

    Args:
        photos: RGB in [0, 1], (N, 3, H, W), which no training sees.
        cache: see `kept.kept_table`.

    Returns:
        Columns update, loss, content, style, saturated, patches: means over the photos, see
        `adaptation.evaluate`. No seconds: they differ from run to run.
    """
    watch = watch.model_copy(update={"evaluate_at": looks(recipe, watch.evaluate_at)})

    def compute() -> pd.DataFrame:
        style = images.load(artwork, recipe.style_size)
        watched = adapt_and_watch(
            start, style, training, photos, features, perceptual, recipe, watch
        )
        return watched.losses.drop(columns="seconds")

    decides = [start, artwork, list(training), photos, features, perceptual, recipe, watch]
    return kept_table(cache, decides, compute)
