"""The methods of Table 1 at their published shapes, and the operations of one image."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metastyle.adaptation.adapt import Adaptation
from metastyle.baselines import Context, Method, registry
from metastyle.config import Project
from metastyle.core import splits
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import new_network
from metastyle.core.vgg import VGG16, load_vgg
from metastyle.evaluation import operations

ENCODED, CACHED = "style encoded", "style cached"
STYLES = (ENCODED, CACHED)  # what an image's time includes
_SMALL = 64  # pixels, where an iterative method's operations are counted


class VGG19Shape(VGG16):
    """What VGG-19 computes up to relu5_1, with VGG-16's weights: for counting and timing only.

    The blocks 3 and 4 have a fourth convolution, of the same shape as the third.
    """

    def conv_relu(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """One layer; the last of blocks 3 and 4 twice."""
        x = super().conv_relu(x, weight, bias)
        if weight is self.weight3_3 or weight is self.weight4_3:
            x = super().conv_relu(x, weight, bias)
        return x


Builder = Callable[[str, int], Method]


def builder(
    project: Project,
    on_vgg16: Collection[str],
    changes: Mapping[str, Mapping[str, Any]],
    device: str | None = None,
) -> Builder:
    """What builds a method, by its name and the side of the image in pixels, in its published
    shape, with random weights, which cost the same time.

    Use the method's `ready`: there are no photos to train on.

    Args:
        on_vgg16: methods that see VGG-16; all others see VGG-19's shape.
        changes: settings by method that differ; else the style is as large as the image.
        device: None: that of the loss.

    Raises:
        InputError: VGG-16's weights are missing, or a parameter is wrong.
    """
    loss, adaptation = load_loss(project), Adaptation.read(project, "adapt")
    file = project.root / splits.Data.read(project, "data").vgg
    deeper = load_vgg(file, VGG19Shape)
    device = device or loss.device
    start = new_network(0).to(device)
    small, large = (
        Context(PerceptualLoss(vgg.to(device), loss.settings), adaptation, start=start)
        for vgg in (loss.vgg, deeper)
    )

    def build(name: str, size: int) -> Method:
        settings = {"encoder": "vgg19", "weights": None, "style_size": size}
        settings |= changes.get(name, {})
        return registry.load(name, project, small if name in on_vgg16 else large, **settings)

    return build


class Operations(NamedTuple):
    """Billions of multiply-adds (GMAC) of convolutions and matrix products, for one image.

    encode: of its style. first: of stylising; in an iterative method, with one update. update:
    each further one.
    """

    encode: float
    first: float
    update: float

    def image(self, style: str, updates: int) -> float:
        """All of one image; `style` is one of `STYLES`."""
        stylise = self.first + (updates - 1) * self.update
        return stylise + self.encode * (style == ENCODED)


def count(
    build: Builder, shapes: Builder, cells: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Operations]:
    """Operations by method and image side, counted by running without computing: `shapes` builds
    on the meta device.

    An iterative method asks for the value of its loss, and there is none on that device. It is
    run on a small image instead: all its operations are proportional to the pixels.
    """

    def gmac(call: Callable[[], object]) -> float:
        return operations.operations(call) / 2  # a multiplication and an addition are one

    def one(name: str, size: int) -> Operations:
        method = shapes(name, size)
        if method.updates == 1:
            picture = torch.empty(1, 3, size, size, device="meta")
            state = method.ready(picture)
            encode = gmac(lambda: method.ready(picture))
            return Operations(encode, gmac(lambda: method.stylise(state, picture)), 0.0)
        method = build(name, _SMALL)
        style, content = (torch.full((1, 3, _SMALL, _SMALL), value) for value in (0.0, 0.5))
        state = method.ready(style)
        encode = gmac(lambda: method.ready(style))
        first, two = (gmac(partial(method.stylise, state, content, updates=n)) for n in (1, 2))
        pixels = (size / _SMALL) ** 2
        return Operations(encode * pixels, first * pixels, (two - first) * pixels)

    return {(name, size): one(name, size) for name, size in cells}
