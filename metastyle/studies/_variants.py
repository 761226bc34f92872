"""Variants of computing one meta-gradient, and ablations between the slowest and the exact one."""

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from metastyle.config import Precision, Project
from metastyle.core import splits
from metastyle.core.gradients import Parameters, TaskLoss, in_this_thread
from metastyle.core.losses import load_loss
from metastyle.core.network import new_network, parameter_names
from metastyle.core.vgg import load_vgg
from metastyle.evaluation.machine import has_bfloat16
from metastyle.meta import bilevel, reference
from metastyle.meta.loader import (
    Contents,
    MetaTraining,
    contents,
    draw_crops,
    draw_tasks,
    training_images,
)

Step = Callable[[Parameters], Parameters]
ENDLESS = 10**9  # iterations


class Prepared(NamedTuple):
    """Variants and ablations as functions of theta, for the tasks of the first iteration;
    `draw` takes an iteration to its crops, in their colours."""

    variants: dict[str, Step]
    ablations: dict[str, Step]
    draw: Callable[[int], list]


class ChannelsLastVGG16(reference.PlainVGG16):
    """PyTorch's own functions on channels-last tensors."""

    memory_format = torch.channels_last


def prepare(project: Project, size: int, **changes: Any) -> Prepared:
    """The variants of computing a meta-gradient, and the steps from the plain to the exact one.

    plain: `reference.meta_gradient`, PyTorch's layers, whole batches, one graph. exact:
    `bilevel.meta_gradient`, the same number. first order: that without the Hessian. fast: that
    with VGG-16 in bfloat16; absent where the processor has no instructions for it.

    The ablations change one thing each about the plain variant, but for the last, the exact one
    with all cores on every operation instead of a core per image.

    Args:
        size: pixels of the crops; the inner problem is that of the last phase of `meta_train`.
        changes: other values of that section that differ here.
    """
    loss, images = load_loss(project), training_images(splits.read(project))
    settings = MetaTraining.read(project, "meta_train")
    phase = settings.phases[-1].changed(size=size, iterations=ENDLESS)
    settings = settings.changed(phases=[phase.model_dump()], **changes)
    network = new_network(settings.seed)
    tasks = draw_tasks(1, images, settings, loss)
    delta = phase.inner_learning_rate
    inner = parameter_names(settings.inner_parameters)

    # Made when first asked for: the other variants' processes are measured without them.
    @cache
    def loaded(kind: type[reference.PlainVGG16]) -> reference.PlainVGG16:
        file = project.root / splits.Data.read(project, "data").vgg
        return load_vgg(file, kind)

    @cache
    def quick(precision: Precision = "float32") -> TaskLoss:
        return loss.to_precision(precision).of_parameters

    def slow(kind: type[reference.PlainVGG16] = reference.PlainVGG16) -> TaskLoss:
        return reference.plain_loss(network, loaded(kind), loss.settings)

    def plain_in_threads() -> TaskLoss:
        """PyTorch's functional_call changes the module while it runs: each call has its own."""
        vgg = loaded(reference.PlainVGG16)
        return lambda *given: reference.plain_loss(copy.deepcopy(network), vgg, loss.settings)(
            *given
        )

    def recomputed() -> TaskLoss:
        """The plain loss without its activations: they are computed again on the way back."""
        return partial(checkpoint, slow(), use_reentrant=False)

    def by(gradient: Callable, of: Callable[[], TaskLoss], **options: Any) -> Step:
        return lambda theta: gradient(theta, tasks, of(), delta=delta, inner=inner, **options)[0]

    def all_cores(theta: Parameters) -> Parameters:
        with in_this_thread():
            return variants["exact"](theta)

    variants = {
        "plain": by(reference.meta_gradient, slow),
        "exact": by(bilevel.meta_gradient, quick),
        "first order": by(bilevel.meta_gradient, quick, order="first"),
        "fast": by(bilevel.meta_gradient, lambda: quick("bfloat16"), order="first"),
    }
    if not has_bfloat16():
        del variants["fast"]
    ablations = {
        "channels-last VGG-16": by(reference.meta_gradient, lambda: slow(ChannelsLastVGG16)),
        "recomputation": by(reference.meta_gradient, recomputed),
        "own kernels": by(reference.meta_gradient, quick),
        "by parts, a core per image": by(bilevel.meta_gradient, plain_in_threads),
        "forward over reverse": lambda theta: reference.forward_over_reverse(
            theta, tasks, slow(), delta=delta
        ),
        "exact, all cores on each operation": all_cores,
    }

    def draw(iteration: int) -> list[Contents]:
        return contents(draw_crops(iteration, images, settings), settings, loss.device)

    return Prepared(variants, ablations, draw)


def cosine(a: Parameters, b: Parameters) -> float:
    """Cosine between two gradients, in float64."""
    flat = [torch.cat([t.flatten() for t in g.values()]).double() for g in (a, b)]
    return F.cosine_similarity(*flat, dim=0).item()


def distance(a: Parameters, b: Parameters) -> float:
    """Euclidean distance between two gradients, in float64."""
    return sum((a[name] - b[name]).double().square().sum() for name in a).sqrt().item()
