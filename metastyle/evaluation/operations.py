"""What a call costs besides seconds: floating-point operations, which a machine's ceiling turns
into the least time that it can take, and memory."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from metastyle.core import device
from metastyle.core.gradients import in_this_thread
from metastyle.evaluation.timing import time_in_turns

GIB = 2**30


class _Whole(nullcontext):
    """In place of a counter's module tracker, whose hooks refuse a gradient by a module's input."""

    parents = ("Global",)


def operations(call: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and matrix products, in GFLOP."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Whole()
    with in_this_thread(), counter:
        call()
    return counter.get_total_flops() / 1e9


def ceilings(seconds: float) -> dict[str, float]:
    """GFLOP/s of a large matrix product and of a convolution of VGG's, by number format.

    Where the processor has no bfloat16 instructions that format is slower by orders of
    magnitude, so it gets smaller ones.

    Args:
        seconds: for each of the four measurements; the best quarter of the repeats counts.
    """
    found = {}
    for dtype, side, pixels in ((torch.float32, 2048, 128), (torch.bfloat16, 512, 32)):
        a = torch.rand(side, side, dtype=dtype)
        shapes = (1, 128, pixels, pixels), (128, 128, 3, 3)
        x, weight = (torch.rand(shape, dtype=dtype) for shape in shapes)
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        calls = {
            "matrix product": (partial(torch.mm, a, a), 2 * side**3),
            "convolution": (partial(F.conv2d, x, weight, padding=1), 18 * 128**2 * pixels**2),
        }
        for name, (call, work) in calls.items():
            turns = time_in_turns({name: call}, repeats=1000, least=3, budget=seconds)
            kind = f"{name} {str(dtype).removeprefix('torch.')}"
            found[kind] = work / turns[name].quantile(0.25) / 1e9
    return found


def ceiling(rates: Mapping[str, float], dtype: str = "float32") -> float:
    """The better of the `ceilings` of a number format."""
    return max(rate for name, rate in rates.items() if name.endswith(f" {dtype}"))


def held(kind: str) -> float:
    """Memory of this process in GiB (Linux): VmRSS, what it holds; VmHWM, the most it ever held.

    Not getrusage's ru_maxrss: a process inherits that from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 2**20


def forget_peak() -> float:
    """Begin a new peak, on the GPU where there is one; GiB held now.

    Raises:
        OSError: neither a GPU nor Linux tells.
    """
    if device.on_gpu():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / GIB
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def peak() -> float:
    """The most GiB held since `forget_peak`."""
    if device.on_gpu():
        return torch.cuda.max_memory_allocated() / GIB
    return held("VmHWM")


def in_child(module: str, *arguments: str, **environment: str) -> Any:
    """What `python -m module arguments` prints last, as JSON: memory is measured in a process
    that does nothing else.

    Args:
        environment: variables that differ from this process's.

    Raises:
        RuntimeError: it failed; with the end of what it wrote to standard error.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])
