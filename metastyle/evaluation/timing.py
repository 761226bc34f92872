"""Timing a call, warmed up, synchronised and repeated within a budget; and on which machine.

`python -m metastyle.evaluation.timing FILE` writes the machine as JSON.
"""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from metastyle.config import Project
from metastyle.core import device
from metastyle.core.code import ROOT
from metastyle.evaluation.statistics import number
from metastyle.files import replacing

has_bfloat16 = device.has_bfloat16


class Timing(NamedTuple):
    """Seconds: median and quartiles over `repeats` calls."""

    median: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        return f"{number(self.median)} [{number(self.low)}, {number(self.high)}]"

    def scaled(self, factor: float) -> "Timing":
        """The time of `factor` such calls, extrapolated."""
        return Timing(self.median * factor, self.low * factor, self.high * factor, self.repeats)

    def over(self, other: "Timing") -> "Timing":
        """Ratio of the medians, and the range from quartile over opposite quartile."""
        return Timing(
            self.median / other.median,
            self.low / other.high,
            self.high / other.low,
            min(self.repeats, other.repeats),
        )


def summary(seconds: Sequence[float]) -> Timing:
    """Median and quartiles of repeats."""
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(seconds))


def measure(call: Callable[[], object], *, budget: float, repeats: tuple[int, int]) -> Timing:
    """Time a call.

    One call warms up and is not counted. Then at least `repeats[0]` calls, and more until
    `budget` seconds are spent or `repeats[1]` calls are made.
    """
    call()
    seconds: list[float] = []
    least, most = repeats
    while len(seconds) < least or (sum(seconds) < budget and len(seconds) < most):
        device.synchronise()
        start = time.perf_counter()
        call()
        device.synchronise()
        seconds.append(time.perf_counter() - start)
    return summary(seconds)


class Stopwatch:
    """Adds up the seconds that pass while it runs; `pause` and `resume` may repeat."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def resume(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> float:
        """Stop and tell the seconds so far."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None
        return self.seconds


def time_in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    least: int = 1,
    budget: float = math.inf,
) -> pd.DataFrame:
    """Seconds of calls that take turns, so that a machine's moods meet all alike.

    `repeats` turns, or fewer once `least` are made and `budget` seconds spent. The first turn
    warms up and is not counted, unless it alone outlasts the budget: beside so long a turn
    what warming up adds is little. Returns one row per turn and one column per call; compare
    calls by the ratios of a row.
    """
    rows: list[dict[str, float]] = []
    warm, spent = False, 0.0
    while len(rows) < repeats and (len(rows) < least or spent < budget):
        row = {}
        for name, call in calls.items():
            device.synchronise()
            start = time.perf_counter()
            call()
            device.synchronise()
            row[name] = time.perf_counter() - start
        if warm or sum(row.values()) > budget:
            rows.append(row)
            spent += sum(row.values())
        warm = True
    return pd.DataFrame(rows)


def fingerprint() -> dict[str, str | int]:
    """Processor, cores, threads, accelerator and torch version: what decides a time."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "accelerator": device.accelerator(),
        "system": platform.system(),
        "torch": torch.__version__,
    }


def versions() -> str:
    """One line for the head of a notebook: machine and versions of what computes."""
    machine = fingerprint()
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "torchvision", "numpy", "pillow"))
    return (
        f"{machine['processor']}, {machine['cores']} cores, accelerator {machine['accelerator']}; "
        f"Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    device.use(Project(ROOT / "params.yaml"))
    with replacing(sys.argv[1]) as file:
        file.write_text(json.dumps(fingerprint(), indent=1) + "\n")
