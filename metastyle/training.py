"""Meta-training: the outer loop of Algorithm 1, with checkpoints that survive a kill."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metastyle import batches
from metastyle.batches import Augmentation, derive_seed
from metastyle.bilevel import Order, Task, meta_gradient
from metastyle.checkpoint import load_tensors, save_tensors
from metastyle.losses import Perceptual, style_target, task_loss
from metastyle.params import CropSide, Section
from metastyle.transformer import ParameterSet, TransformerNet, new_network, parameter_names
from metastyle.vgg import VGG16, Precision

# The modules that decide a run's result.
CODE = ["images", "batches", "operators", "vgg", "losses", "transformer"]
CODE += ["gradients", "bilevel", "training"]

COLUMNS = [
    "iteration",  # counted from 1
    "loss",  # outer loss after the inner steps, mean over styles, range penalty included
    "content",  # its unweighted content term
    "style",  # its unweighted style term
    "gradient_norm",  # of the whole meta-gradient, before clipping
    "saturated",  # share of output values within 1/255 of 0 or 1
    "learning_rate",
]


class MetaTraining(Section):
    """Section `meta_train`; see params.yaml for units and sources."""

    seed: int
    iterations: NonNegativeInt
    size: CropSide
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    inner_steps: NonNegativeInt  # 0 trains one network on all styles, without an inner problem
    inner_learning_rate: NonNegativeFloat
    inner_parameters: ParameterSet
    order: Order
    precision: Precision = "float32"  # of VGG-16; what it answers is float32 either way
    exact_iterations: NonNegativeInt | None = None  # later ones are of first order; None: `order`
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    style_warmup: NonNegativeInt
    decay: NonNegativeFloat
    clip_norm: PositiveFloat | None
    average_last: NonNegativeInt
    photos: Augmentation
    artworks: Augmentation
    snapshots: list[int]
    checkpoint_minutes: NonNegativeFloat
    last_iterations: NonNegativeInt = 0  # so many at the end have crops of `last_size`
    last_size: CropSide | None = None  # None: `size`


class Images(NamedTuple):
    """The three image sets of meta-training; `inner` and `outer` photos are disjoint."""

    inner: Sequence[Path]
    outer: Sequence[Path]
    artworks: Sequence[Path]


class Progress(NamedTuple):
    """What a callback is told after each iteration."""

    row: dict[str, float]
    iterations: int
    seconds_left: float


class Result(NamedTuple):
    """The style-neutral network, its log (columns COLUMNS) and earlier networks by iteration.

    The network is the mean over the last `average_last` iterations, the last one if that is 0.
    seconds: what the iterations took, in all the runs that a resumed one is made of.
    """

    network: TransformerNet
    log: pd.DataFrame
    snapshots: dict[int, dict[str, Tensor]]
    seconds: float


class Drawn(NamedTuple):
    """The crops of one style's task, RGB in [0, 1]: (1, 3, size, size) of the painting,
    (N, 3, size, size) of photos per inner step, and the same for the outer loss."""

    painting: Tensor
    supports: list[Tensor]
    query: Tensor


def draw_crops(iteration: int, images: Images, settings: MetaTraining) -> list[Drawn]:
    """The input of one iteration: a function of the seed and the iteration alone."""
    s = settings
    size = crop_size(iteration, s)

    def contents(files: Sequence[Path], *key: object) -> Tensor:
        seed = derive_seed(s.seed, iteration, *key)
        return batches.batch(files, s.contents_per_batch, size, s.photos, seed)

    style_seed = derive_seed(s.seed, iteration, "styles")
    paintings = batches.draw(images.artworks, s.styles_per_iteration, style_seed)
    drawn = []
    for k, painting in enumerate(paintings):
        seed = derive_seed(s.seed, iteration, "style", k)
        style = batches.crops([painting], size, s.artworks, seed)
        supports = [contents(images.inner, "support", k, t) for t in range(s.inner_steps)]
        drawn.append(Drawn(style, supports, contents(images.outer, "query", k)))
    return drawn


def draw_tasks(
    iteration: int, images: Images, settings: MetaTraining, features: VGG16, perceptual: Perceptual
) -> list[Task]:
    """The meta-batch of one iteration, with the Gram matrices of its paintings."""
    device = features.mean.device
    return [
        Task(
            style_target(features, drawn.painting.to(device), perceptual),
            [support.to(device) for support in drawn.supports],
            drawn.query.to(device),
        )
        for drawn in draw_crops(iteration, images, settings)
    ]


def crop_size(iteration: int, settings: MetaTraining) -> int:
    """Side of the crops in pixels; iterations from 1."""
    s = settings
    return s.size if iteration <= s.iterations - s.last_iterations else s.last_size or s.size


def order(iteration: int, settings: MetaTraining) -> Order:
    """Order of the meta-gradient; iterations from 1."""
    exact = settings.exact_iterations
    return settings.order if exact is None or iteration <= exact else "first"


def learning_rate(iteration: int, settings: MetaTraining) -> float:
    """Linear warm-up, then learning_rate / (1 + decay * iteration); iterations from 1."""
    warm = min(1.0, iteration / settings.warmup) if settings.warmup else 1.0
    return warm * settings.learning_rate / (1 + settings.decay * iteration)


def perceptual_at(iteration: int, settings: MetaTraining, perceptual: Perceptual) -> Perceptual:
    """The loss with its style weight ramped up linearly over `style_warmup` iterations.

    Our addition: a random network that first learns to keep the content does not paint
    large saturated patches, which later updates cannot bring back.
    """
    share = min(1.0, iteration / settings.style_warmup) if settings.style_warmup else 1.0
    return perceptual.model_copy(update={"style_weight": share * perceptual.style_weight})


def meta_train(
    settings: MetaTraining,
    perceptual: Perceptual,
    images: Images,
    features: VGG16,
    *,
    cache: Path | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Result:
    """Minimise the outer loss by Adam, from PyTorch's default initialisation.

    Every random choice is a function of (seed, iteration), so the state to resume from is
    the parameters, Adam's moments, the log, and the snapshots and average made so far.

    Args:
        cache: folder for that state, see `cache_folder`; written every
            `checkpoint_minutes` and read at the start, so that the same call after a kill
            ends with the same weights. No state is kept if None.
        callback: called after each iteration.
    """
    s = settings
    judge = features.computing_in(s.precision)
    network = new_network(s.seed).to(features.mean.device)
    inner = parameter_names(network, s.inner_parameters)
    theta = {name: p.detach().clone() for name, p in network.named_parameters()}
    for tensor in theta.values():
        tensor.requires_grad_()
    optimiser = torch.optim.Adam(theta.values(), lr=s.learning_rate)
    average: dict[str, Tensor] = {}
    log: list[list[float]] = []
    snapshots: dict[int, dict[str, Tensor]] = {}
    seconds = 0.0

    state_file = (
        cache / key(s, perceptual, images, features) / "state.safetensors" if cache else None
    )
    if state_file and state_file.is_file():
        log, snapshots, average, seconds = _resume(state_file, theta, optimiser)
    if not log and 0 in s.snapshots:
        snapshots[0] = _copy(theta)

    first, started = len(log), time.monotonic()
    saved, before = started, seconds
    for iteration in range(len(log) + 1, s.iterations + 1):
        tasks = draw_tasks(iteration, images, s, features, perceptual)
        loss = task_loss(judge, perceptual_at(iteration, s, perceptual))
        gradient, reports = meta_gradient(
            theta, tasks, loss, delta=s.inner_learning_rate, order=order(iteration, s), inner=inner
        )
        for name, tensor in theta.items():
            tensor.grad = gradient[name]
        limit = s.clip_norm if s.clip_norm is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(theta.values(), limit, error_if_nonfinite=True)
        optimiser.param_groups[0]["lr"] = learning_rate(iteration, s)
        optimiser.step()
        averaged = iteration - max(0, s.iterations - s.average_last)
        if averaged == 1:
            average = {name: tensor.detach().clone() for name, tensor in theta.items()}
        elif averaged > 1:
            for name, tensor in theta.items():
                average[name] += (tensor.detach() - average[name]) / averaged

        total, content, style, saturated = torch.stack(reports).mean(0).tolist()
        rate = learning_rate(iteration, s)
        log.append([iteration, total, content, style, norm.item(), saturated, rate])
        if iteration in s.snapshots:
            snapshots[iteration] = _copy(theta)
        now = time.monotonic()
        seconds = before + now - started
        if state_file and (now - saved >= 60 * s.checkpoint_minutes or iteration == s.iterations):
            _save_state(state_file, theta, optimiser, log, snapshots, average, seconds)
            saved = now
        if callback:
            left = (now - started) / (iteration - first) * (s.iterations - iteration)
            callback(Progress(dict(zip(COLUMNS, log[-1], strict=True)), s.iterations, left))

    network.load_state_dict(average or theta)
    table = pd.DataFrame(log, columns=COLUMNS).astype({"iteration": int})
    return Result(network, table, snapshots, seconds)


def cache_folder() -> Path:
    """Where resume states live: METASTYLE_CACHE, by default ~/.cache/metastyle."""
    return Path(os.environ.get("METASTYLE_CACHE") or Path.home() / ".cache" / "metastyle")


def key(settings: MetaTraining, perceptual: Perceptual, images: Images, features: VGG16) -> str:
    """Name of a run's state: a hash of its settings, images, VGG and the code that computes it."""
    digest = hashlib.sha256()
    described = {
        # How often the state is saved does not change the result.
        "settings": settings.model_dump(exclude={"checkpoint_minutes"}),
        "perceptual": perceptual.model_dump(),
        "images": [[_identity(file) for file in files] for files in images],
        "versions": [version(name) for name in ("torch", "torchvision", "pillow")],
        "device": features.mean.device.type,
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for weights in features.buffers():
        digest.update(weights.cpu().numpy().tobytes())
    for module in CODE:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()[:24]


def _identity(file: Path) -> list[str]:
    return [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]


def _copy(theta: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().cpu() for name, tensor in theta.items()}


def _save_state(
    file: Path,
    theta: dict,
    optimiser: torch.optim.Adam,
    log: list,
    snapshots: dict,
    average: dict,
    seconds: float,
) -> None:
    tensors = {
        "log": torch.tensor(log, dtype=torch.float64),
        "seconds": torch.tensor(seconds, dtype=torch.float64),
    }
    for name, tensor in theta.items():
        moments = optimiser.state[tensor]
        tensors[f"theta/{name}"] = tensor
        tensors[f"first/{name}"] = moments["exp_avg"]
        tensors[f"second/{name}"] = moments["exp_avg_sq"]
    for iteration, snapshot in snapshots.items():
        tensors |= {f"snapshot/{iteration}/{name}": t for name, t in snapshot.items()}
    tensors |= {f"average/{name}": t for name, t in average.items()}
    save_tensors(file, tensors, {"kind": "resume state"})


@torch.no_grad()
def _resume(file: Path, theta: dict, optimiser: torch.optim.Adam) -> tuple[list, dict, dict, float]:
    tensors, _ = load_tensors(file)
    log = tensors["log"].tolist()
    for name, tensor in theta.items():
        tensor.copy_(tensors[f"theta/{name}"])
        optimiser.state[tensor] = {
            "step": torch.tensor(float(len(log))),
            "exp_avg": tensors[f"first/{name}"].to(tensor.device),
            "exp_avg_sq": tensors[f"second/{name}"].to(tensor.device),
        }
    snapshots: dict[int, dict[str, Tensor]] = {}
    average = {}
    for name, tensor in tensors.items():
        if name.startswith("average/"):
            parameter = name.removeprefix("average/")
            average[parameter] = tensor.to(theta[parameter].device)
        elif name.startswith("snapshot/"):
            _, iteration, parameter = name.split("/", 2)
            snapshots.setdefault(int(iteration), {})[parameter] = tensor
    return log, snapshots, average, tensors["seconds"].item()
