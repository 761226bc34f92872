"""Networks on disk: safetensors with a format version, never pickles."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metastyle.config import InputError, Project
from metastyle.core import device
from metastyle.core.network import TransformerNet
from metastyle.files import replacing

FORMAT, OLD = "2", "1"  # the old one: adapted to the features of other VGG-16 weights
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


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    if not path.is_file():
        raise InputError(f"{path}: no such network file; run 'dvc pull' or 'dvc repro'")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); replace it") from None


def load_info(path: str | Path) -> dict[str, Any]:
    """The description that `save_tensors` wrote.

    Raises:
        InputError: missing, not safetensors, not written by this project or damaged, or of a
            format that this code does not read.
    """
    with _opened(path := Path(path)) as file:
        described = (file.metadata() or {}).get("metastyle")
    if described is None:
        raise InputError(f"{path}: no MetaStyle metadata; use a file that this project wrote")
    try:
        info = json.loads(described)
    except json.JSONDecodeError:
        info = None
    if not isinstance(info, dict):
        raise InputError(f"{path}: its MetaStyle metadata is damaged; replace it")
    if info.get("format") == OLD:
        raise InputError(
            f"{path}: was made with other VGG-16 weights (format {OLD}); adapt the painting again"
        )
    if info.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {info.get('format')!r} is not supported; this code reads {FORMAT!r}"
        )
    return info


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, `compact` or not, and its description.

    Raises:
        InputError: see `load_info`; also if the scale of filters does not fit them.
    """
    info = load_info(path := Path(path))
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for scale in [name for name in tensors if name.startswith(SCALE)]:
        filters = tensors.get(name := scale.removeprefix(SCALE))
        one_each = None if filters is None else (*filters.shape[:-3], 1, 1, 1)
        if filters is None or filters.dim() < 3 or tensors[scale].shape != one_each:
            raise InputError(f"{path}: the scale of {name} does not fit it; replace the file")
        tensors[name] = filters * tensors.pop(scale)
    return tensors, info


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of `load_tensors`, which must be weights.

    Raises:
        InputError: see there; also if a tensor holds something else than finite numbers.
    """
    tensors, _ = load_tensors(path)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds no finite numbers; replace the file")
    return tensors


def save_network(
    path: str | Path, parameters: dict[str, Tensor], info: dict[str, Any], *, small: bool = False
) -> None:
    """Write a network's parameters, with `small` as `compact` has them."""
    save_tensors(path, compact(parameters) if small else parameters, info)


def load_network(path: str | Path) -> TransformerNet:
    """Read a network in float32, to `device.chosen`.

    Raises:
        InputError: see `load_weights`; also if the tensors are not this network's.
    """
    tensors = load_weights(path)
    network = TransformerNet()
    expected = {name: tuple(p.shape) for name, p in network.named_parameters()}
    if {name: tuple(t.shape) for name, t in tensors.items()} != expected:
        raise InputError(f"{path}: holds something else than a TransformerNet; choose another")
    network.load_state_dict({name: t.float() for name, t in tensors.items()})
    return network.to(device.chosen())


def load_neutral(project: Project) -> TransformerNet:
    """The style-neutral network, the result of stage `meta_train`; see `load_network`.

    From here on the process computes as the project says, see `device.use`.
    """
    device.use(project)
    return load_network(project.inputs / "meta_train" / "network.safetensors")
