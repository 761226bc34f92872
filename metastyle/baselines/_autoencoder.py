"""VGG encoders and the decoders that mirror them, for the methods that transform features."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.baselines._moments import Moments, adain
from metastyle.config import InputError
from metastyle.core.vgg import LAYERS, VGG16, ImageNetInput

Shape = Literal["vgg16", "vgg19"]
Padding = Literal["reflect", "zeros"]
Pool = Literal["max", "average"]

CONVS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # per block
CHANNELS = (64, 128, 256, 512, 512)  # of the blocks
_VGG19_LAYERS = [f"{b}_{c}" for b, n in enumerate(CONVS["vgg19"], 1) for c in range(1, n + 1)]
_FULLY_CONNECTED = (512 * 7 * 7, 4096, 4096, 1000)
_POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def _conv_relu(inputs: int, outputs: int, padding: Padding) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=padding), nn.ReLU()]


class Encoder(nn.Module):
    """Frozen VGG up to relu{blocks}_1; answers with relu1_1, relu2_1, ... relu{blocks}_1.

    `vgg16` has the weights of the given network. `vgg19` has the published shape, and those of
    a file with the names (conv1_1.weight ...) and the input of VGG-16's; without one
    random weights that keep the size of activations: good for counting and timing, not for
    images.

    Raises:
        InputError: the file is missing or is not such a file.
    """

    def __init__(
        self,
        shape: Shape,
        blocks: int,
        vgg: VGG16,
        *,
        padding: Padding = "reflect",
        pool: Pool = "max",
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.normalised = ImageNetInput()
        stages = [nn.Sequential(*_conv_relu(3, CHANNELS[0], padding))]
        for block in range(1, blocks):
            before, after = CHANNELS[block - 1 : block + 1]
            layers: list[nn.Module] = []
            for _ in range(CONVS[shape][block - 1] - 1):
                layers += _conv_relu(before, before, padding)
            stages.append(
                nn.Sequential(*layers, _POOLS[pool](2), *_conv_relu(before, after, padding))
            )
        self.stages = nn.ModuleList(stages)
        for block in range(blocks):
            self.register_buffer(f"unit{block + 1}", torch.ones(CHANNELS[block], 1, 1))
        self._fill(shape, vgg, weights)
        self.requires_grad_(False)

    @torch.no_grad()
    def _fill(self, shape: Shape, vgg: VGG16, weights: Path | None) -> None:
        convs = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        if shape == "vgg19" and weights:
            try:
                tensors = load_file(weights)
                for conv, layer in zip(convs, _VGG19_LAYERS, strict=False):
                    conv.weight.copy_(tensors[f"conv{layer}.weight"])
                    conv.bias.copy_(tensors[f"conv{layer}.bias"])
            except (SafetensorError, KeyError, OSError, RuntimeError) as error:
                raise InputError(f"{weights}: not VGG-19 weights ({error}); correct it") from None
            return
        if shape == "vgg19":
            for conv in convs:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                nn.init.zeros_(conv.bias)
            return
        for conv, layer in zip(convs, LAYERS, strict=False):  # LAYERS may go deeper
            conv.weight.copy_(vgg.get_buffer(f"weight{layer}"))
            conv.bias.copy_(vgg.get_buffer(f"bias{layer}"))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features after the first ReLU of each block, in units of `normalise`.

        Args:
            images: RGB, (N, 3, H, W), in [0, 1] or, half-way through WCT, about so.

        Returns:
            Per block b = 1, 2, ... a (N, C, H / 2^(b-1), W / 2^(b-1)) tensor of values >= 0.

        Raises:
            InputError: the deepest map would be less than two pixels wide.
        """
        height, width = images.shape[-2:]
        if min(height, width) < (least := 2 ** len(self.stages)):
            raise InputError(
                f"image of {height} x {width} pixels: too small; sides need at least {least}"
            )
        x = self.normalised(images)
        features = []
        for block, stage in enumerate(self.stages, start=1):
            x = stage(x)
            features.append(x / self.get_buffer(f"unit{block}"))
        return features


@torch.no_grad()
def normalise(encoder: Encoder, images: Tensor) -> None:
    """The 'normalised VGG' of Gatys et al. 2016: every channel averages 1 over these images.

    Convolution, ReLU and pooling being positively homogeneous, dividing the channels that the
    encoder answers with is the same as rescaling the weights of all its layers.
    """
    for block, features in enumerate(encoder(images), start=1):
        average = features.mean((0, 2, 3)).view(-1, 1, 1)
        encoder.get_buffer(f"unit{block}").mul_(average.where(average > 0, 1))


def unused_layers(shape: Shape, blocks: int) -> nn.Module:
    """What the published classifier has beyond relu{blocks}_1, its FC6 to FC8 included.

    Nothing executes it: it lives on the meta device, where it can be counted for nothing.
    """
    with torch.device("meta"):
        layers: list[nn.Module] = []
        for block in range(blocks - 1, len(CHANNELS)):
            if block >= blocks:
                layers += _conv_relu(CHANNELS[block - 1], CHANNELS[block], "zeros")
            for _ in range(CONVS[shape][block] - 1):
                layers += _conv_relu(CHANNELS[block], CHANNELS[block], "zeros")
        for inputs, outputs in pairwise(_FULLY_CONNECTED):
            layers.append(nn.Linear(inputs, outputs))
        return nn.Sequential(*layers)


def _up(block: int, padding: Padding) -> list[nn.Module]:
    """From relu{block}_1 back to relu{block - 1}_1, as VGG-19 came down."""
    before, after = CHANNELS[block - 1], CHANNELS[block - 2]
    layers = [*_conv_relu(before, after, padding), nn.Upsample(scale_factor=2)]
    for _ in range(CONVS["vgg19"][block - 2] - 1):
        layers += _conv_relu(after, after, padding)
    return layers


@torch.no_grad()
def _initialise(decoder: nn.Module) -> None:
    """He et al.'s way, without which nine layers without norms let a signal fade; the last one
    begins so small that images are about grey."""
    *convs, last = (module for module in decoder.modules() if isinstance(module, nn.Conv2d))
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
    nn.init.xavier_normal_(last.weight, gain=0.02)
    nn.init.constant_(last.bias, 0.5)


def mirror_decoder(blocks: int) -> nn.Sequential:
    """WCT's decoder of relu{blocks}_1 (Li et al. 2017); AdaIN's for blocks = 4.

    Reflection padding, no norm, the last convolution linear: images in about [0, 1]. A stage per
    block, and the last convolution.
    """
    stages = [nn.Sequential(*_up(block, "reflect")) for block in range(blocks, 1, -1)]
    last = nn.Conv2d(CHANNELS[0], 3, 3, padding=1, padding_mode="reflect")
    decoder = nn.Sequential(*stages, last)
    _initialise(decoder)
    return decoder


class SkipDecoder(nn.Module):
    """Avatar-Net's decoder of relu4_1, with AdaIN at relu3_1, 2_1 and 1_1 (Sheng et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(*_up(block, "zeros")) for block in (4, 3, 2))
        self.last = nn.Sequential(*_conv_relu(64, 64, "zeros"), nn.Conv2d(64, 3, 7, padding=3))
        _initialise(self)

    def forward(self, features: Tensor, styles: list[Moments]) -> Tensor:
        """(N, 512, h, w) and the style's moments at relu1_1, 2_1, 3_1 -> (N, 3, 8h, 8w)."""
        for stage, style in zip(self.stages, reversed(styles), strict=True):
            features = adain(stage(features), style)
        return self.last(features)


def normed_decoder() -> nn.Sequential:
    """Style-Swap's decoder of relu3_1 (Chen and Schmidt 2016), affine instance norms; [0, 1]."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        conv, relu = _conv_relu(inputs, outputs, "reflect")
        return [conv, nn.InstanceNorm2d(outputs, affine=True), relu]

    return nn.Sequential(
        *block(256, 128),
        *block(128, 128),
        nn.Upsample(scale_factor=2),
        *block(128, 128),
        *block(128, 128),
        *block(128, 64),
        *block(64, 64),
        nn.Upsample(scale_factor=2),
        *block(64, 64),
        *block(64, 64),
        nn.Conv2d(64, 3, 3, padding=1, padding_mode="reflect"),
        nn.Sigmoid(),
    )


class AutoEncoder(nn.Module):
    """An encoder and a decoder of its deepest features; what lies between is the method's.

    photos: RGB in [0, 1], (N, 3, H, W), over which the encoder is normalised; None: it is not.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module, photos: Tensor | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        if photos is not None:
            normalise(encoder, photos)


@torch.no_grad()
def in_multiples(transform: Callable[[Tensor], Tensor], images: Tensor, multiple: int) -> Tensor:
    """Apply a transform that needs sides divisible by `multiple` to images of any size.

    Sides are padded by reflection, the answer is cropped and clamped to [0, 1]:
    (N, 3, H, W) -> the same shape.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="reflect")
    return transform(padded)[..., :height, :width].clamp(0, 1)
