"""The bilevel step (paper, section 3.2 and Algorithm 1), as pure functions of tensors.

Inner:  w_0 = theta,  w_t = w_{t-1} - delta * grad L(w_{t-1}; style, support_t)
Outer:  minimise over theta the sum over styles of L(w_T; style, query)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Order = Literal["second", "first"]


class Task(NamedTuple):
    """One style of the meta-batch. What `style` and a batch are is the loss's business."""

    style: Any
    supports: Sequence[Any]  # T batches of training contents, a fresh one per inner step
    query: Any  # a batch of validation contents, disjoint from every support


# loss(parameters, style, batch) -> (scalar to differentiate, anything to report)
TaskLoss = Callable[[Parameters, Any, Any], tuple[Tensor, Any]]


def inner_steps(
    theta: Parameters,
    task: Task,
    loss: TaskLoss,
    *,
    delta: float,
    order: Order,
    inner: Iterable[str],
) -> Parameters:
    """Take T = len(task.supports) SGD steps on the parameters named in `inner`.

    With order "second" the result stays differentiable through the steps; with "first"
    the inner gradients count as constants.
    """
    names = list(inner)
    w = theta
    for support in task.supports:
        value, _ = loss(w, task.style, support)
        gradients = torch.autograd.grad(
            value, [w[name] for name in names], create_graph=order == "second"
        )
        steps = {n: w[n] - delta * g for n, g in zip(names, gradients, strict=True)}
        w = {**w, **steps}
    return w


def meta_gradient(
    theta: Parameters,
    tasks: Iterable[Task],
    loss: TaskLoss,
    *,
    delta: float,
    order: Order = "second",
    inner: Iterable[str] | None = None,
) -> tuple[Parameters, list[Any]]:
    """Gradient with respect to theta of the outer loss summed over styles.

    Styles are handled one by one, so that only one style's graph is alive at a time.

    Args:
        theta: the initialisation, name -> tensor; not modified.
        tasks: the meta-batch of styles.
        loss: maps (parameters, style, batch) to a scalar and a report.
        delta: inner learning rate.
        order: "second" is the exact gradient of Algorithm 1.
        inner: names that the inner steps change; all of theta if None. Theta as a whole
            receives the outer gradient either way.

    Returns:
        The gradient, shaped like theta, and the query loss's report for each style.
    """
    theta = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
    inner = list(theta if inner is None else inner)
    total = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    reports = []
    for task in tasks:
        adapted = inner_steps(theta, task, loss, delta=delta, order=order, inner=inner)
        value, report = loss(adapted, task.style, task.query)
        gradients = torch.autograd.grad(value, list(theta.values()))
        for accumulated, gradient in zip(total.values(), gradients, strict=True):
            accumulated += gradient
        reports.append(report)
    return total, reports
