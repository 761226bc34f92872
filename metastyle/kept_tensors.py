"""Images and networks of long computations, kept as `kept.kept_table` keeps tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from metastyle.checkpoint import load_tensors, save_tensors
from metastyle.kept import fingerprint


def kept_tensors(
    cache: Path | None, decides: list[Any], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `compute` returns, read back if an earlier call with the same `decides` wrote it.

    Args:
        cache: a folder, see `training.cache_folder`; None: nothing is kept.
        decides: all that the tensors depend on, see `kept.fingerprint`.

    Returns:
        The tensors, on the CPU, the same to the last bit whether computed or read.
    """
    if cache is None:
        return {name: tensor.detach().cpu() for name, tensor in compute().items()}
    file = cache / "tensors" / f"{fingerprint(*decides)}.safetensors"
    if not file.is_file():
        save_tensors(file, compute(), {"kind": "kept tensors"})
    return load_tensors(file)[0]
