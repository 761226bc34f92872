"""Gradients of a loss over a batch, image by image, one image per core.

Every loss here is a mean over the images of its batch, and so are its derivatives. Two threads
that work on an image each, with the operations of an image on one core, waste less than two
cores that share every operation. On a GPU the batch stays whole, and one thread drives it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metastyle.core import device

Parameters = dict[str, Tensor]

# loss(parameters, style, batch) -> (scalar to differentiate, report: a detached tensor);
# both are means over the batch.
TaskLoss = Callable[[Parameters, Any, Tensor], tuple[Tensor, Tensor]]

T, R = TypeVar("T"), TypeVar("R")
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@cache
def workers() -> int:
    """How many images are worked on at once: as many as torch has threads when first asked."""
    return torch.get_num_threads()


@cache
def _pool() -> ThreadPoolExecutor:
    count = workers()
    pool = ThreadPoolExecutor(count, initializer=_keep_to_one_core)
    started = threading.Barrier(count)
    list(pool.map(lambda _: started.wait(), range(count)))
    torch.set_num_threads(count)  # what the threads set for themselves is every later thread's
    return pool


def _keep_to_one_core() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to everybody's
    torch.set_num_threads(1)
    _alone.set(True)  # what works on an item does not wait for the others


def each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """[function(item) for item in items], an item per core; a single item gets all cores.

    Within an item, a further `each` works in the item's own thread; so it does on a GPU.
    """
    items = list(items)
    here = _alone.get() or len(items) == 1 or device.on_gpu()
    return list((map if here else _pool().map)(function, items))


@contextmanager
def in_this_thread() -> Iterator[None]:
    """Let `each` work here, one item after the other: for tools that watch a single thread."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def images(batch: Tensor) -> Sequence[Tensor]:
    """The images of a batch, (N, ...) -> N of (1, ...); the batch itself on a GPU."""
    return batch.split(1) if batch.device.type == "cpu" else [batch]


class Part(NamedTuple):
    """The gradient of one image's loss, and what its derivative needs."""

    image: Tensor
    leaves: Parameters  # the parameters it was taken at
    gradient: Parameters
    report: Tensor

    @property
    def has_graph(self) -> bool:
        """Whether it was asked for with its graph, so that it can be differentiated."""
        return any(g.requires_grad for g in self.gradient.values())


def part(
    loss: TaskLoss, w: Parameters, style: Any, image: Tensor, names: Sequence[str], *, graph: bool
) -> Part:
    """Gradient of loss(w, style, image) by the parameters in `names`."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in w.items()}
    value, report = loss(leaves, style, image)
    by = [leaves[name] for name in names]
    gradient = torch.autograd.grad(value, by, create_graph=graph, materialize_grads=True)
    return Part(image, leaves, dict(zip(names, gradient, strict=True)), report)


def hessian_product(part: Part, v: Parameters) -> Parameters:
    """Sum over the names of part's gradient g of d<g, v>/dw; uses up its graph."""
    pairs = [(g, v[name]) for name, g in part.gradient.items() if g.requires_grad]
    product = torch.autograd.grad(
        [g for g, _ in pairs], list(part.leaves.values()), [u for _, u in pairs],
        materialize_grads=True,
    )  # fmt: skip
    return dict(zip(part.leaves, product, strict=True))


def mean(gradients: Sequence[Parameters]) -> Parameters:
    """Mean of gradients with equal names, in their order."""
    first, *others = gradients
    total = {name: tensor.detach().clone() for name, tensor in first.items()}
    for other in others:
        for name, tensor in other.items():
            total[name] += tensor.detach()
    return {name: tensor / len(gradients) for name, tensor in total.items()}


def mean_gradient(
    loss: TaskLoss, w: Parameters, style: Any, batch: Tensor, names: Sequence[str]
) -> tuple[Parameters, Tensor]:
    """Gradient of loss(w, style, batch) by the parameters in `names`, and the batch's report."""
    parts = each(lambda i: part(loss, w, style, i, names, graph=False), images(batch))
    return mean([p.gradient for p in parts]), torch.stack([p.report for p in parts]).mean(0)
