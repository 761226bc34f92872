"""VGG-16 features up to relu5_1 (Simonyan and Zisserman 2015), the yardstick of every loss."""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.config import InputError, Precision
from metastyle.core.kernels import frozen_conv_relu

CONVS_PER_BLOCK = (2, 2, 3, 3, 1)
LAYERS = [f"{b}_{c}" for b, n in enumerate(CONVS_PER_BLOCK, start=1) for c in range(1, n + 1)]
MEAN = (123.68, 116.779, 103.939)  # RGB, 0..255: what these weights were trained with


class VGG16(nn.Module):
    """Frozen VGG-16 with max-pooling and zero padding.

    The original weights see pixels in 0..255 and answer with activations of several hundred.
    Scaling the input and every bias by `scale` scales every activation by exactly `scale`,
    since convolution, ReLU and pooling are positively homogeneous.
    """

    memory_format = torch.channels_last  # of weights and activations

    def __init__(self, weights: dict[str, Tensor], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        for layer in LAYERS:
            weight, bias = weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"]
            weight = weight.contiguous(memory_format=self.memory_format)
            self.register_buffer(f"weight{layer}", weight)
            self.register_buffer(f"bias{layer}", bias * scale)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def conv_relu(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """One layer; 3x3, zero padding."""
        return frozen_conv_relu(x, weight, bias)

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Features after the named ReLUs.

        Args:
            images: RGB in [0, 1], shape (N, 3, H, W), each side at least 16; any device.
            layers: names such as `relu2_2`; nothing beyond the deepest one is computed.

        Returns:
            One (N, C, H / 2^(block-1), W / 2^(block-1)) tensor of values >= 0 per layer, in the
            format of the images.
        """
        wanted = set(layers)
        features: dict[str, Tensor] = {}
        images = images.to(self.device, memory_format=self.memory_format)
        x = ((images * 255 - self.mean) * self.scale).to(self.get_buffer("weight1_1").dtype)
        for layer in LAYERS:
            if layer.endswith("_1") and layer != "1_1":
                x = F.max_pool2d(x, 2)
            weight, bias = self.get_buffer(f"weight{layer}"), self.get_buffer(f"bias{layer}")
            x = self.conv_relu(x, weight, bias)
            if (name := f"relu{layer}") in wanted:
                features[name] = x.to(images.dtype)
                if len(features) == len(wanted):
                    return features
        unknown = ", ".join(sorted(wanted - features.keys()))
        raise InputError(f"VGG-16 layer {unknown}: unknown; use relu1_1 to relu5_1")

    def to_precision(self, precision: Precision) -> "VGG16":
        """The same network with its convolutions and what passes between them in `precision`.

        bfloat16 takes half the time where the processor has instructions for it
        (`machine.has_bfloat16`), and far longer where it has none.
        """
        if precision == "float32":
            return self
        other = copy.deepcopy(self)
        for name, buffer in other.named_buffers():
            if name != "mean":  # pixels are normalised before they are rounded
                setattr(other, name, buffer.to(getattr(torch, precision)))
        return other


def load_vgg(path: str | Path, scale: float, network: type[VGG16] = VGG16) -> VGG16:
    """Read the weights (safetensors, conv1_1 to conv5_1); moves to the GPU where there is one.

    Args:
        scale: see `VGG16`.
        network: the class to build, for another way to compute the same.

    Raises:
        InputError: the file is missing or not such a file.
    """
    path = Path(path)
    try:
        weights = load_file(path)
        vgg = network(weights, scale)
    except FileNotFoundError:
        raise InputError(f"{path}: VGG-16 weights are missing; run 'dvc pull'") from None
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(f"{path}: not VGG-16 weights ({error}); run 'dvc pull'") from None
    return vgg.to("cuda" if torch.cuda.is_available() else "cpu")
