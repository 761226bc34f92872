"""Reading params.yaml: the single place where its values are parsed and type-checked."""

from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metastyle.errors import InputError


class Section(BaseModel):
    """Base of every typed section: unknown keys are refused, values cannot be changed.

    Numbers may arrive as strings: PyYAML, unlike DVC, reads `1e-5` as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)

# First words of a params.yaml that `metastyle params` wrote; other sizes cannot extend it.
MADE = "# Made from "

# Pixels. VGG-16 halves an image four times, the network twice; `stylise` pads, training does not.
ImageSide = Annotated[int, Field(ge=16)]
CropSide = Annotated[int, Field(ge=16, multiple_of=4)]
Probability = Annotated[float, Field(ge=0, le=1)]


def load(path: str | Path) -> dict:
    """All values of a parameter file, untyped.

    A top-level key `extends` names another parameter file, relative to this one, whose
    values hold where this one gives none.

    Raises:
        InputError: the file is missing or is not a YAML mapping.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such parameter file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML ({reason})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a parameter file; it must hold sections")
    base = values.pop("extends", None)
    if base is None:
        return values
    if (path.parent / base).read_text().startswith(MADE):
        raise InputError(
            f"{base}: was made from another size; run 'git checkout params.yaml' first"
        )
    return _merge(load(path.parent / base), values)


def _merge(base: dict, over: dict) -> dict:
    both = {
        key: _merge(base[key], value)
        for key, value in over.items()
        if isinstance(base.get(key), dict) and isinstance(value, dict)
    }
    return base | over | both


def read(path: str | Path, section: str, schema: type[S]) -> S:
    """Return one section of a parameter file as `schema`.

    Args:
        path: the parameter file, e.g. `params.yaml`.
        section: top-level key, or a dotted one such as `methods.gatys`.
        schema: the section's type; it lives in the module that uses the values.

    Raises:
        InputError: the file or the section is missing, a key is unknown or missing, or a value
            has the wrong type. The message names the file and the full key.
    """
    values = load(path)
    for key in section.split("."):
        if not isinstance(values, dict) or key not in values:
            raise InputError(f"{path}: section '{section}' is missing; add it")
        values = values[key]
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([section, *map(str, first["loc"])])
        raise InputError(f"{path}: {key}: {_explain(first, schema)}") from None


def _explain(error: dict, schema: type[Section]) -> str:
    if error["type"] == "extra_forbidden":
        if len(error["loc"]) == 1:
            return f"unknown parameter; known ones are {', '.join(schema.model_fields)}"
        return "unknown parameter; remove it or correct its spelling"
    if error["type"] == "missing":
        return "parameter is missing; add it"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{message}, got {error['input']!r}"
