"""What a result was computed on; `python -m metastyle.evaluation.machine FILE` writes it."""

import os
import platform
import sys
from importlib.metadata import version

import torch

from metastyle.config import Project
from metastyle.core import device
from metastyle.core.code import ROOT
from metastyle.files import write_json

has_bfloat16 = device.has_bfloat16


def fingerprint() -> dict[str, str | int]:
    """Processor, cores, threads, accelerator and torch version: what decides a time."""
    return {
        "processor": device.processor(),
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


if __name__ == "__main__":
    device.use(Project(ROOT / "params.yaml"))
    write_json(sys.argv[1], fingerprint())
