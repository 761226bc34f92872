"""Networks on disk: safetensors with a format version, never pickles."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metastyle.config import InputError, Project
from metastyle.core.network import TransformerNet
from metastyle.files import replacing

FORMAT = "1"
SCALE = "scale of "
FINEST = 127  # levels of either sign that 8 bits hold
LARGE = 1000  # entries of a filter from which fewer levels will do: rounding averages out


def save_tensors(path: str | Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write tensors and a JSON-able description, atomically."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One key, sorted inside: the order of several keys in the file varies between runs.
    described = json.dumps({"format": FORMAT, **info}, sort_keys=True)
    with replacing(path) as temporary:
        save_file(flat, temporary, metadata={"metastyle": described})


def compact(parameters: dict[str, Tensor], levels: int = FINEST) -> dict[str, Tensor]:
    """Parameters in about a quarter of the space, for results that can be made again.

    Filters, which are the last three dimensions, are rounded to 8 bits with a scale for each;
    vectors and matrices to float16. `load_tensors` gives filters back as float32, `load_network`
    all of them.

    Args:
        levels: of either sign, at most 127, for filters of more than `LARGE` entries. The file is
            as long with fewer, but compresses better.
    """
    small = {}
    for name, p in parameters.items():
        if p.dim() < 3:
            small[name] = p.half()
            continue
        largest = p.abs().amax((-3, -2, -1), keepdim=True)
        finest = levels if p.shape[-3:].numel() > LARGE else FINEST
        scale = (largest / finest).clamp(min=torch.finfo(p.dtype).tiny)
        small[name] = (p / scale).round().to(torch.int8)
        small[SCALE + name] = scale
    return small


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, `compact` or not.

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
    for scale in [name for name in tensors if name.startswith(SCALE)]:
        name = scale.removeprefix(SCALE)
        tensors[name] = tensors[name] * tensors.pop(scale)
    return tensors, info


def save_network(
    path: str | Path, parameters: dict[str, Tensor], info: dict[str, Any], *, small: bool = False
) -> None:
    """Write a network's parameters, with `small` as `compact` has them."""
    save_tensors(path, compact(parameters) if small else parameters, info)


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


def load_neutral(project: Project) -> TransformerNet:
    """The style-neutral network, the result of stage `meta_train`; see `load_network`."""
    return load_network(project.inputs / "meta_train" / "network.safetensors")
