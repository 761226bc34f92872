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


class Phase(Section):
    """A part of a run, with an inner problem of its own.

    size: pixels, side of the crops. inner_steps: T; 0 trains one network on all styles.
    inner_warmup: iterations over which delta rises from 0 to `inner_learning_rate`.
    inner_clip: limit of the norm of an inner gradient, see `meta_gradient`; None: none.
    """

    iterations: PositiveInt
    size: CropSide
    inner_steps: NonNegativeInt
    inner_learning_rate: NonNegativeFloat = 0.0
    inner_warmup: NonNegativeInt = 0
    inner_clip: PositiveFloat | None = None
    order: Order = "second"


class MetaTraining(Section):
    """Section `meta_train`; see params.yaml for units and sources.

    start: the network that the run begins with, relative to the project; None: a random one.
    average_last: the result is the mean over the last iterations; 0: the last network.
    cosines_every: so many iterations apart the gradient's directions are compared; 0: never.
    """

    seed: int
    start: Path | None = None
    phases: list[Phase]
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    inner_parameters: ParameterSet
    precision: Precision = "float32"  # of VGG-16; what it answers is float32 either way
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    style_warmup: NonNegativeInt
    decay: NonNegativeFloat
    clip_norm: PositiveFloat | None
    average_last: NonNegativeInt
    photos: Augmentation
    artworks: Augmentation
    snapshots: list[int]
    cosines_every: NonNegativeInt = 0
    checkpoint_minutes: NonNegativeFloat

    @property
    def iterations(self) -> int:
        """Of all phases."""
        return sum(phase.iterations for phase in self.phases)

    def first(self, iterations: int) -> "MetaTraining":
        """The same run, ended after so many iterations."""
        phases, left = [], iterations
        for phase in self.phases:
            if left > 0:
                phases.append(phase.changed(iterations=min(left, phase.iterations)))
            left -= phase.iterations
        return self.changed(phases=[phase.model_dump() for phase in phases])


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
    s, phase = settings, phase_at(iteration, settings)

    def contents(files: Sequence[Path], *key: object) -> Tensor:
        seed = derive_seed(s.seed, iteration, *key)
        return crops.batch(files, s.contents_per_batch, phase.size, s.photos, seed)

    style_seed = derive_seed(s.seed, iteration, "styles")
    paintings = crops.draw(images.artworks, s.styles_per_iteration, style_seed)
    drawn = []
    for k, painting in enumerate(paintings):
        seed = derive_seed(s.seed, iteration, "style", k)
        style = crops.crops([painting], phase.size, s.artworks, seed)
        supports = [contents(images.inner, "support", k, t) for t in range(phase.inner_steps)]
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


def phase_at(iteration: int, settings: MetaTraining) -> Phase:
    """The phase of an iteration, counted from 1, with the delta that it has there.

    Raises:
        ValueError: the run is not so long.
    """
    before = 0
    for phase in settings.phases:
        done = iteration - before
        if done <= phase.iterations:
            ramp = min(1.0, done / phase.inner_warmup) if phase.inner_warmup else 1.0
            return phase.changed(inner_learning_rate=ramp * phase.inner_learning_rate)
        before += phase.iterations
    raise ValueError(f"iteration {iteration} of a run of {before}")


def crops_seen(settings: MetaTraining) -> tuple[int, int]:
    """How many crops of photos a run draws, support and query, and of how many pixels in all."""
    s, count, pixels = settings, 0, 0
    for phase in s.phases:
        batches = phase.iterations * s.styles_per_iteration * (phase.inner_steps + 1)
        count += batches * s.contents_per_batch
        pixels += batches * s.contents_per_batch * phase.size**2
    return count, pixels
