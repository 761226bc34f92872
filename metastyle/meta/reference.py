"""Algorithm 1 as it reads: what `bilevel` and `kernels` are held to, in value and in time.

PyTorch's own layers, a whole batch at once, and one graph through the inner steps.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metastyle.core import losses
from metastyle.core.gradients import Parameters, TaskLoss
from metastyle.core.losses import Perceptual, StyleTarget
from metastyle.core.vgg import VGG16
from metastyle.meta.bilevel import Order, Task


class PlainVGG16(VGG16):
    """VGG-16 by PyTorch's own functions, contiguous."""

    memory_format = torch.contiguous_format

    def conv_relu(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, weight, bias, padding=1))


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W): (N, C, H, W) -> (N, C, C)."""
    n, c, h, w = features.shape
    flat = features.reshape(n, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


@contextmanager
def watched(network: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    """Add what every instance norm of a network sees to a list, while the block runs."""
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    hooks = [n.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for n in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def plain_loss(
    network: nn.Module, vgg: PlainVGG16, settings: Perceptual
) -> Callable[[Parameters, StyleTarget, Tensor], tuple[Tensor, Tensor]]:
    """`PerceptualLoss.of_parameters` from PyTorch's own layers; the report is the loss alone."""
    s = settings

    def loss(parameters, target, photos):
        seen = []
        with watched(network, seen):
            logits = functional_call(network, parameters, (photos,), {"logits": True})
        wanted = losses.PerceptualLoss(vgg, s).content(photos)
        found = vgg(torch.sigmoid(logits), [s.content_layer, *s.style_layers])
        grams = {layer: gram(found[layer]) for layer in s.style_layers}
        value = s.content_weight * losses.content_loss(found[s.content_layer], wanted)
        value = value + s.style_weight * losses.style_loss(grams, target, s)
        value = value + s.range_weight * losses.range_penalty(logits, s.range_limit)
        if s.spike_weight:
            value = value + s.spike_weight * losses.spike_penalty(seen, s.spike_limit)
        return value, value.detach()

    return loss


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
            value,
            [w[name] for name in names],
            create_graph=order == "second",
            materialize_grads=True,
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
) -> tuple[Parameters, list[Tensor]]:
    """`bilevel.meta_gradient`, by one differentiation of the whole.

    Styles are handled one by one, so that only one style's graph is alive at a time.
    """
    theta = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
    inner = list(theta if inner is None else inner)
    total = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    reports = []
    for task in tasks:
        adapted = inner_steps(theta, task, loss, delta=delta, order=order, inner=inner)
        value, report = loss(adapted, task.style, task.query)
        gradients = torch.autograd.grad(value, list(theta.values()), materialize_grads=True)
        for accumulated, gradient in zip(total.values(), gradients, strict=True):
            accumulated += gradient
        reports.append(report)
    return total, reports


def forward_over_reverse(
    theta: Parameters, tasks: Iterable[Task], loss: TaskLoss, *, delta: float
) -> Parameters:
    """The gradient for one inner step on all parameters, its Hessian product by forward
    differentiation of the gradient."""

    def gradient(w, style, batch):
        return torch.func.grad(lambda w: loss(w, style, batch)[0])(w)

    theta = {name: tensor.detach() for name, tensor in theta.items()}
    total = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    for task in tasks:
        (support,) = task.supports
        g = gradient(theta, task.style, support)
        v = gradient(
            {name: theta[name] - delta * g[name] for name in theta}, task.style, task.query
        )
        at = partial(gradient, style=task.style, batch=support)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, of its own torch.jit
            _, product = torch.func.jvp(at, (theta,), (v,))
        for name in total:
            total[name] += v[name] - delta * product[name]
    return total
