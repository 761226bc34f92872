"""Steps that are replayed as CUDA graphs: the same few thousand kernels, started as one.

A graph reads and writes fixed places in memory. So what changes from step to step, crops and
rates, is handed over in tensors, and what stays (parameters, Adam's moments) is changed in place.

The order of calls is tested with a stand-in for the GPU (tests/test_capture.py); `CudaGraphs`
itself runs only where there is one, and has not been measured there in this form.
"""

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from metastyle.core import device

log = logging.getLogger(__name__)
T = TypeVar("T")
WARM = 2  # calls before the capture, in which kernels are chosen and Adam's moments made


class CudaGraphs:
    """What PyTorch has for it."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def aside(self, call: Callable[[], T]) -> T:
        """Run a call on a stream of its own, as one must before a capture."""
        main = torch.cuda.current_stream()
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            result = call()
        main.wait_stream(self._stream)
        return result

    def capture(self, call: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """Record a call without running it: what replays it, and where its results will be."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the one that pins crops, go on with their own business meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = call()
        return graph.replay, result


def graphs() -> CudaGraphs | None:
    """What to capture with; None where steps are not replayed, see `device.captures`."""
    return CudaGraphs() if device.captures() else None


class Replayed:
    """A function whose calls are replayed once they are warm.

    Args:
        function: called with a key and tensors, all on the GPU. It computes with tensors alone,
            waits for nothing, and what it changes, it changes in place. It returns a tensor.
        graphs: see `graphs`; None: every call is a plain one.
    """

    def __init__(self, function: Callable[..., Tensor], graphs: Any) -> None:
        self.function, self.graphs = function, graphs
        self._kind: Hashable = None
        self._forget()

    def _forget(self) -> None:
        self._warm, self._replay, self._result = 0, None, None
        self._inputs: list[Tensor] = []

    def __call__(self, key: Hashable, *inputs: Any) -> Tensor:
        """function(key, *inputs), once.

        There is one graph at a time: another key or other shapes begin a new one. What a replayed
        call returns lasts until the next.
        """
        if self.graphs is None:
            return self.function(key, *inputs)
        kind = key, tuple((tuple(t.shape), t.dtype) for t in inputs)
        if kind != self._kind:
            self._forget()
            self._kind = kind
        if self._replay is None:
            if self._warm < WARM:
                self._warm += 1
                return self.graphs.aside(lambda: self.function(key, *inputs))
            self._inputs = [t.clone() for t in inputs]
            try:
                self._replay, self._result = self.graphs.capture(
                    lambda: self.function(key, *self._inputs)
                )
            except RuntimeError as error:
                first = str(error).strip().split("\n")[0]
                log.warning("steps are not replayed as CUDA graphs, which costs time: %s", first)
                self.graphs = None
                self._forget()
                return self.function(key, *inputs)
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given)
        self._replay()
        return self._result


def scalar(value: float, on: torch.device) -> float | Tensor:
    """A number that changes from step to step: in a tensor on a GPU, so that it can be replayed."""
    return value if on.type == "cpu" else torch.full((), value, device=on)


def adam(parameters: Iterable[Tensor], rate: float) -> torch.optim.Adam:
    """Adam, on a GPU with its rate and its count of steps there."""
    parameters = list(parameters)
    on = parameters[0].device
    return torch.optim.Adam(parameters, lr=scalar(rate, on), capturable=on.type != "cpu")


def set_rate(optimiser: torch.optim.Adam, rate: float | Tensor) -> None:
    """Set the learning rate, in place where it is a tensor."""
    group = optimiser.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)
    else:
        group["lr"] = float(rate)
