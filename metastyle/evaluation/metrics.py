"""How near an image is to its photo and to its style: by VGG-16, which many methods minimise
distances in, and by two judges that none does, AlexNet and SSIM.

Another measure of (output, photo, style) is one more entry of `measure`.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from metastyle.config import Project, Section
from metastyle.core import splits
from metastyle.core.kernels import gram
from metastyle.core.losses import PerceptualLoss, StyleTarget, content_loss, style_loss
from metastyle.evaluation.lpips import AlexNet, load_alexnet, lpips, statistics, style_distance

MEASURES = ["content", "gram", "sliced", "ssim", "cfsd", "lpips", "alexnet"]  # see `measure`


class Metrics(Section):
    """`comparison.metrics`.

    sliced_layers, directions, quantiles, seed: of the sliced Wasserstein distance.
    structure_layer, temperature: of the structural distance.
    """

    sliced_layers: Annotated[list[str], Field(min_length=1)]
    directions: PositiveInt
    quantiles: Annotated[int, Field(ge=2)]
    seed: int
    structure_layer: str
    temperature: PositiveFloat


class Judges(NamedTuple):
    """Whose features are compared, and how."""

    loss: PerceptualLoss
    alexnet: AlexNet
    settings: Metrics


def load_judges(project: Project, loss: PerceptualLoss, settings: Metrics) -> Judges:
    """With AlexNet from `data.alexnet`.

    Raises:
        InputError: see `load_alexnet`.
    """
    alexnet = load_alexnet(project.root / splits.Data.read(project, "data").alexnet)
    return Judges(loss, alexnet, settings)


class Photo(NamedTuple):
    """What is compared of a photo: itself and features of the content and the structure layer."""

    image: Tensor
    content: Tensor
    structure: Tensor


class Style(NamedTuple):
    """What is compared of a style: Gram matrices, `profile` of its sliced layers, and AlexNet's
    `statistics`."""

    grams: StyleTarget
    profiles: dict[str, Tensor]
    statistics: list[Tensor]


@torch.no_grad()
def photo(image: Tensor, judges: Judges) -> Photo:
    """Of RGB in [0, 1], (1, 3, H, W)."""
    content, structure = judges.loss.settings.content_layer, judges.settings.structure_layer
    layers = judges.loss.vgg(image, [content, structure])
    return Photo(image, layers[content], layers[structure])


@torch.no_grad()
def style(image: Tensor, judges: Judges) -> Style:
    """Of RGB in [0, 1], (1, 3, H, W); any size that AlexNet takes."""
    style_layers, sliced_layers = judges.loss.settings.style_layers, judges.settings.sliced_layers
    layers = judges.loss.vgg(image, [*style_layers, *sliced_layers])
    return Style(
        {layer: gram(layers[layer])[0] for layer in style_layers},
        {layer: profile(layers[layer], judges.settings) for layer in sliced_layers},
        statistics(image, judges.alexnet),
    )


def profile(features: Tensor, settings: Metrics) -> Tensor:
    """Quantiles of the pixels along random directions: (1, C, H, W) -> (directions, quantiles).

    The directions, of length 1, are a function of the seed and C.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    directions = torch.randn(settings.directions, features.shape[1], generator=generator)
    directions = F.normalize(directions, dim=1).to(features)
    levels = torch.linspace(0, 1, settings.quantiles).to(features)
    return torch.quantile(directions @ features[0].flatten(1), levels, dim=1).T


def sliced_wasserstein(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of the pixels' distributions along each direction, its mean
    over that of the style's variance: 0 where they are the same, no matter where pixels are.

    Args:
        found, wanted: from `profile`.
    """
    return (found - wanted).square().mean() / wanted.var(1, correction=0).mean()


def structural_distance(found: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """CFSD: how differently the places of two feature maps resemble each other.

    Every place gives a distribution over all places, the softmax of its cosine similarities
    over `temperature`; the answer is the mean Kullback-Leibler divergence of the wanted
    distributions from the found ones, in nats.

    Args:
        found, wanted: (1, C, H, W).
    """

    def log_similarities(features: Tensor) -> Tensor:
        places = F.normalize(features[0].flatten(1).T, dim=1)
        return F.log_softmax(places @ places.T / temperature, dim=1)

    return F.kl_div(
        log_similarities(found), log_similarities(wanted), log_target=True, reduction="batchmean"
    )


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of the grey images; -1 to 1, 1 for the same.

    Args:
        a, b: RGB in [0, 1], (1, 3, H, W), sides of at least 11 pixels.
    """
    grey = (rgb_to_grayscale(image)[0, 0].cpu().numpy() for image in (a, b))
    return float(
        structural_similarity(
            *grey, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite for the same."""
    return float(-10 * (a - b).square().mean().log10())


@torch.no_grad()
def measure(output: Tensor, photo: Photo, style: Style, judges: Judges) -> dict[str, float]:
    """All measures of one image, RGB in [0, 1], (1, 3, H, W), sides of at least 31 pixels.

    Returns:
        By `MEASURES`: `content` and `gram`, the shared perceptual loss's two terms, unweighted;
        `sliced`, which nothing here was trained on; `ssim`, `cfsd` and `lpips` against the
        photo; `alexnet`, the `style_distance` to the painting. Less is nearer, but for `ssim`.
    """
    loss, alexnet, settings = judges
    perceptual = loss.settings
    wanted = [perceptual.content_layer, *perceptual.style_layers]
    layers = loss.vgg(output, [*wanted, *settings.sliced_layers, settings.structure_layer])
    grams = {layer: gram(layers[layer]) for layer in perceptual.style_layers}
    sliced = [
        sliced_wasserstein(profile(layers[layer], settings), style.profiles[layer])
        for layer in settings.sliced_layers
    ]
    found = layers[settings.structure_layer]
    return {
        "content": content_loss(layers[perceptual.content_layer], photo.content).item(),
        "gram": style_loss(grams, style.grams, perceptual).item(),
        "sliced": torch.stack(sliced).mean().item(),
        "ssim": ssim(output, photo.image),
        "cfsd": structural_distance(found, photo.structure, settings.temperature).item(),
        "lpips": lpips(output, photo.image, alexnet).item(),
        "alexnet": style_distance(statistics(output, alexnet), style.statistics).item(),
    }
