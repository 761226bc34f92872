"""Shen et al. 2018: a network that generates the transformation network of any style."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from metastyle.baselines import Context, Method, Printed
from metastyle.baselines._hypernetwork import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    HyperNetwork,
    statistics,
    style_statistics,
)
from metastyle.baselines._pretrained import Pretrained, assemble, count
from metastyle.config import InputError
from metastyle.core.checkpoint import FINEST, compact, load_weights
from metastyle.core.images import resize
from metastyle.core.losses import range_penalty
from metastyle.core.network import TransformerNet, stylise, transform
from metastyle.core.vgg import VGG16

NORMALISED_BY = "paintings"  # for `training.pretrain`
OWN = "own part of "
ALIKE = 0.1  # relative distance of statistics: a style scaled twice stays below, others are above


class Settings(Pretrained):
    """`methods.shen`; `weights` holds generated networks, see `generate`."""

    width: PositiveInt  # hidden numbers per generated convolution; 128 in the paper
    range_limit: PositiveFloat  # logits of the generated network beyond it are penalised


def new_network(settings: Settings, vgg: VGG16, paintings: Tensor | None = None) -> HyperNetwork:
    """To be trained; a style's statistics are standardised over paintings where they are given."""
    if paintings is None:
        return HyperNetwork(settings.width)
    with torch.no_grad():
        return HyperNetwork(settings.width, statistics(vgg(paintings, STYLE_LAYERS)))


def training_terms(
    network: HyperNetwork, settings: Settings, vgg: VGG16, photos: Tensor, paintings: Tensor
) -> dict[str, Tensor]:
    """The perceptual loss of the network generated for one painting, (1, 3, H, W): relu3_3
    against the photos', channel means and deviations of four layers against the painting's.

    `range` is ours, the penalty of all other trainings here for what a sigmoid saturates.
    """
    with torch.no_grad():
        wanted = vgg(photos, [CONTENT_LAYER])[CONTENT_LAYER]
        style = style_statistics(vgg, paintings)
    parameters = dict(network.image_network.named_parameters()) | network(style)
    logits = transform(parameters, photos)
    found = vgg(torch.sigmoid(logits), STYLE_LAYERS)
    content = (found[CONTENT_LAYER] - wanted).square().mean()
    widths = [found[layer].shape[1] for layer in STYLE_LAYERS for _ in range(2)]
    apart = (statistics(found) - style).split(widths, 1)
    moments_apart = torch.stack([a.square().mean() for a in apart]).sum()
    beyond = range_penalty(logits, settings.range_limit)
    return {"content": content, "style": moments_apart, "range": beyond}


@torch.no_grad()
def generate(
    network: HyperNetwork,
    settings: Settings,
    vgg: VGG16,
    styles: Sequence[Tensor],
    levels: int = FINEST,
) -> dict[str, Tensor]:
    """What `build` restores: the generated networks of S styles, not what generated them.

    Args:
        styles: (1, 3, H, W) in [0, 1] each.
        levels: of the styles' own parts, see `compact`.

    Returns:
        The parameters by their names in TransformerNet, `compact`: shared ones, and of generated
        ones the mean over the styles. What a style adds is beside them, stacked to (S, ...): the
        smaller part, which bears rounding. And `statistics`, (S, 1920), to know the styles by.
    """
    known = torch.stack([describe(style, settings, vgg) for style in styles])
    generated = [network(style) for style in known]
    shared, own = dict(network.image_network.named_parameters()), {}
    for name in generated[0]:
        stacked = torch.stack([parameters[name] for parameters in generated])
        shared[name] = stacked.mean(0)
        own[OWN + name] = stacked - shared[name]
    return {"statistics": known, **compact(shared), **compact(own, levels)}


def describe(style: Tensor, settings: Settings, vgg: VGG16) -> Tensor:
    """What the hypernetwork sees of a style, (1, 3, H, W) in [0, 1]: (1920,)."""
    return style_statistics(vgg, resize(style, settings.style_size))


def _choose(path: Path, tensors: dict[str, Tensor], style: Tensor) -> TransformerNet:
    """The generated network of the style whose statistics these are."""
    known = tensors["statistics"].to(style.device)
    apart, k = ((known - style).norm(dim=1) / style.norm()).min(0)
    if apart > ALIKE:
        raise InputError(
            f"{path}: holds the networks of {len(known)} styles and not of this one; "
            "generate it with the trained hypernetwork, which is not among the results"
        )
    network = TransformerNet()
    for name, parameter in network.named_parameters():
        own = tensors[OWN + name][k] if OWN + name in tensors else 0
        parameter.data.copy_(tensors[name] + own)
    return network.to(style.device)


def build(settings: Settings, context: Context) -> Method:
    s, vgg = settings, context.loss.vgg
    if s.weights is None:
        hyper = assemble(lambda: new_network(s, vgg), s, vgg.device)
        network = hyper.network
    else:
        with torch.device("meta"):
            hyper = new_network(s, vgg)  # only to be counted
        tensors = load_weights(s.weights)

        def network(style):
            return _choose(s.weights, tensors, style)

    def prepare(style):
        return network(describe(style, s, vgg))

    return Method(
        label="Shen et al. 2018",
        parameters=count(hyper),
        styles="any",
        updates=1,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("219.32M", {256: 0.0045, 512: 0.0147}),
    )
