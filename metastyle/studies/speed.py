"""Ways to compute one meta-gradient, and what each costs.

Memory is measured in a process of its own: `python -m metastyle.benchmark exact reference
params.yaml` prints it as JSON.
"""

import argparse
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from metastyle.config import CropSide, Precision, Section, read
from metastyle.core import losses, splits
from metastyle.core.gradients import Parameters, TaskLoss, in_this_thread
from metastyle.core.losses import Perceptual
from metastyle.core.network import new_network, parameter_names
from metastyle.core.vgg import VGG16, load_vgg
from metastyle.evaluation.timing import measure
from metastyle.meta import bilevel
from metastyle.meta.train import Images, MetaTraining, draw_crops, draw_tasks


class Scale(Section):
    """How much one meta-gradient has to do, and how many turns measure it."""

    name: str
    size: CropSide
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    repeats: PositiveInt


class Goals(Section):
    """What was asked of the ways before they were written: times faster than the plain one, and
    the exact one's memory as a share of the plain one's."""

    exact: float
    fast: float
    memory: float


class Benchmark(Section):
    """Section `benchmark`."""

    scales: Annotated[list[Scale], Field(min_length=1)]
    goals: Goals
    ceiling_seconds: float
    input_iterations: PositiveInt


Step = Callable[[Parameters], Parameters]

# Operations by what they do; what is not listed counts as element-wise work and copies.
GROUPS = {
    "convolutions": (
        "aten::mkldnn_convolution",
        "aten::convolution_backward",
        "aten::_convolution",
        "aten::mkldnn_convolution_backward",
        "aten::_slow_conv2d_forward",
    ),
    "Gram matrices": ("aten::bmm", "aten::mm"),
    "instance norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
    "pooling": ("aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices_backward",
                "aten::gather"),
    "borders": ("aten::reflection_pad2d", "aten::reflection_pad2d_backward",
                "aten::replication_pad2d", "aten::replication_pad2d_backward"),
}  # fmt: skip


class Prepared(NamedTuple):
    """`ways` and `levers` as functions of theta, for the tasks of the first iteration at a scale;
    `draw` takes an iteration to its crops."""

    ways: dict[str, Step]
    levers: dict[str, Step]
    draw: Callable[[int], list]


class ChannelsLastVGG16(plain.PlainVGG16):
    """PyTorch's own functions on channels-last tensors."""

    memory_format = torch.channels_last


def prepare(params: Path, scale: Scale) -> Prepared:
    """The ways to compute a meta-gradient, and the steps from the plain to the exact one.

    plain: `plain.meta_gradient`, PyTorch's layers, whole batches, one graph. exact:
    `bilevel.meta_gradient`, the same number. first order: that without the Hessian. fast: that
    with VGG-16 in bfloat16; absent where the processor has no instructions for it.

    The levers change one thing each about the plain way, but for the last, the exact way with
    all cores on every operation instead of a core per image.
    """
    root, inputs, _ = project.paths(params)
    data = read(params, "data", splits.Data)
    perceptual = read(params, "perceptual", Perceptual)
    settings = read(params, "meta_train", MetaTraining).model_copy(
        update=scale.model_dump(include={"size", "styles_per_iteration", "contents_per_batch"})
    )
    sets = splits.read(inputs / "splits.csv", data, root)
    images = Images(sets["photo/inner"], sets["photo/outer"], sets["artwork/train"])

    # Made when first asked for: the other ways' processes are measured without them.
    @cache
    def loaded(kind: type[VGG16]) -> VGG16:
        return load_vgg(root / data.vgg, perceptual.feature_scale, kind)

    @cache
    def quick(precision: Precision = "float32") -> TaskLoss:
        return losses.task_loss(loaded(VGG16).computing_in(precision), perceptual)

    def slow(kind: type[plain.PlainVGG16] = plain.PlainVGG16) -> TaskLoss:
        return plain.task_loss(network, loaded(kind), perceptual)

    network = new_network(settings.seed)
    draw = partial(draw_crops, images=images, settings=settings)
    tasks = draw_tasks(1, images, settings, loaded(VGG16), perceptual)
    delta = settings.inner_learning_rate
    inner = parameter_names(network, settings.inner_parameters)

    def by(gradient: Callable, loss: Callable[[], TaskLoss], **options: Any) -> Step:
        def step(theta: Parameters) -> Parameters:
            return gradient(theta, tasks, loss(), delta=delta, inner=inner, **options)[0]

        return step

    def plain_in_threads() -> TaskLoss:
        """PyTorch's functional_call changes the module while it runs: each call has its own."""

        def loss(*given):
            return plain.task_loss(copy.deepcopy(network), loaded(plain.PlainVGG16), perceptual)(
                *given
            )

        return loss

    def recomputed() -> TaskLoss:
        """The plain loss without its activations: they are computed again on the way back."""
        return partial(checkpoint, slow(), use_reentrant=False)

    def all_cores(theta: Parameters) -> Parameters:
        with in_this_thread():
            return ways["exact"](theta)

    ways = {
        "plain": by(plain.meta_gradient, slow),
        "exact": by(bilevel.meta_gradient, quick),
        "first order": by(bilevel.meta_gradient, quick, order="first"),
        "fast": by(bilevel.meta_gradient, lambda: quick("bfloat16"), order="first"),
    }
    if not machine.has_bfloat16():
        del ways["fast"]
    levers = {
        "channels-last VGG-16": by(plain.meta_gradient, lambda: slow(ChannelsLastVGG16)),
        "recomputation": by(plain.meta_gradient, recomputed),
        "own operators": by(plain.meta_gradient, quick),
        "by parts, a core per image": by(bilevel.meta_gradient, plain_in_threads),
        "forward over reverse": lambda theta: plain.forward_over_reverse(
            theta, tasks, slow(), delta=delta
        ),
        "exact, all cores on each operation": all_cores,
    }
    return Prepared(ways, levers, draw)


def input_seconds(draw: Callable[[int], list], iterations: int) -> dict[str, float]:
    """Median time of an iteration's crops: of images decoded before, as where a collection fits
    into `batches.decoded`, and of images that have to be decoded, as where it is large."""

    def anew(iteration: int) -> None:
        batches.decoded.cache_clear()
        draw(iteration)

    def seconds(call: Callable[[int], object]) -> float:
        each = iter(range(iterations + 1))
        return measure(lambda: call(next(each)), budget=0, repeats=(iterations, iterations)).median

    for iteration in range(iterations + 1):
        draw(iteration)
    return {"decoded before": seconds(draw), "decoded anew": seconds(anew)}


def ceilings(seconds: float) -> dict[str, float]:
    """GFLOP/s of a large matrix product and of a convolution of VGG's, by number format.

    Where the processor has no bfloat16 instructions that format is slower by orders of
    magnitude, so it gets smaller ones.
    """
    found = {}
    for dtype, side, pixels in ((torch.float32, 2048, 128), (torch.bfloat16, 512, 32)):
        a = torch.rand(side, side, dtype=dtype)
        x = torch.rand(1, 128, pixels, pixels, dtype=dtype)
        weight = torch.rand(128, 128, 3, 3, dtype=dtype)
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        for name, call, operations in (
            ("matrix product", lambda a=a: a @ a, 2 * side**3),
            (
                "convolution",
                lambda x=x, weight=weight: F.conv2d(x, weight, padding=1),
                2 * 9 * 128**2 * pixels**2,
            ),
        ):
            timing = measure(call, budget=seconds, repeats=(3, 1000))
            found[f"{name} {str(dtype).removeprefix('torch.')}"] = operations / timing.low / 1e9
    return found


def cosine(a: Parameters, b: Parameters) -> float:
    """Cosine between two gradients, in float64."""
    flat = [torch.cat([t.flatten() for t in g.values()]).double() for g in (a, b)]
    return torch.nn.functional.cosine_similarity(*flat, dim=0).item()


def distance(a: Parameters, b: Parameters) -> float:
    """Euclidean distance between two gradients, in float64."""
    return sum((a[name] - b[name]).double().square().sum() for name in a).sqrt().item()


def memory(way: str, scale: str, params: str | Path) -> dict[str, float]:
    """Memory in GiB of a process that does one step of a way (or lever): `before` it, and the
    `peak`."""
    command = [sys.executable, "-m", "metastyle.benchmark", way, scale, str(params)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


class _Whole(nullcontext):
    """In place of a counter's module tracker, whose hooks refuse a gradient by a module's input."""

    parents = ("Global",)


def operations(step: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and matrix products, in GFLOP."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()
    with in_this_thread(), counter:
        step()
    return counter.get_total_flops() / 1e9


def shares(step: Callable[[], object]) -> dict[str, float]:
    """Share of a step's time by group of operations, on one core."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with in_this_thread():
        step()
        with profile(activities=[ProfilerActivity.CPU]) as run:
            step()
    torch.set_num_threads(threads)
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    rest = "element-wise work and copies"
    spent = dict.fromkeys([*GROUPS, rest], 0.0)
    for event in run.key_averages():
        spent[group_of.get(event.key, rest)] += event.self_cpu_time_total
    return {group: time / sum(spent.values()) for group, time in spent.items()}


def held(kind: str) -> float:
    """Memory of this process in GiB (Linux): VmRSS, what it holds; VmHWM, the most it ever held.

    Not getrusage's ru_maxrss: a process inherits that from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", help="a way or a lever")
    parser.add_argument("scale")
    parser.add_argument("params", type=Path)
    a = parser.parse_args()
    scales = {scale.name: scale for scale in read(a.params, "benchmark", Benchmark).scales}
    scale = scales[a.scale]
    ways, levers, _ = prepare(a.params, scale)
    steps = ways | levers
    if a.way not in steps:
        parser.error(f"no way or lever {a.way} here; give one of {', '.join(steps)}")
    theta = dict(new_network(0).named_parameters())
    before = held("VmRSS")
    steps[a.way](theta)
    print(json.dumps({"before": before, "peak": held("VmHWM")}))


if __name__ == "__main__":
    main()
