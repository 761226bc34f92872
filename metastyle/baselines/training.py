"""Training what methods train once for all styles, with a state that survives a kill."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from metastyle.baselines import Trainable
from metastyle.baselines._pretrained import Pretrained, assemble, kept_state
from metastyle.config import CropSide, InputError, Section
from metastyle.core import cache, crops
from metastyle.core.checkpoint import FINEST
from metastyle.core.crops import Augmentation, derive_seed
from metastyle.core.vgg import VGG16


class Run(Section):
    """One training, `pretrain.runs.<method>`.

    photos, paintings: how many in a batch. style_every: so many iterations have the same
    paintings. weights: of the loss's terms, by their names in the method's `training_terms`.
    levels: to which the filters of the result are rounded, see `checkpoint.compact`.
    """

    iterations: PositiveInt
    size: CropSide  # pixels, side of the crops
    photos: PositiveInt
    paintings: NonNegativeInt
    style_every: PositiveInt = 1
    learning_rate: PositiveFloat  # of Adam
    warmup: NonNegativeInt
    decay: NonNegativeFloat
    weights: dict[str, NonNegativeFloat]
    levels: Annotated[int, Field(ge=1, le=FINEST)] = FINEST


class Pretraining(Section):
    """Section `pretrain`: what the runs share.

    normalised_over: photos (Shen's: paintings) over whose crops encoders are normalised; of fewer,
        all.
    fitted_over: photos, of fewer all, over whose crops mirrored decoders are fitted to begin with;
        null: their start is random.
    average: the result is a running mean of the weights, of which an iteration keeps so much;
        0: the last weights.
    """

    seed: int
    photos: Augmentation
    paintings: Augmentation
    normalised_over: PositiveInt
    fitted_over: PositiveInt | None
    average: Annotated[float, Field(ge=0, lt=1)]
    checkpoint_minutes: NonNegativeFloat
    runs: dict[str, Run]


@dataclass
class State:
    """How far a training has come. mean: of the weights, by name; log: a row per iteration, see
    `columns`; parameters: those of the network that are trained."""

    network: nn.Module
    parameters: dict[str, Tensor]
    optimiser: torch.optim.Adam
    mean: dict[str, Tensor]
    log: list[list[float]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Of the last iteration."""
        return self.log[-1][1] if self.log else float("nan")


def learning_rate(iteration: int, run: Run) -> float:
    """Linear warm-up, then learning_rate / (1 + decay * iteration); iterations from 1.

    It does not know where the run ends, so that one for more iterations can go on from it.
    """
    warm = min(1.0, iteration / run.warmup) if run.warmup else 1.0
    return warm * run.learning_rate / (1 + run.decay * iteration)


def draw(
    iteration: int,
    run: Run,
    settings: Pretraining,
    photos: Sequence[Path],
    paintings: Sequence[Path],
) -> tuple[Tensor, Tensor]:
    """Crops of an iteration's photos and paintings, a function of the seed and the iteration;
    the paintings (none: an empty tensor) stay for `style_every` iterations."""
    seed = derive_seed(settings.seed, "photos", iteration)
    contents = crops.batch(photos, run.photos, run.size, settings.photos, seed)
    if run.paintings == 0:
        return contents, contents[:0]
    seed = derive_seed(settings.seed, "paintings", (iteration - 1) // run.style_every)
    return contents, crops.batch(paintings, run.paintings, run.size, settings.paintings, seed)


def pretraining(
    method: Trainable,
    settings: Pretrained,
    run: Run,
    shared: Pretraining,
    vgg: VGG16,
    photos: Sequence[Path],
    paintings: Sequence[Path],
    *,
    folder: Path | None = None,
) -> Iterator[State]:
    """Minimise the weighted sum of a method's `training_terms` by Adam.

    Args:
        settings: the method's. shared: what the runs have in common.
        photos, paintings: files of the training split.
        folder: see `cache.cache_folder`. The state is written there every `checkpoint_minutes`
            and at the end and read at the start, so that the same call after a kill ends with the
            same weights, and one for more iterations goes on from a finished one.

    Yields:
        The state as it was found, and after each iteration; always the same object, whose
        network has the mean of the weights once the last iteration is done.

    Raises:
        InputError: the state has gone further than is asked for, or the encoder is VGG-19
            without weights.
        ValueError: the loss is not finite, or the terms are not those that have weights.
    """
    if getattr(settings, "encoder", None) == "vgg19" and settings.vgg19 is None:
        raise InputError(
            f"{method.__name__}: an encoder `vgg19` needs its weights; name their file under "
            "`vgg19`, or choose `vgg16`"
        )
    state = new_state(method, settings, run, shared, vgg, photos, paintings)
    file = None
    if folder:
        # Where it ends and how it is stored does not decide how it goes.
        open_ended = run.changed(iterations=1, levels=FINEST)
        common = shared.changed(runs={}, checkpoint_minutes=0.0)
        decides = [settings.of_training(), open_ended, common, vgg, [*photos], [*paintings]]
        name = cache.key(*decides, by=[__name__, method.__name__])
        file = folder / "pretrain" / name / "state.safetensors"
    if file and file.is_file():
        load(file, state)
    elif shared.fitted_over and hasattr(method, "start"):
        seed = derive_seed(shared.seed, "fitted over")
        count = min(shared.fitted_over, len(photos))
        fitted = crops.batch(photos, count, run.size, shared.photos, seed)
        method.start(state.network, fitted.to(vgg.device))
        state.mean = {name: p.detach().clone() for name, p in state.parameters.items()}
    if len(state.log) > run.iterations:
        raise InputError(
            f"{file}: has gone {len(state.log)} iterations; ask for as many under pretrain.runs, "
            "or remove it"
        )
    yield state
    saved = time.monotonic()
    while len(state.log) < run.iterations:
        contents, styles = draw(len(state.log) + 1, run, shared, photos, paintings)
        contents, styles = contents.to(vgg.device), styles.to(vgg.device)
        terms = method.training_terms(state.network, settings, vgg, contents, styles)
        iterate(state, terms, run, shared)
        late = time.monotonic() - saved >= 60 * shared.checkpoint_minutes
        done = len(state.log) == run.iterations
        if file and (late or done):
            save(file, state)
            saved = time.monotonic()
        if not done:
            yield state
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(state.mean[name])
    yield state


def new_state(
    method: Trainable,
    settings: Pretrained,
    run: Run,
    shared: Pretraining,
    vgg: VGG16,
    photos: Sequence[Path],
    paintings: Sequence[Path],
) -> State:
    """A network before its first iteration, normalised over crops of the training split."""
    seed = derive_seed(shared.seed, "normalised over")
    side = getattr(method, "NORMALISED_BY", "photos")
    both = {"photos": (photos, shared.photos), "paintings": (paintings, shared.paintings)}
    files, augmentation = both[side]
    count = min(shared.normalised_over, len(files))
    seen = crops.batch(files, count, run.size, augmentation, seed).to(vgg.device)
    network = assemble(lambda: method.new_network(settings, vgg, seen), settings, vgg.device)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimiser = torch.optim.Adam(parameters.values(), lr=run.learning_rate, fused=True)
    mean = {name: p.detach().clone() for name, p in parameters.items()}
    return State(network, parameters, optimiser, mean)


def iterate(state: State, terms: dict[str, Tensor], run: Run, shared: Pretraining) -> None:
    """One step of Adam on the weighted sum of terms; changes the state."""
    iteration = len(state.log) + 1
    if set(terms) != set(run.weights):
        raise ValueError(f"weights of {sorted(run.weights)} for terms {sorted(terms)}")
    loss = torch.stack([run.weights[name] * term for name, term in terms.items()]).sum()
    if not loss.isfinite():
        raise ValueError(f"the loss is {loss.item()} at iteration {iteration}")
    state.optimiser.zero_grad()
    loss.backward()
    state.optimiser.param_groups[0]["lr"] = learning_rate(iteration, run)
    state.optimiser.step()
    with torch.no_grad():  # at first the mean of all weights so far
        new = 1 - min(shared.average, 1 - 1 / iteration)
        torch._foreach_lerp_([*state.mean.values()], [*state.parameters.values()], new)
    state.log.append([iteration, loss.item(), *(terms[name].item() for name in run.weights)])


def pretrain(*given, **options) -> State:
    """The state that `pretraining` ends with."""
    for state in pretraining(*given, **options):
        last = state
    return last


def log(state: State, run: Run) -> pd.DataFrame:
    """A row per iteration: iteration, loss, and its terms without weights."""
    return pd.DataFrame(state.log, columns=columns(run)).astype({"iteration": int})


def columns(run: Run) -> list[str]:
    """Of the log."""
    return ["iteration", "loss", *run.weights]


def result(
    method: Trainable,
    network: nn.Module,
    settings: Pretrained,
    vgg: VGG16,
    styles: Sequence[Tensor],
    levels: int,
) -> dict[str, Tensor]:
    """What is kept of a trained network: its own state, or what it generates for styles where
    the method has a function `generate`."""
    if hasattr(method, "generate"):
        return method.generate(network, settings, vgg, styles, levels)
    return kept_state(network, levels)


def restore(method: Trainable, settings: Pretrained, weights: Path, vgg: VGG16) -> nn.Module:
    """The trained network of a method that keeps its own state.

    Raises:
        InputError: the file is missing or holds something else.
    """
    settings = settings.changed(weights=weights)
    return assemble(lambda: method.new_network(settings, vgg), settings, vgg.device)


def save(file: Path, state: State) -> None:
    """Write a state, atomically."""
    run = {"log": torch.tensor(state.log, dtype=torch.float64)}
    cache.save_state(file, state.parameters, state.optimiser, {"run": run, "mean": state.mean})


@torch.no_grad()
def load(file: Path, state: State) -> None:
    """Set a state to what `save` wrote."""
    parts = cache.load_state(file, state.parameters, state.optimiser)
    state.log = parts["run"]["log"].tolist()
    for name, tensor in parts["mean"].items():
        state.mean[name].copy_(tensor)
