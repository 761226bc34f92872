"""Methods by name: a method is a module of this package and a line of params.yaml."""

from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from metastyle.baselines import Baseline, Context, Method
from metastyle.config import InputError, Section

HELPERS = {"registry", "training", "quality"}


class _Names(Section):
    model_config = ConfigDict(extra="allow")


def names(params: str | Path) -> list[str]:
    """The methods of a parameter file, in its order.

    Raises:
        InputError: the file has no section `methods`.
    """
    return list(_Names.read(params, "methods").model_extra)


def module(name: str) -> Baseline:
    """The module of a method.

    Raises:
        InputError: there is no such method.
    """
    found = {path.stem for path in Path(__file__).parent.glob("[a-z]*.py")} - HELPERS
    if name not in found:
        raise InputError(f"methods.{name}: unknown method; known: {', '.join(sorted(found))}")
    return import_module(f"{__package__}.{name}")


def load(name: str, params: str | Path, context: Context, **changes: Any) -> Method:
    """Build a method with its section of the parameter file.

    Args:
        changes: settings to replace, where the method has them.

    Raises:
        InputError: there is no such method, or its parameters are wrong.
    """
    method = module(name)
    settings = method.Settings.read(params, f"methods.{name}")
    known = {key: value for key, value in changes.items() if key in method.Settings.model_fields}
    return method.build(settings.changed(**known), context)
