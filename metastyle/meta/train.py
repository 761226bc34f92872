"""Meta-training: the outer loop of Algorithm 1, with states that survive a kill.

`python -m metastyle.meta.train params.yaml` is the command for machines without the pipeline, see
`meta.command`; under torchrun it is several processes at one training.
"""

import math
import runpy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from metastyle.core import cache, capture, device
from metastyle.core.checkpoint import load_info
from metastyle.core.gradients import Parameters
from metastyle.core.losses import REPORT, PerceptualLoss
from metastyle.core.network import TransformerNet, new_network
from metastyle.files import write_table
from metastyle.meta.bilevel import Directions
from metastyle.meta.distributed import ALONE, Ranks
from metastyle.meta.loader import Drawn, Images, MetaTraining, contents, iterations, phase_at
from metastyle.meta.step import Step, Told

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
    """How far a run has come.

    theta: the initialisation. average: the mean of the last ones so far. log: a row of COLUMNS per
    iteration. snapshots: earlier networks by iteration. seconds: what the iterations took, in all
    the pieces that a resumed run is made of. machines: by which they were made, see `made_on`.
    about: what else is written beside the state.
    """

    theta: Parameters
    optimiser: torch.optim.Adam
    average: Parameters = field(default_factory=dict)
    log: list[list[float]] = field(default_factory=list)
    snapshots: dict[int, Parameters] = field(default_factory=dict)
    seconds: float = 0.0
    machines: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def made_on(self, machine: dict[str, Any]) -> None:
        """Note who made the last iteration: entries have the machine and its `first` and `last`."""
        iteration = len(self.log)
        if not self.machines or not machine.items() <= self.machines[-1].items():
            self.machines.append({**machine, "first": iteration})
        self.machines[-1]["last"] = iteration


class Result(NamedTuple):
    """The style-neutral network, its log (columns COLUMNS), earlier networks by iteration, what
    it took and the machines that made it (`State.made_on`).

    The network is the mean over the last `average_last` iterations, the last one if that is 0.
    """

    network: TransformerNet
    log: pd.DataFrame
    snapshots: dict[int, Parameters]
    seconds: float
    machines: list[dict[str, Any]]


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
    settings: MetaTraining, on: torch.device, start: TransformerNet | None = None
) -> State:
    """Before the first iteration, with `start` or PyTorch's default initialisation."""
    network = (start or new_network(settings.seed)).to(on)
    theta = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}
    state = State(theta, capture.adam(theta.values(), settings.learning_rate))
    if 0 in settings.snapshots:
        state.snapshots[0] = _copy(theta)
    return state


def iterate(
    state: State, drawn: list[Drawn], settings: MetaTraining, step: Step, *, flag: bool = False
) -> Told:
    """One iteration of Algorithm 1; changes the state.

    Args:
        drawn: the crops of this process's styles.
        step: of this state.
        flag: what this process has to tell the others.

    Raises:
        Diverged: the gradient is not finite; the state is as it was.
    """
    s, iteration = settings, len(state.log) + 1
    phase, share = phase_at(iteration, s), style_share(iteration, s)
    given = contents(drawn, s, step.device)
    whole = step.gradient(given, phase, share, flag=flag)
    compared = Directions(*[float("nan")] * 3)
    if s.cosines_every and phase.inner_steps and iteration % s.cosines_every == 0:
        compared = step.directions(given, phase, share)
    rate = learning_rate(iteration, s)
    told = step.update(whole, rate)

    averaged = iteration - max(0, s.iterations - s.average_last)
    for name, tensor in state.theta.items() if averaged > 0 else ():
        if averaged == 1:
            state.average[name] = tensor.detach().clone()
        else:
            state.average[name] += (tensor.detach() - state.average[name]) / averaged
    rates = [told.norm, rate, phase.inner_learning_rate]
    changes = [told.support_change, told.query_change]
    state.log.append([iteration, *told.report, *rates, *changes, *compared])
    if iteration in s.snapshots:
        state.snapshots[iteration] = _copy(state.theta)
    return told


def training(
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    *,
    start: TransformerNet | None = None,
    folder: Path | None = None,
    file: Path | None = None,
    about: dict[str, str] | None = None,
    minutes: float = math.inf,
    ranks: Ranks = ALONE,
) -> Iterator[State]:
    """Minimise the outer loss by Adam, going on from a state where there is one.

    Every random choice is a function of (seed, iteration), so that a run in pieces ends with the
    weights of one without a break.

    Args:
        start: the network to begin with; None: a random one.
        folder: see `cache.cache_folder`; the state is written there every `checkpoint_minutes`
            and at the end, and read at the beginning. None: none is, unless `file` names one.
        about: what is written beside it.
        minutes: after which the run ends, at least an iteration later.
        ranks: the processes at work, all of which call this alike; the first reads and writes.

    Yields:
        The state as it was found, and after each iteration; always the same object.
    """
    s, begun = settings, time.monotonic()
    state, computed = new_state(s, loss.device, start), loss.to_precision(s.precision)
    if folder and not file:
        file = folder / key(s, images, loss, start) / "state.safetensors"
    ranks.read(file, lambda found: load(found, state))
    state.about = about or state.about
    yield state
    step = Step(state.theta, state.optimiser, s, loss, computed, ranks)
    first, styles = len(state.log) + 1, ranks.styles(s.styles_per_iteration)
    batches, saved = iterations(images, s, first=first, styles=styles), time.monotonic()
    machine = {**device.described(), "precision": s.precision, "processes": ranks.size}
    stops = len(state.log) == s.iterations
    while not stops:
        before = time.monotonic()
        late = ranks.first and before - begun >= 60 * minutes
        told = iterate(state, next(batches), s, step, flag=late)
        now = time.monotonic()
        state.seconds += now - before
        state.made_on(machine)
        stops = len(state.log) == s.iterations or told.flags > 0
        if file and ranks.first and (stops or now - saved >= 60 * s.checkpoint_minutes):
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
    return Result(network, log(state), state.snapshots, state.seconds, state.machines)


def log(state: State) -> pd.DataFrame:
    """A row of COLUMNS per iteration."""
    return pd.DataFrame(state.log, columns=COLUMNS).astype({"iteration": int})


def decides(settings: MetaTraining) -> MetaTraining:
    """The settings without those that do not change the result, set to any value."""
    return settings.changed(checkpoint_minutes=0.0, workers=0, processes=1)


def key(
    settings: MetaTraining,
    images: Images,
    loss: PerceptualLoss,
    start: TransformerNet | None = None,
) -> str:
    """Name of a run's state: its settings, images, VGG, start and the code that computes it."""
    files = [list(group) for group in images]
    given = [decides(settings), loss.settings, files, loss.vgg, loss.device.type, start]
    return cache.key(*given, by=["metastyle.meta.train"])


def save(file: Path, state: State) -> None:
    """Write a state and, beside it, its log as CSV; each of them atomically."""
    kept = {f"snapshot {iteration}": found for iteration, found in state.snapshots.items()}
    run = {"log": torch.tensor(state.log, dtype=torch.float64)}
    run["seconds"] = torch.tensor(state.seconds, dtype=torch.float64)
    parts = {"run": run, "average": state.average, **kept}
    info = {"machines": state.machines, "about": state.about}
    cache.save_state(file, state.theta, state.optimiser, parts, info)
    write_table(file.with_suffix(".csv"), log(state), float_format="%.6g")


def load(file: Path, state: State) -> None:
    """Set a state to what `save` wrote."""
    parts = cache.load_state(file, state.theta, state.optimiser)
    state.log = parts["run"]["log"].tolist()
    state.seconds = parts["run"]["seconds"].item()
    info = load_info(file)
    state.machines, state.about = info.get("machines", []), info.get("about", {})
    average = parts.get("average", {})
    state.average = {name: t.to(state.theta[name].device) for name, t in average.items()}
    state.snapshots = {
        int(name.removeprefix("snapshot ")): found
        for name, found in parts.items()
        if name.startswith("snapshot ")
    }


def _copy(theta: Parameters) -> Parameters:
    return {name: tensor.detach().clone().cpu() for name, tensor in theta.items()}


if __name__ == "__main__":
    # Not an import, since what the command does decides no run: see `core.code`.
    runpy.run_module("metastyle.meta.command", run_name="__main__")
