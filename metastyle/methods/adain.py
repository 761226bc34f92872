"""Huang and Belongie 2017: channel means and deviations of the content set to the style's."""

import torch
from torchvision.transforms.v2 import functional as F

from metastyle.autoencoders import AutoEncoder, Encoder, Shape, in_multiples, mirror_decoder
from metastyle.methods import Method, Printed, Resources
from metastyle.moments import adain, moments
from metastyle.params import Probability
from metastyle.pretrained import Pretrained, assemble, count
from metastyle.vgg import VGG16

BLOCKS = 4  # relu4_1


class Settings(Pretrained):
    """`methods.adain`."""

    encoder: Shape
    alpha: Probability  # 1: the style in full


def new_network(settings: Settings, vgg: VGG16) -> AutoEncoder:
    """To be trained, or restored."""
    return AutoEncoder(Encoder(settings.encoder, BLOCKS, vgg), mirror_decoder(BLOCKS))


def build(settings: Settings, resources: Resources) -> Method:
    s, vgg = settings, resources.features
    device = vgg.mean.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = F.resize(style, [s.style_size], antialias=True).to(device)
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
