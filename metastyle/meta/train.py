"""Meta-training: the outer loop of Algorithm 1, with states that survive a kill."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from metastyle.core import cache
from metastyle.core.gradients import Parameters
from metastyle.core.losses import REPORT, PerceptualLoss
from metastyle.core.network import TransformerNet, new_network, parameter_names
from metastyle.meta.bilevel import Directions, Outcome, directions, meta_gradient
from metastyle.meta.loader import Images, MetaTraining, draw_tasks, phase_at

COLUMNS = [
    "iteration",  # counted from 1
    *REPORT,  # of the outer loss after the inner steps, means over styles
    "gradient_norm",  # of the whole meta-gradient, before clipping
    "learning_rate",
    "inner_learning_rate",  # delta
    "support_change",  # what the inner steps change, relative, of the loss of their own batch
    "query_change",  # and of the outer loss; means over styles
    *Directions._fields,  # every `cosines_every` iterations
]


@dataclass
class State:
    """How far a run has come. theta: the initialisation; average: the mean of the last ones so
    far; log: a row of COLUMNS per iteration; snapshots: earlier networks by iteration; seconds:
    what the iterations took, in all the processes that a resumed run is made of."""

    theta: Parameters
    optimiser: torch.optim.Adam
    average: Parameters = field(default_factory=dict)
    log: list[list[float]] = field(default_factory=list)
    snapshots: dict[int, Parameters] = field(default_factory=dict)
    seconds: float = 0.0


class Result(NamedTuple):
    """The style-neutral network, its log (columns COLUMNS) and earlier networks by iteration.

    The network is the mean over the last `average_last` iterations, the last one if that is 0.
    """

    network: TransformerNet
    log: pd.DataFrame
    snapshots: dict[int, Parameters]
    seconds: float


def learning_rate(iteration: int, settings: MetaTraining) -> float:
    """Linear warm-up, then learning_rate / (1 + decay * iteration); iterations from 1."""
    warm = min(1.0, iteration / settings.warmup) if settings.warmup else 1.0
    return warm * settings.learning_rate / (1 + settings.decay * iteration)


def style_share(iteration: int, settings: MetaTraining) -> float:
    """Share of the style weight, ramped up linearly over `style_warmup` iterations.

    Our addition: a random network that first learns to keep the content does not paint
    large saturated patches, which later updates cannot bring back.
    """
    return min(1.0, iteration / settings.style_warmup) if settings.style_warmup else 1.0


def new_state(
    settings: MetaTraining, device: torch.device, start: TransformerNet | None = None
) -> State:
    """Before the first iteration, with `start` or PyTorch's default initialisation."""
    network = (start or new_network(settings.seed)).to(device)
    theta = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}
    state = State(theta, torch.optim.Adam(theta.values(), lr=settings.learning_rate))
    if 0 in settings.snapshots:
        state.snapshots[0] = _copy(theta)
    return state


def iterate(
    state: State,
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    computed: PerceptualLoss,
) -> None:
    """One iteration of Algorithm 1; changes the state.

    Args:
        loss: of which the paintings' Gram matrices are. computed: the same in the precision of
            the training.

    Raises:
        RuntimeError: the gradient is not finite.
    """
    s, iteration = settings, len(state.log) + 1
    phase, tasks = phase_at(iteration, s), draw_tasks(iteration, images, s, loss)
    weight = style_share(iteration, s) * loss.settings.style_weight
    given = state.theta, tasks, computed.changed(style_weight=weight).of_parameters
    options = {"delta": phase.inner_learning_rate, "inner": parameter_names(s.inner_parameters)}
    options["clip"] = phase.inner_clip
    gradient, outcomes = meta_gradient(*given, order=phase.order, probe=True, **options)
    for name, tensor in state.theta.items():
        tensor.grad = gradient[name]
    limit = s.clip_norm if s.clip_norm is not None else float("inf")
    norm = torch.nn.utils.clip_grad_norm_(state.theta.values(), limit, error_if_nonfinite=True)
    compared = Directions(*[float("nan")] * 3)
    if s.cosines_every and phase.inner_steps and iteration % s.cosines_every == 0:
        compared = directions(*given, **options)
    rate = state.optimiser.param_groups[0]["lr"] = learning_rate(iteration, s)
    state.optimiser.step()

    averaged = iteration - max(0, s.iterations - s.average_last)
    for name, tensor in state.theta.items() if averaged > 0 else ():
        if averaged == 1:
            state.average[name] = tensor.detach().clone()
        else:
            state.average[name] += (tensor.detach() - state.average[name]) / averaged
    report = torch.stack([outcome.report for outcome in outcomes]).mean(0).tolist()
    rates = [norm.item(), rate, phase.inner_learning_rate]
    changes = [_change(outcomes, "support"), _change(outcomes, "query")]
    state.log.append([iteration, *report, *rates, *changes, *compared])
    if iteration in s.snapshots:
        state.snapshots[iteration] = _copy(state.theta)


def _change(outcomes: list[Outcome], batch: str) -> float:
    """Mean over styles of a loss after the inner steps over that before, less 1."""
    pairs = [getattr(outcome, batch) for outcome in outcomes]
    known = [after / before - 1 for before, after in filter(None, pairs)]
    return sum(known) / len(known) if known else float("nan")


def training(
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    *,
    start: TransformerNet | None = None,
    folder: Path | None = None,
) -> Iterator[State]:
    """Minimise the outer loss by Adam, going on from a state where there is one.

    Every random choice is a function of (seed, iteration), so that a run in pieces ends with the
    weights of one without a break.

    Args:
        start: the network to begin with; None: a random one.
        folder: see `cache.cache_folder`; the state is written there every `checkpoint_minutes`
            and at the end. None: none is.

    Yields:
        The state as it was found, and after each iteration; always the same object.
    """
    s = settings
    state, computed = new_state(s, loss.device, start), loss.to_precision(s.precision)
    file = folder / key(s, images, loss, start) / "state.safetensors" if folder else None
    if file and file.is_file():
        load(file, state)
    yield state
    saved = time.monotonic()
    while len(state.log) < s.iterations:
        begun = time.monotonic()
        iterate(state, s, images, loss, computed)
        now = time.monotonic()
        state.seconds += now - begun
        if file and (now - saved >= 60 * s.checkpoint_minutes or len(state.log) == s.iterations):
            save(file, state)
            saved = now
        yield state


def meta_train(
    settings: MetaTraining, images: Images, loss: PerceptualLoss, **options: Any
) -> Result:
    """The result of `training`."""
    for state in training(settings, images, loss, **options):
        last = state
    return result(last)


def result(state: State) -> Result:
    """What a finished run leaves."""
    network = new_network(0).to(next(iter(state.theta.values())).device)
    network.load_state_dict(state.average or state.theta)
    log = pd.DataFrame(state.log, columns=COLUMNS).astype({"iteration": int})
    return Result(network, log, state.snapshots, state.seconds)


def key(
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    start: TransformerNet | None = None,
) -> str:
    """Name of a run's state: its settings, images, VGG, start and the code that computes it."""
    # How often the state is saved does not change the result.
    shared = settings.changed(checkpoint_minutes=0.0)
    files = [list(group) for group in images]
    decides = [shared, loss.settings, files, loss.vgg, loss.device.type, start]
    return cache.key(*decides, by=[__name__])


def save(file: Path, state: State) -> None:
    """Write a state, atomically."""
    kept = {f"snapshot {iteration}": found for iteration, found in state.snapshots.items()}
    run = {"log": torch.tensor(state.log, dtype=torch.float64)}
    run["seconds"] = torch.tensor(state.seconds, dtype=torch.float64)
    parts = {"run": run, "average": state.average, **kept}
    cache.save_state(file, state.theta, state.optimiser, parts)


def load(file: Path, state: State) -> None:
    """Set a state to what `save` wrote."""
    parts = cache.load_state(file, state.theta, state.optimiser)
    state.log = parts["run"]["log"].tolist()
    state.seconds = parts["run"]["seconds"].item()
    average = parts.get("average", {})
    state.average = {name: t.to(state.theta[name].device) for name, t in average.items()}
    state.snapshots = {
        int(name.removeprefix("snapshot ")): found
        for name, found in parts.items()
        if name.startswith("snapshot ")
    }


def _copy(theta: Parameters) -> Parameters:
    return {name: tensor.detach().clone().cpu() for name, tensor in theta.items()}
