"""The input of meta-training: what an iteration draws, by its seed and number alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.config import CropSide, Precision, Section
from metastyle.core import crops, splits
from metastyle.core.crops import Augmentation, derive_seed
from metastyle.core.losses import PerceptualLoss
from metastyle.core.network import ParameterSet
from metastyle.meta.bilevel import Order, Task


class MetaTraining(Section):
    """Section `meta_train`; see params.yaml for units and sources."""

    seed: int
    iterations: NonNegativeInt
    size: CropSide
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    inner_steps: NonNegativeInt  # 0 trains one network on all styles, without an inner problem
    inner_learning_rate: NonNegativeFloat
    inner_parameters: ParameterSet
    order: Order
    precision: Precision = "float32"  # of VGG-16; what it answers is float32 either way
    exact_iterations: NonNegativeInt | None = None  # later ones are of first order; None: `order`
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    style_warmup: NonNegativeInt
    decay: NonNegativeFloat
    clip_norm: PositiveFloat | None
    average_last: NonNegativeInt
    photos: Augmentation
    artworks: Augmentation
    snapshots: list[int]
    checkpoint_minutes: NonNegativeFloat
    last_iterations: NonNegativeInt = 0  # so many at the end have crops of `last_size`
    last_size: CropSide | None = None  # None: `size`


class Images(NamedTuple):
    """The three image sets of meta-training; `inner` and `outer` photos are disjoint."""

    inner: Sequence[Path]
    outer: Sequence[Path]
    artworks: Sequence[Path]


class Drawn(NamedTuple):
    """The crops of one style's task, RGB in [0, 1]: (1, 3, size, size) of the painting,
    (N, 3, size, size) of photos per inner step, and the same for the outer loss."""

    painting: Tensor
    supports: list[Tensor]
    query: Tensor


def training_images(sets: splits.Sets) -> Images:
    """What meta-training may see."""
    return Images(sets.photos.inner, sets.photos.outer, sets.artworks.train)


def draw_crops(iteration: int, images: Images, settings: MetaTraining) -> list[Drawn]:
    """The input of one iteration: a function of the seed and the iteration alone."""
    s = settings
    size = crop_size(iteration, s)

    def contents(files: Sequence[Path], *key: object) -> Tensor:
        seed = derive_seed(s.seed, iteration, *key)
        return crops.batch(files, s.contents_per_batch, size, s.photos, seed)

    style_seed = derive_seed(s.seed, iteration, "styles")
    paintings = crops.draw(images.artworks, s.styles_per_iteration, style_seed)
    drawn = []
    for k, painting in enumerate(paintings):
        seed = derive_seed(s.seed, iteration, "style", k)
        style = crops.crops([painting], size, s.artworks, seed)
        supports = [contents(images.inner, "support", k, t) for t in range(s.inner_steps)]
        drawn.append(Drawn(style, supports, contents(images.outer, "query", k)))
    return drawn


def draw_tasks(
    iteration: int, images: Images, settings: MetaTraining, loss: PerceptualLoss
) -> list[Task]:
    """The meta-batch of one iteration, with the Gram matrices of its paintings."""
    return [
        Task(
            loss.style(drawn.painting.to(loss.device)),
            [support.to(loss.device) for support in drawn.supports],
            drawn.query.to(loss.device),
        )
        for drawn in draw_crops(iteration, images, settings)
    ]


def crop_size(iteration: int, settings: MetaTraining) -> int:
    """Side of the crops in pixels; iterations from 1."""
    s = settings
    return s.size if iteration <= s.iterations - s.last_iterations else s.last_size or s.size
