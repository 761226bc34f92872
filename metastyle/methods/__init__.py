"""The methods of Table 1 behind one interface.

A method is a module of this package, found by its name: a class `Settings` (its section
`methods.<name>` of params.yaml) and a function `build(settings, resources) -> Method`.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict
from torch import Tensor

from metastyle.adaptation import Adaptation
from metastyle.errors import InputError
from metastyle.losses import Perceptual
from metastyle.params import Section, read
from metastyle.transformer import TransformerNet
from metastyle.vgg import VGG16


class _Names(Section):
    model_config = ConfigDict(extra="allow")


class Resources(NamedTuple):
    """What methods share: the loss, photos to train on and (`validation`) to tell by when to
    stop, and the style-neutral network."""

    features: VGG16
    perceptual: Perceptual
    photos: Sequence[Path]
    start: TransformerNet
    adaptation: Adaptation
    validation: Sequence[Path] = ()


class Printed(NamedTuple):
    """What the paper's Table 1 prints for the method; seconds by image side, on its GPU."""

    parameters: str
    seconds: dict[int, float]


class Method(NamedTuple):
    """One row of Table 1. A state is whatever the method keeps of one style.

    prepare: style (1, 3, H, W) -> state, training included where the method trains.
    ready: the same without training: a state of the right shapes, good for timing only.
    stylise: (state, contents (N, 3, H, W)) -> images in [0, 1], same shape.
    parameters: count, None where the method has no network of its own.
    styles: how many styles one set of parameters serves, as Table 1 puts it.
    updates: iterations inside `stylise`, 1 for a forward pass. Where it is more,
        `stylise` takes `updates=` so that a part can be timed.
    """

    label: str
    parameters: int | None
    styles: str
    updates: int
    prepare: Callable[[Tensor], Any]
    ready: Callable[[Tensor], Any]
    stylise: Callable[..., Tensor]
    printed: Printed


def names(params: str | Path) -> list[str]:
    """The methods of a parameter file, in its order.

    Raises:
        InputError: the file has no section `methods`.
    """
    return list(read(params, "methods", _Names).model_extra)


def load(name: str, params: str | Path, resources: Resources, **changes: Any) -> Method:
    """Build a method by the name of its module, with its section of the parameter file.

    Args:
        changes: settings to replace, where the method has them.

    Raises:
        InputError: there is no such method, or its parameters are wrong.
    """
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        known = ", ".join(sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py")))
        raise InputError(f"{params}: methods.{name}: unknown method; known: {known}") from None
    settings = read(params, f"methods.{name}", module.Settings).model_dump()
    settings |= {key: value for key, value in changes.items() if key in settings}
    return module.build(module.Settings.model_validate(settings), resources)
