"""The bilevel step (paper, section 3.2 and Algorithm 1) by parts.

Inner:  w_0 = theta,  w_t = w_{t-1} - delta * grad L(w_{t-1}; style, support_t)
Outer:  minimise over theta the sum over styles of L(w_T; style, query)

`reference.meta_gradient` differentiates this as it reads. Here the same gradient is put together by
the chain rule,

    v_T = grad L(w_T; style, query),
    v_{t-1} = v_t - delta * Hessian L(w_{t-1}; style, support_t) v_t,

image by image, so that the graph of the query batch is never kept, and that of support images
only as far as there are cores to use them. Several styles are worked on at once, one per core;
a single one leaves the cores to its images.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from metastyle.core.gradients import (
    Parameters,
    Part,
    TaskLoss,
    each,
    hessian_product,
    images,
    mean,
    mean_gradient,
    part,
    workers,
)

Order = Literal["second", "first"]


class Task(NamedTuple):
    """One style of the meta-batch. What `style` is is the loss's business."""

    style: Any
    supports: Sequence[Tensor]  # T batches of training contents, a fresh one per inner step
    query: Tensor  # a batch of validation contents, disjoint from every support


class Outcome(NamedTuple):
    """What one style's task came to.

    report: of the query loss after the inner steps. support, query: the losses before and after
    them (scalars), on the first support batch and on the query batch; None where they were not
    asked for. All are tensors: to know their values would mean to wait for the GPU.
    """

    report: Tensor
    support: tuple[Tensor, Tensor] | None = None
    query: tuple[Tensor, Tensor] | None = None


def meta_gradient(
    theta: Parameters,
    tasks: Iterable[Task],
    loss: TaskLoss,
    *,
    delta: float | Tensor,
    order: Order = "second",
    inner: Iterable[str] | None = None,
    clip: float | None = None,
    probe: bool = False,
) -> tuple[Parameters, list[Outcome]]:
    """Gradient with respect to theta of the outer loss summed over styles.

    Args:
        theta: the initialisation, name -> tensor; not modified.
        tasks: the meta-batch of styles.
        loss: maps (parameters, style, batch) to a scalar and a report, means over the batch.
        delta: inner learning rate.
        order: "second" is the exact gradient of Algorithm 1; "first" drops the Hessian.
        inner: names that the inner steps change; all of theta if None. Theta as a whole
            receives the outer gradient either way.
        clip: limit of the norm of an inner gradient: where it is longer, delta is smaller for this
            style and step, and counts as a constant in the second order. None: no limit.
        probe: whether to compute the losses before and after the inner steps too.

    Returns:
        The gradient, shaped like theta, and each style's outcome.
    """
    tasks = list(tasks)
    inner = list(theta if inner is None else inner)
    # How many support graphs a task may keep, so that all of them keep one per core.
    graphs = max(1, workers() // max(1, len(tasks))) if order == "second" else 0
    done = each(
        lambda task: _task_gradient(theta, task, loss, delta, inner, clip, graphs, probe), tasks
    )
    total = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    outcomes = []
    for v, outcome in done:
        for name, tensor in v.items():
            total[name] += tensor
        outcomes.append(outcome)
    return total, outcomes


def _task_gradient(
    theta, task, loss, delta, inner, clip, graphs, probe
) -> tuple[Parameters, Outcome]:
    """One style's gradient and outcome; no second order if it keeps no graphs."""
    w, steps = theta, []
    for t, support in enumerate(task.supports, start=1):
        # The last step is the first to be differentiated: keep its graphs.
        kept = graphs if t == len(task.supports) else 0
        parts = _parts(w, task.style, support, loss, inner, kept)
        gradient = mean([p.gradient for p in parts])
        rate = delta if clip is None else delta * (clip / _norm(gradient)).clamp(max=1)
        steps.append((w, parts, rate))
        w = w | {name: w[name] - rate * gradient[name] for name in inner}
    v, report = mean_gradient(loss, w, task.style, task.query, list(theta))
    outcome = Outcome(report)
    if probe and steps:
        support, query = task.supports[0], task.query
        before = [_value(loss, theta, task.style, batch) for batch in (support, query)]
        after = _value(loss, w, task.style, support)
        outcome = Outcome(report, (before[0], after), (before[1], report.flatten()[0]))
    if graphs:
        for w, parts, rate in reversed(steps):
            products = _hessian_products(w, task.style, parts, loss, inner, v)
            v = {name: v[name] - rate * products[name] for name in v}
    return v, outcome


def _norm(gradient: Parameters) -> Tensor:
    return torch.stack([tensor.norm() for tensor in gradient.values()]).norm()


def _value(loss, w, style, batch) -> Tensor:
    """The loss of a batch, image by image, without a gradient."""

    def value(image: Tensor) -> Tensor:
        with torch.no_grad():  # holds for the thread that it is said in
            return loss(w, style, image)[0]

    return torch.stack(each(value, images(batch))).mean()


class Directions(NamedTuple):
    """Cosines of the exact gradient with that of joint training (no inner step) and that of first
    order, and the norm of the second-order term over that of the exact gradient."""

    joint: float
    first_order: float
    second_order_share: float


def _flat(gradient: Parameters) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in gradient.values()]).double()


def directions(
    theta: Parameters,
    tasks: Iterable[Task],
    loss: TaskLoss,
    *,
    delta: float | Tensor,
    inner: Iterable[str] | None = None,
    clip: float | None = None,
    summed: Callable[[Tensor], Tensor] = lambda part: part,
) -> Directions:
    """How far the exact gradient of some tasks is from what costs less; see `meta_gradient`.

    Args:
        summed: adds up what several processes have, each of some tasks of its own.
    """
    tasks, options = list(tasks), {"delta": delta, "inner": inner, "clip": clip}
    exact, first, joint = (
        summed(_flat(meta_gradient(theta, given, loss, order=order, **options)[0]))
        for order, given in (
            ("second", tasks),
            ("first", tasks),
            ("first", [task._replace(supports=[]) for task in tasks]),
        )
    )
    cosine = torch.nn.functional.cosine_similarity
    share = (exact - first).norm() / exact.norm()
    return Directions(*(cosine(exact, g, dim=0).item() for g in (joint, first)), share.item())


def _parts(w, style, batch, loss, inner, kept) -> list[Part]:
    """The gradient of every image of a batch, the first `kept` of them with their graphs."""
    return each(
        lambda i: part(loss, w, style, i[1], inner, graph=i[0] < kept), enumerate(images(batch))
    )


def _hessian_products(w, style, parts, loss, inner, v) -> Parameters:
    """Hessian times v, where v counts for the names in `inner` only; a mean over the images."""

    def product(p: Part) -> Parameters:
        if not p.has_graph:
            p = part(loss, w, style, p.image, inner, graph=True)
        return hessian_product(p, v)

    return mean(each(product, parts))
