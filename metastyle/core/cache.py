"""Results of long computations, and states of unfinished ones, kept outside the project.

Both lie under a key made of everything that decides them: settings, files, networks, the code
that computes and the versions that it runs on.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from metastyle.config import Section
from metastyle.core import code
from metastyle.core.checkpoint import load_tensors, save_tensors
from metastyle.files import replacing

Parts = dict[str, dict[str, Tensor]]


def cache_folder() -> Path:
    """Where results and states are kept: METASTYLE_CACHE, by default ~/.cache/metastyle."""
    return Path(os.environ.get("METASTYLE_CACHE") or Path.home() / ".cache" / "metastyle")


def key(*decides: Any, by: Iterable[str]) -> str:
    """A hash of everything given.

    Args:
        decides: sections of parameters, files (their names and content count), tensors,
            networks (with their buffers), what JSON knows, and lists and tuples of these.
        by: the modules that compute; what they import counts too, see `core.code`.
    """
    found = hashlib.sha256(code.digest(*by).encode())
    for used in ("torch", "torchvision", "pillow"):
        found.update(version(used).encode())
    for value in decides:
        found.update(_digest(value))
    return found.hexdigest()[:24]


def digest(*values: Any) -> str:
    """A hash of what `key` may be given, and of nothing else."""
    return hashlib.sha256(b"".join(_digest(value) for value in values)).hexdigest()[:24]


def _digest(value: Any) -> bytes:
    match value:
        case Section():
            content = value.model_dump_json().encode()
        case Path():
            content = value.name.encode() + b"\0" + value.read_bytes()
        case Tensor():
            described = f"{value.dtype} {tuple(value.shape)}".encode()
            content = described + value.detach().cpu().contiguous().numpy().tobytes()
        case nn.Module():
            tensors = [*value.named_parameters(), *value.named_buffers()]
            content = b"".join(name.encode() + _digest(tensor) for name, tensor in tensors)
        case list() | tuple():
            content = b"".join(_digest(item) for item in value)
        case _:
            content = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(type(value).__name__.encode() + b"\0" + content).digest()


def kept_table(file: Path | None, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `compute` returns, read back if an earlier call wrote it.

    Args:
        file: a CSV file whose name holds a `key`; None: nothing is kept.

    Returns:
        Columns of numbers and text with a plain index; the same values to the last bit,
        whether computed or read.
    """
    if file is None:
        return compute()
    if not file.is_file():
        with replacing(file) as temporary:
            compute().to_csv(temporary, index=False)
    return pd.read_csv(file)


def kept_tensors(file: Path | None, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `compute` returns, read back if an earlier call wrote it; on the CPU, the same to the
    last bit whether computed or read.

    Args:
        file: a safetensors file whose name holds a `key`; None: nothing is kept.
    """
    if file is None:
        return {name: tensor.detach().cpu() for name, tensor in compute().items()}
    if not file.is_file():
        save_tensors(file, compute(), {"kind": "kept tensors"})
    return load_tensors(file)[0]


def save_state(
    file: Path,
    parameters: dict[str, Tensor],
    optimiser: torch.optim.Adam,
    parts: Parts,
    info: dict[str, Any] | None = None,
) -> None:
    """Write what an unfinished training goes on from.

    Args:
        parameters: by name; the optimiser's, in any order.
        parts: named groups of whatever else there is, such as a log or an average.
        info: what JSON knows, for `checkpoint.load_info`.
    """
    groups = {"parameter": parameters, **parts}
    for name, parameter in parameters.items():
        # A parameter that the loss does not see has no moments.
        for kind, value in optimiser.state.get(parameter, {}).items():
            groups.setdefault(f"adam.{kind}", {})[name] = value
    flat = {f"{group}/{name}": t for group, found in groups.items() for name, t in found.items()}
    save_tensors(file, flat, {"kind": "resume state", **(info or {})})


@torch.no_grad()
def load_state(file: Path, parameters: dict[str, Tensor], optimiser: torch.optim.Adam) -> Parts:
    """Set parameters and the optimiser's moments to what `save_state` wrote; return its parts."""
    groups: Parts = {}
    for name, tensor in load_tensors(file)[0].items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    for name, value in groups.pop("parameter").items():
        parameters[name].copy_(value)
    for group in [group for group in groups if group.startswith("adam.")]:
        kind = group.removeprefix("adam.")
        for name, value in groups.pop(group).items():
            parameter = parameters[name]
            stays = kind == "step" and not optimiser.defaults["capturable"]
            optimiser.state[parameter][kind] = value if stays else value.to(parameter.device)
    return groups
