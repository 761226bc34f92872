"""The methods of Table 1 behind one interface; `registry` finds them by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from metastyle.adaptation.adapt import Adaptation
from metastyle.config import Project, Section
from metastyle.core import splits
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet
from metastyle.core.vgg import VGG16


class Context(NamedTuple):
    """What methods share: the loss, section `adapt`, photos to train on and (`validation`) to tell
    by when to stop, and the style-neutral network. Who needs none of the last may leave them."""

    loss: PerceptualLoss
    adaptation: Adaptation | None = None
    photos: Sequence[Path] = ()
    validation: Sequence[Path] = ()
    start: TransformerNet | None = None

    @property
    def device(self) -> torch.device:
        """Where the loss is computed."""
        return self.loss.device


def context(project: Project) -> Context:
    """What the project has of it, but for the style-neutral network: its loss, section `adapt`,
    and the photos of its splits."""
    photos = splits.read(project).photos
    adaptation = Adaptation.read(project, "adapt")
    return Context(load_loss(project), adaptation, photos.train, photos.validation)


class Printed(NamedTuple):
    """What the paper's Table 1 prints for the method; seconds by image side, on its GPU."""

    parameters: str
    seconds: dict[int, float]


class Method(NamedTuple):
    """One row of Table 1. A state is whatever the method keeps of one style.

    prepare: style (1, 3, H, W) -> state, training included where the method trains.
    ready: the same without training: a state of the right shapes, good for timing only.
    stylise: (state, contents (N, 3, H, W)) -> images in [0, 1], same shape.
    parameters: count, None where the method has no network of its own.
    styles: how many styles one set of parameters serves, as Table 1 puts it.
    updates: iterations inside `stylise`, 1 for a forward pass. Where it is more,
        `stylise` takes `updates=` so that a part can be timed.
    """

    label: str
    parameters: int | None
    styles: str
    updates: int
    prepare: Callable[[Tensor], Any]
    ready: Callable[[Tensor], Any]
    stylise: Callable[..., Tensor]
    printed: Printed


class Baseline(Protocol):
    """A public module of this package, whose name is the method's.

    Settings: its section `methods.<name>` of params.yaml.
    """

    Settings: type[Section]

    def build(self, settings: Section, context: Context) -> Method:
        """The method, restored from what was trained where the settings name a file."""


class Trainable(Baseline, Protocol):
    """A baseline that is trained once for all styles, by `training`. It may have, too: `start`,
    which fits a new network to photos; `generate`, which makes what is kept of it;
    `NORMALISED_BY`, the images that `new_network` is given, if not `photos`."""

    def new_network(self, settings: Section, vgg: VGG16, images: Tensor | None = None) -> nn.Module:
        """To be trained, or restored; normalised over images where they are given."""

    def training_terms(
        self, network: nn.Module, settings: Section, vgg: VGG16, photos: Tensor, paintings: Tensor
    ) -> dict[str, Tensor]:
        """The terms of the loss, scalars by name, without their weights."""
