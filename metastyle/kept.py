"""Results of long computations, kept so that the same call after a kill goes on behind them."""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from metastyle.checkpoint import load_tensors, save_tensors
from metastyle.files import replacing
from metastyle.params import Section


def fingerprint(*decides: Any, code: Sequence[str] | None = None) -> str:
    """A hash of everything given, of the library's modules in use and of the versions they run on.

    Args:
        code: of the modules in use those that count, by their names in the package; None: all.
        decides: sections of parameters, files (their names and content count), tensors,
            networks (with their buffers), what JSON knows, and lists of these.
    """
    digest = hashlib.sha256()
    package = __name__.partition(".")[0]
    names = sorted(n for n in sys.modules if n.partition(".")[0] == package)
    for name in names:
        if code is None or name.partition(".")[2] in code:
            digest.update(Path(sys.modules[name].__file__).read_bytes())
    for used in ("torch", "torchvision", "pillow"):
        digest.update(version(used).encode())
    for value in decides:
        digest.update(_digest(value))
    return digest.hexdigest()[:24]


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


def kept_table(
    cache: Path | None, decides: list[Any], compute: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """What `compute` returns, read back if an earlier call with the same `decides` wrote it.

    Args:
        cache: a folder, see `training.cache_folder`; None: nothing is kept.
        decides: all that the table depends on, see `fingerprint`.

    Returns:
        Columns of numbers and text with a plain index; the same values to the last bit,
        whether computed or read.
    """
    if cache is None:
        return compute()
    file = cache / "tables" / f"{fingerprint(*decides)}.csv"
    if not file.is_file():
        with replacing(file) as temporary:
            compute().to_csv(temporary, index=False)
    return pd.read_csv(file)


def kept_tensors(
    cache: Path | None, decides: list[Any], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `compute` returns, read back if an earlier call with the same `decides` wrote it.

    Args:
        cache: a folder, see `training.cache_folder`; None: nothing is kept.
        decides: all that the tensors depend on, see `fingerprint`.

    Returns:
        The tensors, on the CPU, the same to the last bit whether computed or read.
    """
    if cache is None:
        return {name: tensor.detach().cpu() for name, tensor in compute().items()}
    file = cache / "tensors" / f"{fingerprint(*decides)}.safetensors"
    if not file.is_file():
        save_tensors(file, compute(), {"kind": "kept tensors"})
    return load_tensors(file)[0]
