"""The input of meta-training: what an iteration draws, by its seed and number alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from metastyle.config import CropSide, Precision, Section
from metastyle.core import crops, device, splits
from metastyle.core.crops import Augmentation, Cut, derive_seed
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
    workers: processes that draw crops ahead; 0: they are drawn in between, in the training's.
    processes: among which the notebook's training deals the styles of an iteration.
    """

    seed: int
    start: Path | None = None
    phases: list[Phase]
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    inner_parameters: ParameterSet
    precision: Precision = "float32"  # of all convolutions on a GPU, of VGG-16's on a processor
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
    workers: NonNegativeInt = 0
    processes: PositiveInt = 1

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
    """The crops of one style's task: of the painting, of photos per inner step, and of photos for
    the outer loss."""

    painting: Cut
    supports: list[Cut]
    query: Cut


class Contents(NamedTuple):
    """`Drawn` in its colours on the device of the training: RGB in [0, 1], (1, 3, size, size) of
    the painting and (N, 3, size, size) of photos."""

    painting: Tensor
    supports: list[Tensor]
    query: Tensor


def training_images(sets: splits.Sets) -> Images:
    """What meta-training may see."""
    return Images(sets.photos.inner, sets.photos.outer, sets.artworks.train)


def draw_crops(
    iteration: int,
    images: Images,
    settings: MetaTraining,
    styles: Sequence[int] | None = None,
) -> list[Drawn]:
    """The input of one iteration: a function of the seed and the iteration alone.

    Args:
        styles: which of the iteration's, counted from 0; all if None.
    """
    s, phase = settings, phase_at(iteration, settings)

    def photos(files: Sequence[Path], *key: object) -> Cut:
        seed = derive_seed(s.seed, iteration, *key)
        return crops.cut_batch(files, s.contents_per_batch, phase.size, s.photos, seed)

    style_seed = derive_seed(s.seed, iteration, "styles")
    styles = range(s.styles_per_iteration) if styles is None else styles
    paintings = crops.readable(images.artworks, styles, s.styles_per_iteration, style_seed)
    drawn = []
    for k, painting in zip(styles, paintings, strict=True):
        seed = derive_seed(s.seed, iteration, "style", k)
        style = crops.cut([painting], phase.size, s.artworks, seed)
        supports = [photos(images.inner, "support", k, t) for t in range(phase.inner_steps)]
        drawn.append(Drawn(style, supports, photos(images.outer, "query", k)))
    return drawn


class Iterations(Dataset):
    """What iterations draw: item k is that of iteration k + 1, with the files that the process
    which drew it found unreadable on the way."""

    def __init__(self, images: Images, settings: MetaTraining, styles: Sequence[int]) -> None:
        self.images, self.settings, self.styles = images, settings, styles

    def __len__(self) -> int:
        return self.settings.iterations

    def __getitem__(self, k: int) -> tuple[list[Drawn], dict[Path, str]]:
        known = set(crops.unreadable)
        drawn = draw_crops(k + 1, self.images, self.settings, self.styles)
        return drawn, {p: e for p, e in crops.unreadable.items() if p not in known}


def iterations(
    images: Images,
    settings: MetaTraining,
    *,
    first: int = 1,
    styles: Sequence[int] | None = None,
) -> Iterator[list[Drawn]]:
    """The crops of an iteration after the other, drawn ahead by `settings.workers` processes; the
    same for any number of them.

    Args:
        first: iteration to begin with. styles: see `draw_crops`.
    """
    styles = range(settings.styles_per_iteration) if styles is None else styles
    loader = DataLoader(
        Iterations(images, settings, styles),
        batch_size=None,
        sampler=range(first - 1, settings.iterations),
        num_workers=settings.workers,
        collate_fn=_as_it_is,
        pin_memory=device.on_gpu(),
        worker_init_fn=_share_memory,
        generator=torch.Generator(),  # of the workers' seeds, which nothing here depends on
    )
    for drawn, unreadable in loader:
        crops.report(unreadable)
        yield drawn


def _as_it_is(item: Any) -> Any:
    return item


def _share_memory(_: int) -> None:
    crops.DECODED_BYTES //= get_worker_info().num_workers


def contents(drawn: list[Drawn], settings: MetaTraining, to: torch.device) -> list[Contents]:
    """Crops in their colours, made on the device of the training."""

    def photos(cut: Cut) -> Tensor:
        return cut.on(to, settings.photos)

    return [
        Contents(d.painting.on(to, settings.artworks), [*map(photos, d.supports)], photos(d.query))
        for d in drawn
    ]


def tasks(given: list[Contents], loss: PerceptualLoss) -> list[Task]:
    """Tasks of the meta-batch, with the Gram matrices of its paintings."""
    return [Task(loss.style(c.painting), c.supports, c.query) for c in given]


def draw_tasks(
    iteration: int, images: Images, settings: MetaTraining, loss: PerceptualLoss
) -> list[Task]:
    """The meta-batch of one iteration."""
    return tasks(contents(draw_crops(iteration, images, settings), settings, loss.device), loss)


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
