"""The perceptual loss (paper, section 3.1; Johnson et al. 2016)."""

import copy
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from metastyle.config import Precision, Project, Section
from metastyle.core import device, splits
from metastyle.core.kernels import EPSILON, gram
from metastyle.core.network import transform
from metastyle.core.vgg import VGG16, load_vgg

StyleTarget = dict[str, Tensor]  # layer -> Gram matrix (C, C)
# What `PerceptualLoss.of_parameters` reports: the loss with our penalties, its unweighted terms,
# and three defects, see `saturated_share`, `spike_penalty` and `idle_share`.
REPORT = ["loss", "content", "style", "saturated", "spikes", "idle"]


class Balance(Section):
    """Layers and weights of a perceptual loss."""

    content_layer: str
    style_layers: list[str]
    layer_weights: list[NonNegativeFloat]
    variant: Literal["paper", "release"]
    content_weight: NonNegativeFloat
    style_weight: NonNegativeFloat

    @model_validator(mode="after")
    def _one_weight_per_layer(self) -> Self:
        if len(self.layer_weights) != len(self.style_layers):
            raise ValueError("layer_weights needs one number per entry of style_layers")
        return self


class Perceptual(Balance):
    """Section `perceptual`: the loss of every training. The last four are ours, see
    `range_penalty` and `spike_penalty`; weights of 0 switch them off."""

    range_limit: NonNegativeFloat
    range_weight: NonNegativeFloat
    spike_limit: NonNegativeFloat
    spike_weight: NonNegativeFloat


class Loss(NamedTuple):
    """Scalars; `total` is the weighted sum, the others are unweighted."""

    total: Tensor
    content: Tensor
    style: Tensor


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Squared distance of feature maps divided by their size, averaged over the batch."""
    return (features - target).square().mean()


def style_loss(grams: dict[str, Tensor], target: StyleTarget, settings: Balance) -> Tensor:
    """Sum over layers of squared Gram differences, averaged over the batch.

    `paper`: the squared Frobenius norm, a sum over the C x C entries.
    `release`: their mean, C^2 times smaller; deep layers weigh less against early ones.
    """
    total = torch.zeros((), device=next(iter(grams.values())).device)
    for layer, weight in zip(settings.style_layers, settings.layer_weights, strict=True):
        squared = (grams[layer] - target[layer]).square()
        per_image = squared.sum((1, 2)) if settings.variant == "paper" else squared.mean((1, 2))
        total = total + weight * per_image.mean()
    return total


class PerceptualLoss:
    """alpha * content loss + beta * style loss, by the features of one VGG-16.

    Args:
        precision: of the convolutions of the network in `of_parameters`; None: its parameters'.
        style_share: of the style weight; a tensor where it changes in a step that is replayed.
    """

    def __init__(
        self,
        vgg: VGG16,
        settings: Balance,
        *,
        precision: Precision | None = None,
        style_share: float | Tensor = 1.0,
    ) -> None:
        self.vgg, self.settings = vgg, settings
        self.precision, self.style_share = precision, style_share

    @property
    def device(self) -> torch.device:
        """Where VGG-16 is."""
        return self.vgg.device

    @torch.no_grad()
    def content(self, photos: Tensor) -> Tensor:
        """The features that the content loss wants: (N, 3, H, W) in [0, 1] -> (N, C, h, w)."""
        return self.vgg(photos, [self.settings.content_layer])[self.settings.content_layer]

    @torch.no_grad()
    def style(self, painting: Tensor) -> StyleTarget:
        """Gram matrices of one style image: (1, 3, H, W) in [0, 1] -> {layer: (C, C)}."""
        features = self.vgg(painting, self.settings.style_layers)
        return {layer: gram(f)[0] for layer, f in features.items()}

    def __call__(self, outputs: Tensor, content: Tensor, style: StyleTarget) -> Loss:
        """The loss of a batch of stylised images.

        Args:
            outputs: in [0, 1], shape (N, 3, H, W).
            content: from `content`, of the photos that they were made from.
            style: from `style`.
        """
        s = self.settings
        features = self.vgg(outputs, [s.content_layer, *s.style_layers])
        content_term = content_loss(features[s.content_layer], content)
        grams = {layer: gram(features[layer]) for layer in s.style_layers}
        style_term = style_loss(grams, style, s)
        weight = s.style_weight * self.style_share
        return Loss(s.content_weight * content_term + weight * style_term, content_term, style_term)

    def of_parameters(
        self, parameters: dict[str, Tensor], style: StyleTarget, photos: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of every training here, a function of a TransformerNet's parameters; its
        settings are a `Perceptual`.

        Args:
            photos: RGB in [0, 1], (N, 3, H, W).

        Returns:
            The scalar, our penalties included, and a report: its values by REPORT, detached.
        """
        s, seen = self.settings, []
        logits = transform(parameters, photos, precision=self.precision, seen=seen)
        *normed, hidden = seen
        outputs = torch.sigmoid(logits)
        parts = self(outputs, self.content(photos), style)
        total = parts.total + s.range_weight * range_penalty(logits, s.range_limit)
        with torch.set_grad_enabled(s.spike_weight > 0 and torch.is_grad_enabled()):
            spikes = spike_penalty(normed, s.spike_limit)
        total = total + s.spike_weight * spikes
        with torch.no_grad():
            shares = [saturated_share(outputs), spikes, idle_share(hidden)]
            report = torch.stack([total, parts.content, parts.style, *shares])
        return total, report

    def to_precision(self, precision: Precision, *, whole: bool | None = None) -> "PerceptualLoss":
        """The same with convolutions in another precision; statistics, Gram matrices and losses
        stay in float32.

        Args:
            whole: the network's convolutions too, or VGG-16's alone; None: too on a GPU.
        """
        whole = self.device.type == "cuda" if whole is None else whole
        both = precision if whole and precision != "float32" else None
        return self._with(vgg=self.vgg.to_precision(precision), precision=both)

    def with_style_share(self, share: float | Tensor) -> "PerceptualLoss":
        """The same with so much of the style weight."""
        return self._with(style_share=share)

    def changed(self, **values: object) -> "PerceptualLoss":
        """The same with other settings."""
        return self._with(settings=self.settings.changed(**values))

    def _with(self, **changes: Any) -> "PerceptualLoss":
        other = copy.copy(self)
        vars(other).update(changes)
        return other


def load_loss(project: Project) -> PerceptualLoss:
    """The project's loss: section `perceptual`, and VGG-16 from `data.vgg`. From here on the
    process computes as the project says, see `device.use`.

    Raises:
        InputError: see `load_vgg`, `Section.read` and `device.use`.
    """
    device.use(project)
    settings = Perceptual.read(project, "perceptual")
    file = project.root / splits.Data.read(project, "data").vgg
    return PerceptualLoss(load_vgg(file), settings)


def range_penalty(logits: Tensor, limit: float) -> Tensor:
    """Mean squared excess of |logits| over `limit`: our addition, 0 inside the range.

    Where the final sigmoid saturates its gradient is gone and no later update brings the
    pixel back; this term keeps a slope there.
    """
    return (logits.abs() - limit).clamp(min=0).square().mean()


def saturated_share(images: Tensor) -> Tensor:
    """Share of values within 1/255 of 0 or 1, where an 8-bit image can say no more."""
    return ((images - 0.5).abs() > 0.5 - 1 / 255).float().mean()


def kurtosis(features: Tensor) -> Tensor:
    """Mean fourth power of what instance norm makes of each map: (N, C, H, W) -> (N, C); 3 for
    a Gaussian, the more the rarer and higher a map's spikes are."""
    centred = features - features.mean((2, 3), keepdim=True)
    squares = centred.square()
    return squares.square().mean((2, 3)) / (squares.mean((2, 3)) + EPSILON).square()


def spike_penalty(normed: list[Tensor], limit: float) -> Tensor:
    """Mean over layers and maps of the excess of `kurtosis` over `limit`: our addition.

    A network with instance norms can make a spike in a map to weaken all the rest of it (Karras
    et al. 2020, section 2); where it does, renderings have patches of one colour.

    Args:
        normed: what every instance norm sees, from `transform`.
    """
    return torch.stack([(kurtosis(x) - limit).clamp(min=0).mean() for x in normed]).mean()


def idle_share(hidden: Tensor, alive: int = 2) -> Tensor:
    """Share of the positions of the last hidden layer, (N, C, H, W), at which at most `alive`
    channels are above 0: the output there is hardly more than the last bias."""
    return ((hidden > 0).sum(1) <= alive).float().mean()
