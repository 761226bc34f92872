"""A mirrored decoder's start in closed form: nine or more layers without norms, their inputs all
positive, hardly leave a random start in a short training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.baselines._autoencoder import AutoEncoder

BATCH = 8  # images that are unfolded at once
RIDGES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)  # of the mean square of an input
TRIED = 4  # every fourth image decides between them


@torch.no_grad()
def fit(conv: nn.Conv2d, inputs: Tensor, wanted: Tensor) -> None:
    """Set a 3x3 convolution with reflection padding to the ridge regression of its answers.

    It is fitted to three quarters of the images. The penalty is the one of `RIDGES` that does best
    on the others, which no convolution before it was fitted to either.

    Args:
        inputs: (N, C, H, W), N > 1.
        wanted: (N, C', H, W), what it should answer.
    """
    tried = torch.arange(len(inputs), device=inputs.device) % TRIED == TRIED - 1
    if not tried.any():
        tried[-1] = True
    fitted, judged = (_normal_equations(inputs[k], wanted[k]) for k in (~tried, tried))

    def error(solution: Tensor) -> float:
        """Up to a constant, on the images that it is not fitted to."""
        square, product = judged
        return float((solution * (square @ solution - 2 * product)).sum())

    solution = min((_solve(*fitted, ridge) for ridge in RIDGES), key=error)
    conv.weight.copy_(solution[:-1].T.view_as(conv.weight))
    conv.bias.copy_(solution[-1])


def _normal_equations(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """X^T X and X^T Y over 3x3 patches, (9 C + 1, 9 C + 1) and (9 C + 1, C')."""
    count = 9 * inputs.shape[1] + 1
    square = inputs.new_zeros(count, count)
    product = inputs.new_zeros(count, wanted.shape[1])
    for x, y in zip(inputs.split(BATCH), wanted.split(BATCH), strict=True):
        patches = F.unfold(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3).transpose(1, 2).flatten(0, 1)
        rows = F.pad(patches, (0, 1), value=1.0)  # the last column is the bias's
        square += rows.T @ rows
        product += rows.T @ y.flatten(2).transpose(1, 2).flatten(0, 1)
    return square, product


def _solve(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    """The bias bears no penalty."""
    square = square.clone()
    square.diagonal()[:-1].add_(ridge * square.diagonal()[:-1].mean())
    return torch.linalg.solve(square, product)


@torch.no_grad()
def start(network: AutoEncoder, photos: Tensor) -> None:
    """Fit a mirrored decoder stage by stage.

    Every convolution of a stage is fitted to the features that the encoder has one block above,
    averaged to its own resolution before the upsampling; the last one of all to the photos. Each
    sees what those before it answer, not what they should.

    Args:
        photos: RGB in [0, 1], (N, 3, H, W), sides divisible by what the encoder pools.
    """
    features = [torch.cat(f) for f in zip(*map(network.encoder, photos.split(BATCH)), strict=True)]
    *stages, last = network.decoder
    answer = features.pop()
    for stage, wanted in zip(stages, reversed(features), strict=True):
        for layer in stage:
            if isinstance(layer, nn.Conv2d):
                factor = wanted.shape[-1] // answer.shape[-1]
                fit(layer, answer, F.avg_pool2d(wanted, factor))
            answer = in_batches(layer, answer)
    fit(last, answer, photos)


def in_batches(layer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a layer to a few images at a time."""
    return torch.cat([layer(x) for x in images.split(BATCH)])
