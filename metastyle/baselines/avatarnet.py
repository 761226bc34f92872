"""Sheng et al. 2018 (Avatar-Net): style swap of whitened features, decoded with style skips."""

from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor

from metastyle.baselines import Context, Method, Printed
from metastyle.baselines._autoencoder import (
    AutoEncoder,
    Encoder,
    Shape,
    SkipDecoder,
    in_multiples,
    unused_layers,
)
from metastyle.baselines._moments import Moments, Spectrum, colour, moments, spectrum, whiten
from metastyle.baselines._patches import swap
from metastyle.baselines._pretrained import Pretrained, assemble, count
from metastyle.baselines.gatys import total_variation
from metastyle.config import Probability
from metastyle.core.images import centre, resize
from metastyle.core.vgg import VGG16

BLOCKS = 4  # relu4_1


class Settings(Pretrained):
    """`methods.avatarnet`; of the painting only the central square is seen."""

    encoder: Shape
    alpha: Probability  # 1: swapped features alone
    patch: PositiveInt  # side, in pixels of relu4_1


class Style(NamedTuple):
    """What is kept of a style.

    spectrum, whitened: of its features at relu4_1, (1, 512, h, w).
    skips: moments at relu1_1, 2_1 and 3_1.
    """

    spectrum: Spectrum
    whitened: Tensor
    skips: list[Moments]


def encode_style(features: list[Tensor]) -> Style:
    """Features of one style at relu1_1 to relu4_1 -> what is kept of it."""
    *shallow, deep = features
    own = spectrum(deep, correction=0)
    return Style(own, whiten(deep, own), [moments(f) for f in shallow])


def decorate(content: Tensor, style: Style, *, alpha: float, patch: int) -> Tensor:
    """The style decorator (section 3.1): whiten, swap, blend, colour; (N, 512, h, w) kept.

    With alpha = 0 the content is only recoloured, as in WCT.
    """
    whitened = whiten(content, spectrum(content, correction=0))
    swapped = swap(whitened, style.whitened, patch)
    return colour(whitened.lerp(swapped, alpha), style.spectrum)


def new_network(settings: Settings, vgg: VGG16, photos: Tensor | None = None) -> AutoEncoder:
    """To be trained, or restored. Its VGG is not a normalised one: photos change nothing."""
    options = {"padding": "zeros", "pool": "average", "weights": settings.vgg19}
    encoder = Encoder(settings.encoder, BLOCKS, vgg, **options)
    return AutoEncoder(encoder, SkipDecoder())


def _decode(network: AutoEncoder, features: list[Tensor]) -> Tensor:
    """With the photo as its own style the decorator changes nothing."""
    *shallow, deep = features
    return network.decoder(deep, [moments(f) for f in shallow])


def training_terms(
    network: AutoEncoder, settings: Settings, vgg: VGG16, photos: Tensor, paintings: Tensor
) -> dict[str, Tensor]:
    """An auto-encoder whose style is the photo itself: pixels in [0, 1], features of four layers
    at VGG's `scale`, total variation. No painting is needed."""
    with torch.no_grad():
        wanted = network.encoder(photos)
    found = _decode(network, wanted)
    features = torch.zeros((), device=photos.device)
    for own, other in zip(network.encoder(found), wanted, strict=True):
        features = features + (own - other).square().mean()
    pixels = (found - photos).square().mean()
    return {"pixels": pixels, "features": features, "variation": total_variation(found)}


def reconstruct(network: AutoEncoder, photos: Tensor) -> dict[str, Tensor]:
    """Photos decoded as they were encoded, their own style, by the decoder's name."""

    def transform(images):
        return _decode(network, network.encoder(images))

    return {"avatarnet": in_multiples(transform, photos, 2 ** (BLOCKS - 1))}


def build(settings: Settings, context: Context) -> Method:
    s, vgg, device = settings, context.loss.vgg, context.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = centre(resize(style, s.style_size), s.style_size, s.style_size)
        return encode_style(network.encoder(style.to(device)))

    def stylise(style, contents):
        def transform(images):
            features = network.encoder(images)[-1]
            decorated = decorate(features, style, alpha=s.alpha, patch=s.patch)
            return network.decoder(decorated, style.skips)

        return in_multiples(transform, contents.to(device), 2 ** (BLOCKS - 1))

    return Method(
        label="Sheng et al. 2018 (Avatar-Net)",
        # Table 1 counts the whole VGG, though only the layers up to relu4_1 execute.
        parameters=count(network, unused_layers(s.encoder, BLOCKS)),
        styles="any",
        updates=1,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("147.22M", {256: 0.5089, 512: 0.6088}),
    )
