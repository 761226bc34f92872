"""Where this process computes, by section `compute`: the only place that asks for CUDA.

The setting holds for the process. What reads a project's networks (`load_loss`, `load_neutral`)
takes it over from there; before, and where there is no project, it is `auto`.
"""

import os
import platform
from pathlib import Path
from typing import Literal

import torch

from metastyle.config import InputError, Project, Section


class Compute(Section):
    """Section `compute`: how a machine computes, as opposed to what.

    device: `auto` is the GPU where there is one. capture: whether training steps on a GPU are
    replayed as CUDA graphs, see `core.capture`.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    capture: bool = True


_setting = Compute()


def use(setting: Compute | Project) -> None:
    """Compute like this from here on.

    Raises:
        InputError: the section is not in order, or asks for a GPU where there is none.
    """
    global _setting
    if isinstance(setting, Project):
        setting = Compute.read(setting, "compute")
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise InputError("compute.device: no CUDA device here; use auto or cpu")
    _setting = setting


def chosen() -> torch.device:
    """The device of this process: one process of torchrun's has the GPU of its local rank."""
    if _setting.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def on_gpu() -> bool:
    return chosen().type == "cuda"


def captures() -> bool:
    """Whether training steps are replayed as CUDA graphs."""
    return _setting.capture and on_gpu()


def synchronise() -> None:
    """Wait until the GPU has done all that it was given; without one there is nothing to do."""
    if on_gpu():
        torch.cuda.synchronize()


def accelerator() -> str:
    """The GPU's name, or `none`."""
    return torch.cuda.get_device_name(chosen()) if on_gpu() else "none"


def has_bfloat16() -> bool:
    """Whether what computes here has instructions for bfloat16 that PyTorch uses."""
    if on_gpu():
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def described() -> dict[str, str]:
    """What computes here, for a run's list of machines."""
    found = {"processor": processor(), "accelerator": accelerator()}
    return {**found, "torch": torch.__version__}
