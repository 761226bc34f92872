"""torchvision's VGG-16 up to relu5_1 (paper, section 3.1): the yardstick of every loss.

The paper's weights of the two terms and its inner learning rate belong to these activations.
"""

import copy
import json
import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.config import InputError, Precision
from metastyle.core import device
from metastyle.core.kernels import frozen_conv_relu

CONVS_PER_BLOCK = (2, 2, 3, 3, 1)
LAYERS = [f"{b}_{c}" for b, n in enumerate(CONVS_PER_BLOCK, start=1) for c in range(1, n + 1)]
# Where torchvision's `features` has these convolutions, among ReLUs and poolings.
TORCHVISION = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24), strict=True))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]
# What our files of weights say of their input, so that no other's is taken for them.
INPUT = f"RGB in [0, 1], minus {MEAN}, over {DEVIATION}"

UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, KeyError),
    *(ValueError, RuntimeError, EOFError, OSError),
)  # what reading a broken file of weights raises


class ImageNetInput(nn.Module):
    """What torchvision's networks want to see: RGB in [0, 1] minus ImageNet's mean, over its
    deviation; any shape (..., 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


class VGG16(nn.Module):
    """Frozen VGG-16 with max-pooling and zero padding.

    Args:
        weights: `conv1_1.weight` (64, 3, 3, 3), `conv1_1.bias` (64,), ..., `conv5_1.bias`.
    """

    memory_format = torch.channels_last  # of weights and activations

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.normalised = ImageNetInput()
        for layer in LAYERS:
            weight, bias = weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"]
            weight = weight.contiguous(memory_format=self.memory_format)
            self.register_buffer(f"weight{layer}", weight)
            self.register_buffer(f"bias{layer}", bias)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.normalised.mean.device

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

        Raises:
            InputError: a layer is unknown.
        """
        wanted = set(layers)
        features: dict[str, Tensor] = {}
        images = images.to(self.device, memory_format=self.memory_format)
        x = self.normalised(images).to(self.get_buffer("weight1_1").dtype)
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
        (`device.has_bfloat16`), and far longer where it has none.
        """
        if precision == "float32":
            return self
        other = copy.deepcopy(self)
        for layer in LAYERS:  # pixels are normalised before they are rounded
            for name in (f"weight{layer}", f"bias{layer}"):
                setattr(other, name, self.get_buffer(name).to(getattr(torch, precision)))
        return other


def load_vgg(path: str | Path, network: type[VGG16] = VGG16) -> VGG16:
    """Read the weights, to `device.chosen`.

    Args:
        path: safetensors as `data/vgg16.safetensors`, or torchvision's own file (.pth).
        network: the class to build, for another way to compute the same.

    Raises:
        InputError: the file is missing or not such a file.
    """
    path = Path(path)
    try:
        weights = _torchvision(path) if path.suffix == ".pth" else read_weights(path)
        check_shapes(weights, _shapes())
    except FileNotFoundError:
        raise InputError(f"{path}: VGG-16 weights are missing; run 'dvc pull'") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: not VGG-16 weights ({reason(error)}); run 'dvc pull'") from None
    return network(weights).to(device.chosen())


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file that says that its input is INPUT.

    Raises:
        FileNotFoundError: it is missing.
        UNREADABLE: it says something else, or nothing, or is no such file.
    """
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
        if about.get("input") != INPUT:
            raise ValueError("made for another input than torchvision's")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _torchvision(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("holds no state dict")
    return {
        f"conv{layer}.{kind}": state[f"features.{k}.{kind}"].float()
        for layer, k in TORCHVISION.items()
        for kind in ("weight", "bias")
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes, inputs = {}, 3
    for layer in LAYERS:
        outputs = min(64 << (int(layer[0]) - 1), 512)
        shapes |= {f"conv{layer}.weight": (outputs, inputs, 3, 3), f"conv{layer}.bias": (outputs,)}
        inputs = outputs
    return shapes


def check_shapes(weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise KeyError or ValueError (both UNREADABLE) where a tensor is missing or another's."""
    for name, shape in shapes.items():
        if (found := tuple(weights[name].shape)) != shape:
            raise ValueError(f"{name} is {found}, not {shape}")


def reason(error: Exception) -> str:
    """What is wrong with a file of weights: the first sentence, since torch's go on for a page."""
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
