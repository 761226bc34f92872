"""Networks on disk: safetensors with a format version, never pickles."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metastyle.errors import InputError
from metastyle.files import replacing
from metastyle.transformer import TransformerNet

FORMAT = "1"


def save_tensors(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write tensors and a JSON-able description, atomically."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One key, sorted inside: the order of several keys in the file varies between runs.
    described = json.dumps({"format": FORMAT, **info}, sort_keys=True)
    with replacing(path) as temporary:
        save_file(flat, temporary, metadata={"metastyle": described})


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: missing, not safetensors, not written by this project, or of a format
            version that this code does not know.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such network file; run 'dvc pull' or 'dvc repro'")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("metastyle")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); replace it") from None
    if described is None:
        raise InputError(f"{path}: no MetaStyle metadata; use a file that this project wrote")
    info = json.loads(described)
    if info.get("format") != FORMAT:
        raise InputError(
            f"{path}: checkpoint version {info.get('format')!r} is not supported; "
            f"this code reads version {FORMAT!r}"
        )
    return tensors, info


def save_network(
    path: str | Path, parameters: dict[str, Tensor], info: dict[str, Any], *, half: bool = False
) -> None:
    """Write a network's parameters, in float16 with `half` (half the space, for results
    that can be made again; rounding moves a rendered pixel by well under one level of 255)."""
    dtype = torch.float16 if half else torch.float32
    save_tensors(path, {n: p.to(dtype) for n, p in parameters.items()}, info)


def load_network(path: str | Path) -> TransformerNet:
    """Read a network in float32; moves to the GPU where there is one.

    Raises:
        InputError: see `load_tensors`; also if the tensors are not this network's.
    """
    tensors, _ = load_tensors(path)
    network = TransformerNet()
    expected = {name: tuple(p.shape) for name, p in network.named_parameters()}
    if {name: tuple(t.shape) for name, t in tensors.items()} != expected:
        raise InputError(f"{path}: holds something else than a TransformerNet; choose another")
    network.load_state_dict({name: t.float() for name, t in tensors.items()})
    return network.to("cuda" if torch.cuda.is_available() else "cpu")
