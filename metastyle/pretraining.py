"""Training what methods train once for all styles, with a state that survives a kill."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, NamedTuple

import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from metastyle import batches
from metastyle.batches import Augmentation, derive_seed
from metastyle.checkpoint import FINEST, load_tensors, save_tensors
from metastyle.errors import InputError
from metastyle.kept import fingerprint
from metastyle.params import CropSide, Section
from metastyle.pretrained import Pretrained, assemble, kept_state
from metastyle.vgg import VGG16

# The modules that decide a training's result, beside the method's own.
CODE = ["autoencoders", "batches", "hypernetwork", "images", "least_squares", "losses", "moments"]
CODE += ["operators", "patches", "pretrained", "pretraining", "transformer", "vgg"]


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


class Trained(NamedTuple):
    """The network with the mean of its weights, and a row per iteration: iteration, loss, and its
    terms without weights."""

    network: nn.Module
    log: pd.DataFrame


def learning_rate(iteration: int, run: Run) -> float:
    """Linear warm-up, then learning_rate / (1 + decay * iteration); iterations from 1.

    It does not know where the run ends, so that one for more iterations can go on from it.
    """
    warm = min(1.0, iteration / run.warmup) if run.warmup else 1.0
    return warm * run.learning_rate / (1 + run.decay * iteration)


def draw(
    iteration: int, run: Run, plan: Pretraining, photos: Sequence[Path], paintings: Sequence[Path]
) -> tuple[Tensor, Tensor]:
    """Crops of an iteration's photos and paintings, a function of the seed and the iteration;
    the paintings (none: an empty tensor) stay for `style_every` iterations."""
    seed = derive_seed(plan.seed, "photos", iteration)
    contents = batches.batch(photos, run.photos, run.size, plan.photos, seed)
    if run.paintings == 0:
        return contents, contents[:0]
    seed = derive_seed(plan.seed, "paintings", (iteration - 1) // run.style_every)
    return contents, batches.batch(paintings, run.paintings, run.size, plan.paintings, seed)


def pretrain(
    method: ModuleType,
    settings: Pretrained,
    run: Run,
    plan: Pretraining,
    vgg: VGG16,
    photos: Sequence[Path],
    paintings: Sequence[Path],
    *,
    cache: Path | None = None,
    callback: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Minimise the weighted sum of a method's `training_terms` by Adam.

    Args:
        method: of metastyle.methods, with `new_network` and `training_terms`; `start`, where it
            has one, fits a new network to photos before the first iteration.
        photos, paintings: files of the training split.
        cache: folder for the state, see `training.cache_folder`; written every
            `checkpoint_minutes` and at the end, read at the start, so that the same call after
            a kill ends with the same weights, and one for more iterations goes on from a
            finished one. No state is kept if None.
        callback: called after each iteration with its row of the log.

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
    device = vgg.mean.device
    seed = derive_seed(plan.seed, "normalised over")
    side = getattr(method, "NORMALISED_BY", "photos")
    files, crops = {"photos": (photos, plan.photos), "paintings": (paintings, plan.paintings)}[side]
    count = min(plan.normalised_over, len(files))
    seen = batches.batch(files, count, run.size, crops, seed).to(device)
    network = assemble(lambda: method.new_network(settings, vgg, seen), settings, device)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimiser = torch.optim.Adam(parameters.values(), lr=run.learning_rate, fused=True)

    file, log = None, []
    if cache:
        shared = plan.model_copy(update={"runs": {}, "checkpoint_minutes": 0})
        open_ended = run.model_copy(update={"iterations": 1, "levels": FINEST})
        trained = settings.of_training()
        decides = [method.__name__, trained, open_ended, shared, vgg, [*photos], [*paintings]]
        code = [*CODE, method.__name__.partition(".")[2]]
        file = cache / "pretrain" / fingerprint(*decides, code=code) / "state.safetensors"
    resumed = file is not None and file.is_file()
    if not resumed and plan.fitted_over and hasattr(method, "start"):
        seed = derive_seed(plan.seed, "fitted over")
        count = min(plan.fitted_over, len(photos))
        fitted = batches.batch(photos, count, run.size, plan.photos, seed)
        method.start(network, fitted.to(device))
    mean = {name: p.detach().clone() for name, p in parameters.items()}
    if resumed:
        log = _resume(file, parameters, mean, optimiser)
    if len(log) > run.iterations:
        raise InputError(
            f"{file}: has gone {len(log)} iterations; ask for as many under pretrain.runs, or "
            "remove it"
        )

    saved = time.monotonic()
    for iteration in range(len(log) + 1, run.iterations + 1):
        contents, styles = (t.to(device) for t in draw(iteration, run, plan, photos, paintings))
        terms = method.training_terms(network, settings, vgg, contents, styles)
        if set(terms) != set(run.weights):
            raise ValueError(f"weights of {sorted(run.weights)} for terms {sorted(terms)}")
        loss = torch.stack([run.weights[name] * term for name, term in terms.items()]).sum()
        if not loss.isfinite():
            raise ValueError(f"the loss is {loss.item()} at iteration {iteration}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = learning_rate(iteration, run)
        optimiser.step()
        with torch.no_grad():  # at first the mean of all weights so far
            new = 1 - min(plan.average, 1 - 1 / iteration)
            torch._foreach_lerp_([*mean.values()], [*parameters.values()], new)

        log.append([iteration, loss.item(), *(terms[name].item() for name in run.weights)])
        now = time.monotonic()
        late = now - saved >= 60 * plan.checkpoint_minutes
        if file and (late or iteration == run.iterations):
            _save(file, parameters, mean, optimiser, log)
            saved = now
        if callback:
            callback(dict(zip(columns(run), log[-1], strict=True)))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(mean[name])
    return Trained(network, pd.DataFrame(log, columns=columns(run)).astype({"iteration": int}))


def columns(run: Run) -> list[str]:
    """Of the log."""
    return ["iteration", "loss", *run.weights]


def result(
    method: ModuleType,
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


def restore(method: ModuleType, settings: Pretrained, weights: Path, vgg: VGG16) -> nn.Module:
    """The trained network of a method that keeps its own state.

    Raises:
        InputError: the file is missing or holds something else.
    """
    settings = settings.model_copy(update={"weights": weights})
    return assemble(lambda: method.new_network(settings, vgg), settings, vgg.mean.device)


def _save(
    file: Path,
    parameters: dict[str, Tensor],
    mean: dict[str, Tensor],
    optimiser: torch.optim.Adam,
    log: list,
) -> None:
    tensors = {"log": torch.tensor(log, dtype=torch.float64)}
    for name, parameter in parameters.items():
        tensors[f"value/{name}"] = parameter
        tensors[f"mean/{name}"] = mean[name]
        # A parameter that the loss does not see has no moments.
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    save_tensors(file, tensors, {"kind": "resume state"})


@torch.no_grad()
def _resume(
    file: Path,
    parameters: dict[str, Tensor],
    mean: dict[str, Tensor],
    optimiser: torch.optim.Adam,
) -> list:
    tensors, _ = load_tensors(file)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"value/{name}"])
        mean[name].copy_(tensors[f"mean/{name}"])
        if f"exp_avg/{name}" in tensors:
            optimiser.state[parameter] = {
                key: tensors[f"{key}/{name}"].to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return tensors["log"].tolist()
