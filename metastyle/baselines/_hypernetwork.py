"""A network that generates the weights of the transformation network (Shen et al. 2018)."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metastyle.baselines._moments import moments
from metastyle.core.network import TransformerNet
from metastyle.core.vgg import VGG16

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LAYER = "relu3_3"  # one of them
STATISTICS = 2 * (64 + 128 + 256 + 512)


def statistics(features: dict[str, Tensor]) -> Tensor:
    """Channel means, then deviations, layer by layer: features of N images -> (N, 1920)."""
    return torch.cat([m.flatten(1) for k in STYLE_LAYERS for m in moments(features[k])], 1)


@torch.no_grad()
def style_statistics(vgg: VGG16, style: Tensor) -> Tensor:
    """`statistics` of one image: (1, 3, H, W) in [0, 1] -> (1920,)."""
    return statistics(vgg(style, STYLE_LAYERS))[0]


class HyperNetwork(nn.Module):
    """A hidden layer of `width` numbers per 3x3 convolution, and a linear map for each.

    The image network is part of it: its outer 9x9 convolutions and its norms are ordinary
    parameters shared by all styles. Its own 3x3 convolutions stand for the generated ones in
    the count; they are replaced before use and get no gradient.

    known: statistics of paintings, (N, 1920), by whose means and deviations those of a style
        are standardised; None: they are not. All are positive and some are large: as they are, a
        few of Adam's steps move the hidden layer so far that it answers all styles alike.
    """

    def __init__(self, width: int, known: Tensor | None = None) -> None:
        super().__init__()
        mean, deviation = torch.zeros(STATISTICS), torch.ones(STATISTICS)
        if known is not None:
            mean, deviation = known.mean(0), known.std(0).clamp(min=1e-3)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.image_network = TransformerNet()
        self.generated = {
            name: module
            for name, module in self.image_network.named_modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        }
        self.hidden = nn.Linear(STATISTICS, width * len(self.generated))
        self.maps = nn.ModuleList(
            nn.Linear(width, conv.weight.numel() + conv.bias.numel())
            for conv in self.generated.values()
        )

    def forward(self, statistics: Tensor) -> dict[str, Tensor]:
        """Parameters of the 3x3 convolutions, by their names in TransformerNet.

        Args:
            statistics: from `style_statistics`, (1920,).
        """
        standardised = (statistics - self.mean) / self.deviation
        parts = F.relu(self.hidden(standardised)).chunk(len(self.maps))
        parameters = {}
        for (name, conv), linear, part in zip(
            self.generated.items(), self.maps, parts, strict=True
        ):
            weight, bias = linear(part).split([conv.weight.numel(), conv.bias.numel()])
            parameters[f"{name}.weight"] = weight.view_as(conv.weight)
            parameters[f"{name}.bias"] = bias
        return parameters

    @torch.no_grad()
    def network(self, statistics: Tensor) -> TransformerNet:
        """The transformation network of one style, on its own: shared and generated parts."""
        network = deepcopy(self.image_network)
        network.load_state_dict(network.state_dict() | self(statistics))
        return network
