"""Between styles: convex combinations of adapted networks (paper, section 4.4, figure 5a)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from metastyle.errors import InputError
from metastyle.params import ImageSide, Probability, Section
from metastyle.transformer import TransformerNet


class Interpolation(Section):
    """Section `interpolation`."""

    styles: tuple[NonNegativeInt, NonNegativeInt]
    weights: Annotated[list[Probability], Field(min_length=2)]
    photos: PositiveInt
    size: ImageSide


@torch.no_grad()
def blend(networks: Sequence[TransformerNet], weights: Sequence[float]) -> TransformerNet:
    """The network whose every parameter is the weighted mean of the given ones.

    Args:
        networks: adapted from the same start, at least one.
        weights: one per network, non-negative, summing to 1.

    Raises:
        InputError: the weights do not form a convex combination.
    """
    if len(weights) != len(networks) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise InputError(
            f"blend weights {list(weights)}: give one per network, none negative, summing to 1"
        )
    parts = [network.state_dict() for network in networks]
    mixed = TransformerNet().to(next(networks[0].parameters()).device)
    mixed.load_state_dict(
        {
            name: sum(w * part[name] for w, part in zip(weights, parts, strict=True))
            for name in parts[0]
        }
    )
    return mixed
