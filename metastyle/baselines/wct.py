"""Li et al. 2017: whitening and colouring of features at five levels, the deepest first."""

import torch
from torch import Tensor, nn

from metastyle.baselines import Context, Method, Printed, _least_squares
from metastyle.baselines._autoencoder import (
    AutoEncoder,
    Encoder,
    Shape,
    in_multiples,
    mirror_decoder,
)
from metastyle.baselines._moments import colour, spectrum, whiten
from metastyle.baselines._pretrained import Pretrained, assemble, count
from metastyle.config import Probability
from metastyle.core.images import resize
from metastyle.core.vgg import VGG16

LEVELS = (5, 4, 3, 2, 1)  # relu5_1 to relu1_1


class Settings(Pretrained):
    """`methods.wct`."""

    encoder: Shape
    alpha: Probability  # 1: the style in full


def new_network(settings: Settings, vgg: VGG16, photos: Tensor | None = None) -> nn.ModuleList:
    """Five auto-encoders in the order of `LEVELS`, nothing shared; to be trained, or restored.

    The encoders are normalised over photos where they are given.
    """
    options = {"weights": settings.vgg19}
    return nn.ModuleList(
        AutoEncoder(Encoder(settings.encoder, level, vgg, **options), mirror_decoder(level), photos)
        for level in LEVELS
    )


def start(network: nn.ModuleList, photos: Tensor) -> None:
    """Ours: before the training, every decoder as least squares have it."""
    for level in network:
        _least_squares.start(level, photos)


def training_terms(
    network: nn.ModuleList, settings: Settings, vgg: VGG16, photos: Tensor, paintings: Tensor
) -> dict[str, Tensor]:
    """Equation 1 of every level: pixels and deepest features of the reconstruction.

    The levels share no parameter and Adam is blind to a loss's scale, so that training them
    together is training each on its own. No painting is needed.
    """
    terms = {name: torch.zeros((), device=photos.device) for name in ("pixels", "features")}
    for level in network:
        with torch.no_grad():
            wanted = level.encoder(photos)[-1]
        found = level.decoder(wanted)
        terms["pixels"] = terms["pixels"] + (found - photos).square().mean()
        features = (level.encoder(found)[-1] - wanted).square().mean()
        terms["features"] = terms["features"] + features
    return terms


def reconstruct(network: nn.ModuleList, photos: Tensor) -> dict[str, Tensor]:
    """Photos decoded as they were encoded, no style between, by the decoder's name."""
    return {
        f"wct{depth}": in_multiples(
            lambda images, level=level: level.decoder(level.encoder(images)[-1]),
            photos,
            2 ** (depth - 1),
        )
        for depth, level in zip(LEVELS, network, strict=True)
    }


def build(settings: Settings, context: Context) -> Method:
    s, vgg, device = settings, context.loss.vgg, context.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = resize(style, s.style_size).to(device)
        return [spectrum(level.encoder(style)[-1], correction=1) for level in network]

    def stylise(styles, contents):
        def transform(images):
            for level, style in zip(network, styles, strict=True):
                features = level.encoder(images)[-1]
                whitened = whiten(features, spectrum(features, correction=1))
                images = level.decoder(features.lerp(colour(whitened, style), s.alpha))
            return images

        return in_multiples(transform, contents.to(device), 2 ** (LEVELS[0] - 1))

    return Method(
        label="Li et al. 2017 (WCT)",
        parameters=count(network),
        styles="any",
        updates=1,
        prepare=prepare,
        ready=prepare,
        stylise=stylise,
        printed=Printed("34.23M", {256: 0.6887, 512: 1.2335}),
    )
