"""Huang and Belongie 2017: channel means and deviations of the content set to the style's."""

import torch
from torch import Tensor

from metastyle.baselines import Context, Method, Printed, _least_squares
from metastyle.baselines._autoencoder import (
    AutoEncoder,
    Encoder,
    Shape,
    in_multiples,
    mirror_decoder,
)
from metastyle.baselines._moments import adain, moments
from metastyle.baselines._pretrained import Pretrained, assemble, count
from metastyle.config import Probability
from metastyle.core.images import resize
from metastyle.core.vgg import VGG16

BLOCKS = 4  # relu4_1


class Settings(Pretrained):
    """`methods.adain`."""

    encoder: Shape
    alpha: Probability  # 1: the style in full


def new_network(settings: Settings, vgg: VGG16, photos: Tensor | None = None) -> AutoEncoder:
    """To be trained, or restored; its encoder normalised over photos where they are given."""
    encoder = Encoder(settings.encoder, BLOCKS, vgg, weights=settings.vgg19)
    return AutoEncoder(encoder, mirror_decoder(BLOCKS), photos)


def start(network: AutoEncoder, photos: Tensor) -> None:
    """Ours: before the training, the decoder as least squares have it."""
    _least_squares.start(network, photos)


def training_terms(
    network: AutoEncoder, settings: Settings, vgg: VGG16, photos: Tensor, paintings: Tensor
) -> dict[str, Tensor]:
    """Equations 11 to 13: relu4_1 against AdaIN's answer t, and the moments of relu1_1 to 4_1
    against the painting's. One painting per photo.

    `pixels` is ours: the photo decoded as it was encoded, against itself, which teaches a
    short training what features look like.
    """
    with torch.no_grad():
        wanted = [moments(features) for features in network.encoder(paintings)]
        plain = network.encoder(photos)[-1]
        target = adain(plain, wanted[-1])
    found = network.encoder(network.decoder(target))
    style = torch.zeros((), device=target.device)
    for features, painting in zip(found, wanted, strict=True):
        for own, other in zip(moments(features), painting, strict=True):
            style = style + (own - other).square().mean()
    content = (found[-1] - target).square().mean()
    pixels = (network.decoder(plain) - photos).square().mean()
    return {"content": content, "style": style, "pixels": pixels}


def reconstruct(network: AutoEncoder, photos: Tensor) -> dict[str, Tensor]:
    """Photos decoded as they were encoded, no style between, by the decoder's name."""

    def transform(images):
        return network.decoder(network.encoder(images)[-1])

    return {"adain": in_multiples(transform, photos, 2 ** (BLOCKS - 1))}


def build(settings: Settings, context: Context) -> Method:
    s, vgg, device = settings, context.loss.vgg, context.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = resize(style, s.style_size).to(device)
        return moments(network.encoder(style)[-1])

    def stylise(style, contents):
        def transform(images):
            features = network.encoder(images)[-1]
            return network.decoder(features.lerp(adain(features, style), s.alpha))

        return in_multiples(transform, contents.to(device), 2 ** (BLOCKS - 1))

    return Method(
        label="Huang and Belongie 2017 (AdaIN)",
        parameters=count(network),
        styles="any",
        updates=1,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("7.01M", {256: 0.0165, 512: 0.0320}),
    )
