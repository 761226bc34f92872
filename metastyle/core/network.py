"""The image transformation network (paper, section 4.1; Johnson et al. 2016)."""

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.config import Precision
from metastyle.core.convolutions import conv
from metastyle.core.kernels import conv_few_inputs, conv_few_outputs, norm_relu, upsample_conv

ParameterSet = Literal["all", "instance_norm"]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode="reflect")


def _norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [_conv(inputs, outputs, kernel, stride), _norm(outputs), nn.ReLU()]


class Residual(nn.Module):
    """x + (conv, norm, ReLU, conv, norm)(x); no ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(channels, channels, 3), _conv(channels, channels, 3), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class TransformerNet(nn.Module):
    """1,679,235 parameters, 3,200 of them instance-norm scales and shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(3, 32, 9),
            *_block(32, 64, 3, stride=2),
            *_block(64, 128, 3, stride=2),
            *(Residual(128) for _ in range(5)),
            nn.Upsample(scale_factor=2),
            *_block(128, 64, 3),
            nn.Upsample(scale_factor=2),
            *_block(64, 32, 3),
            _conv(32, 3, 9),
        )

    def forward(self, images: Tensor, *, logits: bool = False) -> Tensor:
        """Stylise: RGB in [0, 1], (N, 3, H, W) with sides divisible by 4 -> the same shape.

        With `logits`, what the last convolution answers, before the sigmoid.
        """
        answer = self.layers(images)
        return answer if logits else torch.sigmoid(answer)


def new_network(seed: int) -> TransformerNet:
    """A network with PyTorch's default initialisation, drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TransformerNet()


@cache
def parameter_names(which: ParameterSet) -> list[str]:
    """Names of TransformerNet's parameters, or of its instance-norm scales and shifts only."""
    with torch.device("meta"):
        network = TransformerNet()
    return [
        f"{prefix}.{name}"
        for prefix, module in network.named_modules()
        if which == "all" or isinstance(module, nn.InstanceNorm2d)
        for name, _ in module.named_parameters(recurse=False)
    ]


def transform(
    parameters: dict[str, Tensor],
    images: Tensor,
    *,
    precision: Precision | None = None,
    seen: list[Tensor] | None = None,
) -> Tensor:
    """TransformerNet's logits as a function of its parameters, for training.

    Made of the quicker `kernels`. The bias before an instance norm, which subtracts it again,
    is left out: its gradient is exactly zero here, where rounding makes the module's a small
    random number that Adam would turn into full steps.

    Args:
        parameters: by name, as `TransformerNet.named_parameters` has them.
        images: RGB in [0, 1], (N, 3, H, W), sides divisible by 4; they get no gradient.
        precision: of the convolutions; that of the parameters if None.
        seen: where given, what every instance norm sees and then the last hidden layer is added
            to it, (N, C, h, w) each.
    """
    seen = [] if seen is None else seen
    dtype = getattr(torch, precision) if precision else None
    by = {"border": 1, "dtype": dtype}

    def norm(x: Tensor, name: str, *, relu: bool = True) -> Tensor:
        seen.append(x)
        return norm_relu(x, *of(name), relu=relu)

    def of(name: str) -> tuple[Tensor, Tensor]:
        return parameters[f"layers.{name}.weight"], parameters[f"layers.{name}.bias"]

    def kernel(name: str) -> Tensor:
        return of(name)[0]

    x = norm(conv_few_inputs(images, kernel("0"), dtype=dtype), "1")
    x = norm(conv(x, kernel("3"), stride=2, **by), "4")
    x = norm(conv(x, kernel("6"), stride=2, **by), "7")
    for block in range(9, 14):
        y = norm(conv(x, kernel(f"{block}.body.0"), **by), f"{block}.body.1")
        x = x + norm(conv(y, kernel(f"{block}.body.3"), **by), f"{block}.body.4", relu=False)
    x = norm(upsample_conv(x, kernel("15"), dtype=dtype), "16")
    x = norm(upsample_conv(x, kernel("19"), dtype=dtype), "20")
    seen.append(x)
    last, bias = of("22")
    return conv_few_outputs(x, last, dtype=dtype) + bias.view(-1, 1, 1)


@torch.no_grad()
def stylise(network: nn.Module, images: Tensor) -> Tensor:
    """Stylise images of any size: (N, 3, H, W) in [0, 1] -> exactly the same shape.

    The network halves the image twice, so sides are padded by reflection to multiples of 4
    and the result is cropped. Sides need at least 16 pixels (`images.decode` sees to it).
    """
    height, width = images.shape[-2:]
    device = next(network.parameters()).device
    padded = F.pad(images.to(device), (0, -width % 4, 0, -height % 4), mode="reflect")
    return network(padded)[..., :height, :width]
