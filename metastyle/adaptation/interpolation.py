"""Between networks: convex combinations of their parameters (paper, section 4.4)."""

from collections.abc import Sequence

import torch

from metastyle.config import InputError
from metastyle.core.network import TransformerNet


@torch.no_grad()
def blend(networks: Sequence[TransformerNet], weights: Sequence[float]) -> TransformerNet:
    """The network whose every parameter is the weighted mean of the given ones.

    Args:
        networks: adapted from the same start, at least one, of one precision.
        weights: one per network, non-negative, summing to 1.

    Raises:
        InputError: the weights do not form a convex combination.
    """
    if len(weights) != len(networks) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise InputError(
            f"blend weights {list(weights)}: give one per network, none negative, summing to 1"
        )
    parts = [network.state_dict() for network in networks]
    mixed = TransformerNet().to(next(networks[0].parameters()))
    mixed.load_state_dict(
        {
            name: sum(w * part[name] for w, part in zip(weights, parts, strict=True))
            for name in parts[0]
        }
    )
    return mixed
