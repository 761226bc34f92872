"""The perceptual loss (paper, section 3.1; Johnson et al. 2016)."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from metastyle.operators import gram
from metastyle.params import Section
from metastyle.transformer import transform
from metastyle.vgg import VGG16

StyleTarget = dict[str, Tensor]  # layer -> Gram matrix (C, C)


class Balance(Section):
    """Layers and weights of a perceptual loss."""

    content_layer: str
    style_layers: list[str]
    layer_weights: list[NonNegativeFloat]
    variant: Literal["paper", "release"]
    content_weight: NonNegativeFloat
    style_weight: NonNegativeFloat

    @model_validator(mode="after")
    def _one_weight_per_layer(self) -> "Balance":
        if len(self.layer_weights) != len(self.style_layers):
            raise ValueError("layer_weights needs one number per entry of style_layers")
        return self


class Perceptual(Balance):
    """Section `perceptual`: the loss of every training, calibrated with `feature_scale`."""

    feature_scale: PositiveFloat
    range_limit: NonNegativeFloat
    range_weight: NonNegativeFloat


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


@torch.no_grad()
def style_target(vgg: VGG16, style: Tensor, settings: Balance) -> StyleTarget:
    """Gram matrices of one style image: (1, 3, H, W) in [0, 1] -> {layer: (C, C)}."""
    features = vgg(style, settings.style_layers)
    return {layer: gram(f)[0] for layer, f in features.items()}


@torch.no_grad()
def content_target(vgg: VGG16, contents: Tensor, settings: Balance) -> Tensor:
    """The features that the content loss wants: (N, 3, H, W) in [0, 1] -> (N, C, h, w)."""
    return vgg(contents, [settings.content_layer])[settings.content_layer]


def perceptual_loss(
    vgg: VGG16, outputs: Tensor, content: Tensor, style: StyleTarget, settings: Balance
) -> Loss:
    """alpha * content loss + beta * style loss for a batch of stylised images.

    Args:
        outputs: stylised images in [0, 1], shape (N, 3, H, W).
        content: from `content_target`, of the photos they were made from.
        style: from `style_target`.
    """
    features = vgg(outputs, [settings.content_layer, *settings.style_layers])
    content_term = content_loss(features[settings.content_layer], content)
    grams = {layer: gram(features[layer]) for layer in settings.style_layers}
    style_term = style_loss(grams, style, settings)
    total = settings.content_weight * content_term + settings.style_weight * style_term
    return Loss(total, content_term, style_term)


def range_penalty(logits: Tensor, limit: float) -> Tensor:
    """Mean squared excess of |logits| over `limit`: our addition, 0 inside the range.

    Where the final sigmoid saturates its gradient is gone and no later update brings the
    pixel back; this term keeps a slope there.
    """
    return (logits.abs() - limit).clamp(min=0).square().mean()


def task_loss(
    features: VGG16, settings: Perceptual
) -> Callable[[dict[str, Tensor], StyleTarget, Tensor], tuple[Tensor, Tensor]]:
    """The loss of every training here, as a function of a TransformerNet's parameters.

    Returns:
        loss(parameters, target, contents) -> (scalar, report), contents RGB in [0, 1]; the
        report holds the scalar, the content and the style term, and the share of output
        values within 1/255 of 0 or 1 (saturated), all detached.
    """

    def loss(parameters, target, contents):
        logits = transform(parameters, contents)
        outputs = torch.sigmoid(logits)
        wanted = content_target(features, contents, settings)
        parts = perceptual_loss(features, outputs, wanted, target, settings)
        total = parts.total + settings.range_weight * range_penalty(logits, settings.range_limit)
        report = [total, parts.content, parts.style, saturated_share(outputs)]
        return total, torch.stack(report).detach()

    return loss


def saturated_share(images: Tensor) -> Tensor:
    """Share of values within 1/255 of 0 or 1, where an 8-bit image can say no more."""
    return ((images - 0.5).abs() > 0.5 - 1 / 255).float().mean()
