"""Networks that methods train once for all styles: built, and restored from what was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from metastyle.config import ImageSide, InputError, Section
from metastyle.core.checkpoint import compact, load_weights

Network = TypeVar("Network", bound=nn.Module)


class Pretrained(Section):
    """What the sections of such methods have in common."""

    weights: Path | None = None  # what was trained; None: random ones, for counting and timing
    seed: int = 0  # of the random ones
    style_size: ImageSide  # pixels, shorter side of the painting
    vgg19: Path | None = None  # weights of an encoder `vgg19`, see autoencoders.Encoder

    def of_training(self) -> dict:
        """What decides the training; the rest is for making images, and may change after it."""
        return self.model_dump(mode="json", exclude={"weights", "style_size", "alpha"})


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """Everything of a network but its frozen parameters (VGG's), which need not be stored."""
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    return {name: t for name, t in network.state_dict().items() if name not in frozen}


def kept_state(network: nn.Module, levels: int) -> dict[str, Tensor]:
    """`trained_state` as results hold it: parameters `compact`, an encoder's averages as they
    are (the smallest would vanish)."""
    parameters = {name for name, _ in network.named_parameters()}
    state = trained_state(network)
    small = compact({name: t for name, t in state.items() if name in parameters}, levels)
    return small | {name: t for name, t in state.items() if name not in parameters}


def assemble(
    new: Callable[[], Network], settings: Pretrained, device: torch.device | str
) -> Network:
    """Make a network on a device and, where `settings.weights` says so, restore it.

    Raises:
        InputError: the file is missing or holds something else.
    """
    with torch.device(device), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = new()
    if settings.weights is not None:
        tensors = load_weights(settings.weights)
        expected = {name: t.shape for name, t in trained_state(network).items()}
        if {name: t.shape for name, t in tensors.items()} != expected:
            raise InputError(f"{settings.weights}: weights of another network; choose another")
        network.load_state_dict(tensors, strict=False)
    return network


def count(*modules: nn.Module) -> int:
    """Parameters of modules, frozen ones included."""
    return sum(p.numel() for module in modules for p in module.parameters())
