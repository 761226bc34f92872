"""A meta-training of milliseconds, for tests; under torchrun a program of its own.

    torchrun ... tests/small_training.py FOLDER [ITERATION]

goes on from FOLDER/state.safetensors and writes it; in the first of its lives the second rank
kills itself (SIGKILL) after ITERATION.
"""

import copy
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call

from metastyle.core import images
from metastyle.core.crops import Augmentation
from metastyle.core.kernels import gram
from metastyle.core.network import TransformerNet, new_network, transform
from metastyle.meta.distributed import ALONE, Ranks, joined
from metastyle.meta.loader import Images, MetaTraining, contents, draw_crops, phase_at
from metastyle.meta.step import Step
from metastyle.meta.train import State, new_state, training

STATE = "state.safetensors"


class SmallLoss:
    """Nearness to photos and to a Gram matrix of the painting, where a PerceptualLoss may be."""

    device = torch.device("cpu")

    def __init__(self, network: nn.Module) -> None:
        self.network, self.share = network, 1.0

    def to_precision(self, _):
        return self

    def with_style_share(self, share):
        other = copy.copy(self)
        other.share = share
        return other

    def outputs(self, parameters, photos):
        if isinstance(self.network, TransformerNet):
            return torch.sigmoid(transform(parameters, photos))
        return functional_call(copy.deepcopy(self.network), parameters, (photos,))

    def style(self, painting):
        return gram(painting.to(next(self.network.parameters()).dtype))[0]

    def of_parameters(self, parameters, style, photos):
        photos = photos.to(style.dtype)
        outputs = self.outputs(parameters, photos)
        terms = (
            (outputs - photos).square().mean(),
            (gram(outputs) - style).square().sum((1, 2)).mean(),
        )
        total = terms[0] + 30 * self.share * terms[1]
        return total, torch.stack([total, *terms, *[total * 0] * 3]).detach()


def small_network() -> nn.Module:
    """Of 127 parameters, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1)
        return nn.Sequential(*layers).double()


def settings(**changes) -> MetaTraining:
    varied = Augmentation(scale=(0.3, 1), brightness=(0.8, 1.3), contrast=0.1, hue=0.1)
    phases = [
        {"iterations": 6, "size": 16, "inner_steps": 0},
        {"iterations": 7, "size": 16, "inner_steps": 1, "inner_learning_rate": 0.1},
        {"iterations": 7, "size": 20, "inner_steps": 2, "inner_learning_rate": 0.1},
    ]
    given = {
        "seed": 0, "phases": phases, "styles_per_iteration": 5, "contents_per_batch": 2,
        "inner_parameters": "all", "learning_rate": 1e-2, "warmup": 4, "style_warmup": 8,
        "decay": 0.01, "clip_norm": 0.05, "average_last": 5, "photos": varied, "artworks": varied,
        "snapshots": [0, 10], "cosines_every": 4, "checkpoint_minutes": 0.0,
    }  # fmt: skip
    return MetaTraining(**given | changes)


def small_images(folder: Path) -> Images:
    """Made where they are not."""
    files = [folder / f"{k:02d}.png" for k in range(17)]
    for k, file in enumerate(files):
        if not file.is_file():
            images.save(file, torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(k)))
    return Images(files[:5], files[5:10], files[10:])


def train(folder: Path, ranks: Ranks = ALONE, **options) -> State:
    """The state after the last iteration."""
    network = small_network()
    loss, found = SmallLoss(network), small_images(folder)
    for state in training(settings(), found, loss, start=network, ranks=ranks, **options):
        last = state
    return last


def first_gradient(folder: Path, ranks: Ranks = ALONE, iteration: int = 8) -> torch.Tensor:
    """The sum over styles, with two inner steps."""
    s, network = settings(), small_network()
    loss, state = SmallLoss(network), new_state(s, torch.device("cpu"), network)
    styles = ranks.styles(s.styles_per_iteration)
    given = contents(draw_crops(iteration, small_images(folder), s, styles), s, loss.device)
    step = Step(state.theta, state.optimiser, s, loss, loss, ranks)
    return step.gradient(given, phase_at(iteration, s), 0.7)


def real_network(folder: Path, ranks: Ranks = ALONE) -> State:
    """Two steps of the real network in float32."""
    phases = [{"iterations": 2, "size": 16, "inner_steps": 1, "inner_learning_rate": 1e-3}]
    s = settings(phases=phases, styles_per_iteration=4, warmup=0, cosines_every=0)
    loss, found = SmallLoss(new_network(0)), small_images(folder)
    for state in training(s, found, loss, start=new_network(0), ranks=ranks):
        last = state
    return last


def main(folder: str, kill_after: int = -1) -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        network = small_network()
        options = {"start": network, "file": Path(folder) / STATE, "ranks": ranks}
        first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        loss, found = SmallLoss(network), small_images(Path(folder))
        for state in training(settings(), found, loss, **options):
            if first_life and ranks.rank == 1 and len(state.log) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
