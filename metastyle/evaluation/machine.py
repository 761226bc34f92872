"""What a result was computed on; `python -m metastyle.evaluation.machine FILE` writes it."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from metastyle.files import write_json


def fingerprint() -> dict[str, str | int]:
    """Processor, cores, threads, accelerator and torch version: what decides a time."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "accelerator": gpu,
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


def has_bfloat16() -> bool:
    """Whether what computes here has instructions for bfloat16 that PyTorch uses."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    write_json(sys.argv[1], fingerprint())
