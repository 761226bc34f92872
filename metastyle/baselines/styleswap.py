"""Chen and Schmidt 2016 (Style-Swap): content patches replaced by the style's, then decoded."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from metastyle.baselines import Context, Method, Printed
from metastyle.baselines._autoencoder import (
    AutoEncoder,
    Encoder,
    Shape,
    in_multiples,
    normed_decoder,
)
from metastyle.baselines._patches import swap
from metastyle.baselines._pretrained import Pretrained, assemble, count
from metastyle.baselines.gatys import total_variation
from metastyle.core.images import resize
from metastyle.core.vgg import VGG16

BLOCKS = 3  # relu3_1


class Settings(Pretrained):
    """`methods.styleswap`."""

    encoder: Shape
    patch: PositiveInt  # side, in pixels of relu3_1


def new_network(settings: Settings, vgg: VGG16, photos: Tensor | None = None) -> AutoEncoder:
    """To be trained, or restored; its encoder normalised over photos where they are given."""
    encoder = Encoder(settings.encoder, BLOCKS, vgg, weights=settings.vgg19)
    return AutoEncoder(encoder, normed_decoder(), photos)


def training_terms(
    network: AutoEncoder, settings: Settings, vgg: VGG16, photos: Tensor, paintings: Tensor
) -> dict[str, Tensor]:
    """The inverse network (section 3.3): latents of photos, of paintings, and of each photo
    swapped with its painting are to come back from the image that it makes of them.

    `pixels` is ours: the plain ones against their images, as in AdaIN's training here.
    """
    images = torch.cat([photos, paintings])
    with torch.no_grad():
        plain = network.encoder(images)[-1]
        pairs = zip(*(part.split(1) for part in plain.split(len(photos))), strict=True)
        swapped = [swap(photo, painting, settings.patch) for photo, painting in pairs]
        latents = torch.cat([plain, *swapped])
    found = network.decoder(latents)
    latent = (network.encoder(found)[-1] - latents).square().mean()
    pixels = (found[: len(images)] - images).square().mean()
    return {"latent": latent, "variation": total_variation(found), "pixels": pixels}


def reconstruct(network: AutoEncoder, photos: Tensor) -> dict[str, Tensor]:
    """Photos decoded as they were encoded, no style between, by the decoder's name."""

    def transform(images):
        return network.decoder(network.encoder(images)[-1])

    return {"styleswap": in_multiples(transform, photos, 2 ** (BLOCKS - 1))}


def build(settings: Settings, context: Context) -> Method:
    s, vgg, device = settings, context.loss.vgg, context.device
    network = assemble(lambda: new_network(s, vgg), s, device)

    @torch.no_grad()
    def prepare(style):
        style = resize(style, s.style_size).to(device)
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
