"""Nearness in the eyes of AlexNet, a judge that no method here was trained on.

LPIPS (Zhang et al. 2018, version 0.1) for content; the channels' means and deviations for style.
Neither is in the paper.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.config import InputError
from metastyle.core import device
from metastyle.core.vgg import UNREADABLE, ImageNetInput, check_shapes, read_weights, reason


class _Conv(NamedTuple):
    """A convolution, and whether a 3x3 max-pooling with stride 2 comes before it."""

    outputs: int
    side: int
    stride: int
    padding: int
    pooled: bool


CONVS = (
    _Conv(64, 11, 4, 2, pooled=False),
    _Conv(192, 5, 1, 2, pooled=True),
    _Conv(384, 3, 1, 1, pooled=True),
    _Conv(256, 3, 1, 1, pooled=False),
    _Conv(256, 3, 1, 1, pooled=False),
)
LEAST = 31  # pixels, of which the second pooling leaves one
EPSILON = 1e-10  # LPIPS', added to the length of a pixel's features


class AlexNet(nn.Module):
    """Frozen AlexNet (torchvision's) up to relu5, with LPIPS' weights of its channels.

    Args:
        weights: `conv1.weight` (64, 3, 11, 11), `conv1.bias` (64,), ..., `conv5.bias`, and `lin0`
            (64,) to `lin4` (256,), all >= 0.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        # LPIPS shifts and scales images in [-1, 1]; in [0, 1] that is ImageNet's normalisation.
        self.normalised = ImageNetInput()
        for k in range(len(CONVS)):
            for ours, theirs in (
                ("weight", f"conv{k + 1}.weight"),
                ("bias", f"conv{k + 1}.bias"),
                ("head", f"lin{k}"),
            ):
                self.register_buffer(f"{ours}{k + 1}", weights[theirs])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.normalised.mean.device

    def heads(self) -> list[Tensor]:
        """LPIPS' weights of the channels per layer."""
        return [self.get_buffer(f"head{k}") for k in range(1, len(CONVS) + 1)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features after the five ReLUs.

        Args:
            images: RGB in [0, 1], shape (N, 3, H, W), each side at least 31; any device.

        Returns:
            Five (N, C, h, w) tensors of values >= 0; C is 64, 192, 384, 256, 256.

        Raises:
            InputError: a side is too short.
        """
        height, width = images.shape[-2:]
        if min(height, width) < LEAST:
            raise InputError(
                f"image of {height} x {width} pixels: too small for AlexNet; "
                f"sides need at least {LEAST}"
            )
        x = self.normalised(images.to(self.device))
        features = []
        for k, conv in enumerate(CONVS, start=1):
            if conv.pooled:
                x = F.max_pool2d(x, 3, 2)
            weight, bias = self.get_buffer(f"weight{k}"), self.get_buffer(f"bias{k}")
            x = F.relu(F.conv2d(x, weight, bias, conv.stride, conv.padding))
            features.append(x)
        return features


def load_alexnet(path: str | Path) -> AlexNet:
    """Read `data/alexnet.safetensors`, to `device.chosen`.

    Raises:
        InputError: the file is missing or not such a file.
    """
    path = Path(path)
    try:
        weights = read_weights(path)
        check_shapes(weights, _shapes())
    except FileNotFoundError:
        raise InputError(f"{path}: AlexNet's weights are missing; run 'dvc pull'") from None
    except UNREADABLE as error:
        raise InputError(
            f"{path}: not AlexNet's weights ({reason(error)}); run 'dvc pull'"
        ) from None
    return AlexNet(weights).to(device.chosen())


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes, inputs = {}, 3
    for k, conv in enumerate(CONVS):
        shapes[f"conv{k + 1}.weight"] = (conv.outputs, inputs, conv.side, conv.side)
        shapes[f"conv{k + 1}.bias"] = shapes[f"lin{k}"] = (conv.outputs,)
        inputs = conv.outputs
    return shapes


@torch.no_grad()
def lpips(one: Tensor, other: Tensor, alexnet: AlexNet) -> Tensor:
    """Learned perceptual distance of images: 0 for the same, about 0.7 for unlike ones.

    In every layer each pixel's features are scaled to length 1; the squared difference is
    weighted by channel, summed over channels and averaged over pixels; layers add up.

    Args:
        one, other: RGB in [0, 1], (N, 3, H, W), the same size, sides of at least 31.

    Returns:
        (N,), >= 0; the order of the images does not matter.
    """
    total = torch.zeros(len(one), device=alexnet.device)
    for a, b, head in zip(alexnet(one), alexnet(other), alexnet.heads(), strict=True):
        apart = (_unit(a) - _unit(b)).square()
        total = total + torch.einsum("nchw,c->nhw", apart, head).mean((1, 2))
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + EPSILON)


@torch.no_grad()
def statistics(images: Tensor, alexnet: AlexNet) -> list[Tensor]:
    """Mean and deviation over pixels of every channel of AlexNet's five layers.

    Args:
        images: RGB in [0, 1], (N, 3, H, W), sides of at least 31.

    Returns:
        Five (N, 2 C) tensors, means first, all >= 0.
    """
    features = (layer.flatten(2) for layer in alexnet(images))
    return [torch.cat([f.mean(2), f.std(2, correction=0)], 1) for f in features]


def style_distance(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far apart two styles are, by `statistics`: no matter where in the image things are.

    Per layer the squared distance over the mean of both squared lengths, averaged over layers.

    Args:
        found, wanted: from `statistics`; either may be of one image, for all of the other's.

    Returns:
        (N,), from 0, the same, to 2, no channel in common; the order does not matter. At 256 px
        two halves of a painting are 0.2 apart, two painters' works 0.5.
    """
    layers = []
    for a, b in zip(found, wanted, strict=True):
        lengths = (a.square().sum(1) + b.square().sum(1)) / 2
        layers.append((a - b).square().sum(1) / lengths)
    return torch.stack(layers).mean(0)
