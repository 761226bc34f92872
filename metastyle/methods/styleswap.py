"""Chen and Schmidt 2016 (Style-Swap): content patches replaced by the style's, then decoded."""

import torch
from pydantic import PositiveInt
from torchvision.transforms.v2 import functional as F

from metastyle.autoencoders import AutoEncoder, Encoder, Shape, in_multiples, normed_decoder
from metastyle.methods import Method, Printed, Resources
from metastyle.patches import swap
from metastyle.pretrained import Pretrained, assemble, count
from metastyle.vgg import VGG16

BLOCKS = 3  # relu3_1


class Settings(Pretrained):
    """`methods.styleswap`."""

    encoder: Shape
    patch: PositiveInt  # side, in pixels of relu3_1


def new_network(settings: Settings, vgg: VGG16) -> AutoEncoder:
    """To be trained, or restored."""
    return AutoEncoder(Encoder(settings.encoder, BLOCKS, vgg), normed_decoder())


def build(settings: Settings, resources: Resources) -> Method:
    s, vgg = settings, resources.features
    device = vgg.mean.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = F.resize(style, [s.style_size], antialias=True).to(device)
        return network.encoder(style)[-1]

    def stylise(style, contents):
        def transform(images):
            return network.decoder(swap(network.encoder(images)[-1], style, s.patch))

        return in_multiples(transform, contents.to(device), 2 ** (BLOCKS - 1))

    return Method(
        label="Chen and Schmidt 2016 (Style-Swap)",
        parameters=count(network),
        styles="any",
        updates=1,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("1.48M", {256: 0.2679, 512: 1.0890}),
    )
