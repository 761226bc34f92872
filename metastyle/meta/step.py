"""One iteration of Algorithm 1: the gradient of its styles, added up over processes, and Adam.

Both halves compute with tensors alone, so that a GPU can replay them (`core.capture`).
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from metastyle.core import capture
from metastyle.core.gradients import Parameters
from metastyle.core.losses import REPORT, PerceptualLoss
from metastyle.core.network import parameter_names
from metastyle.meta.bilevel import Directions, Outcome, directions, meta_gradient
from metastyle.meta.distributed import ALONE, Ranks
from metastyle.meta.loader import Contents, MetaTraining, Phase, tasks


class Diverged(RuntimeError):
    """The gradient is not finite."""


class Told(NamedTuple):
    """What an iteration came to, means over styles: the report of the outer loss after the inner
    steps by REPORT; what they change, relative, of the loss of their own batch and of the outer
    loss; how many processes raised a flag; and the meta-gradient's norm before clipping."""

    report: list[float]
    support_change: float
    query_change: float
    flags: float
    norm: float


class Step:
    """Steps of a training; they change `theta` and the optimiser's state in place.

    Args:
        theta: the initialisation; its tensors are the optimiser's parameters.
        loss: of which the paintings' Gram matrices are. computed: the same in the precision of
            the training.
        ranks: the processes at work; this one is given its own styles.
    """

    def __init__(
        self,
        theta: Parameters,
        optimiser: torch.optim.Adam,
        settings: MetaTraining,
        loss: PerceptualLoss,
        computed: PerceptualLoss,
        ranks: Ranks = ALONE,
    ) -> None:
        self.theta, self.optimiser, self.settings, self.ranks = theta, optimiser, settings, ranks
        self.loss, self.computed = loss, computed
        self.device = next(iter(theta.values())).device
        which = settings.inner_parameters
        self.inner = None if which == "all" else parameter_names(which)
        self._part = capture.Replayed(self._styles, graphs := capture.graphs())
        self._update = capture.Replayed(self._clip_and_step, graphs)

    def gradient(
        self, given: Sequence[Contents], phase: Phase, share: float, flag: bool = False
    ) -> Tensor:
        """The sum over all styles of their gradients and of what they came to, in one vector.

        Args:
            given: the crops of this process's styles.
            share: of the style weight.
            flag: what this process has to tell the others.
        """
        kind = phase.inner_steps, phase.order, phase.inner_clip
        numbers = [capture.scalar(v, self.device) for v in (phase.inner_learning_rate, share)]
        flat = chain.from_iterable((c.painting, *c.supports, c.query) for c in given)
        whole = self._part(kind, *numbers, *flat)
        whole[-1].fill_(float(flag))
        return self.ranks.summed(whole)

    def update(self, whole: Tensor, rate: float) -> Told:
        """Clip the gradient and take Adam's step.

        Raises:
            Diverged: the gradient is not finite; theta is as it was.
        """
        norm = self._update(None, whole, capture.scalar(rate, self.device))
        means = whole[-len(REPORT) - 3 : -1] / self.settings.styles_per_iteration
        told = torch.cat([means, whole[-1:], norm.view(1)]).tolist()  # the GPU is waited for once
        if not told[-1] < float("inf"):
            raise Diverged(f"the gradient's norm is {told[-1]}")
        return Told(told[: len(REPORT)], *told[len(REPORT) :])

    def directions(self, given: Sequence[Contents], phase: Phase, share: float) -> Directions:
        """Of the exact gradient of all styles; see `bilevel.directions`."""
        loss = self.computed.with_style_share(share).of_parameters
        options = {
            "delta": phase.inner_learning_rate,
            "inner": self.inner,
            "clip": phase.inner_clip,
        }
        made = tasks(given, self.loss)
        return directions(self.theta, made, loss, **options, summed=self.ranks.summed)

    def _styles(self, kind, delta, share, *flat: Tensor) -> Tensor:
        inner_steps, order, clip = kind
        each = inner_steps + 2  # a painting, support batches, a query batch
        given = [flat[i : i + each] for i in range(0, len(flat), each)]
        made = tasks([Contents(p, supports, q) for p, *supports, q in given], self.loss)
        loss = self.computed.with_style_share(share).of_parameters
        options = {"delta": delta, "order": order, "inner": self.inner, "clip": clip, "probe": True}
        gradient, outcomes = meta_gradient(self.theta, made, loss, **options)
        parts = [g.flatten() for g in gradient.values()]
        told = torch.zeros(len(REPORT) + 3, device=self.device)  # the last is the flag
        if outcomes:
            told[: len(REPORT)] = torch.stack([outcome.report for outcome in outcomes]).sum(0)
        if not inner_steps:
            told[len(REPORT) : -1].fill_(float("nan"))
        elif outcomes:
            told[len(REPORT) : -1] = torch.stack([_changes(outcome) for outcome in outcomes]).sum(0)
        return torch.cat([*parts, told.to(parts[0].dtype)])

    def _clip_and_step(self, _, whole: Tensor, rate) -> Tensor:
        sizes = [p.numel() for p in self.theta.values()]
        parts = whole[: sum(sizes)].split(sizes)
        for parameter, part in zip(self.theta.values(), parts, strict=True):
            parameter.grad = part.view_as(parameter)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.theta.values()])
        if self.settings.clip_norm is not None:
            limit = self.settings.clip_norm
            torch.nn.utils.clip_grads_with_norm_(self.theta.values(), limit, norm)
        # Theta does not move by a gradient that is not finite, and nobody waits to know whether.
        finite = norm.isfinite()
        whole[: sum(sizes)].masked_fill_(~finite, 0)
        rate = rate * (finite if isinstance(rate, Tensor) else bool(finite))
        capture.set_rate(self.optimiser, rate)
        self.optimiser.step()
        return norm


def _changes(outcome: Outcome) -> Tensor:
    """Of the support and of the query loss: after the inner steps over before, less 1."""
    before, after = (
        torch.stack(pair).double() for pair in zip(outcome.support, outcome.query, strict=True)
    )
    return after / before - 1
