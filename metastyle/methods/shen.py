"""Shen et al. 2018: a network that generates the transformation network of any style."""

from pydantic import PositiveInt
from torchvision.transforms.v2 import functional as F

from metastyle.hypernetwork import HyperNetwork, style_statistics
from metastyle.methods import Method, Printed, Resources
from metastyle.pretrained import Pretrained, assemble, count
from metastyle.transformer import stylise


class Settings(Pretrained):
    """`methods.shen`."""

    width: PositiveInt  # hidden numbers per generated convolution; 128 in the paper


def build(settings: Settings, resources: Resources) -> Method:
    s, vgg = settings, resources.features
    hyper = assemble(lambda: HyperNetwork(s.width), s, vgg.mean.device)

    def prepare(style):
        style = F.resize(style, [s.style_size], antialias=True)
        return hyper.network(style_statistics(vgg, style))

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
