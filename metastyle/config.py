"""Parameters and places: params.yaml, read and checked in one place, and the project's folders."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class InputError(ValueError):
    """Bad input. The message is one line that names the file or parameter and the remedy."""


# First words of a parameter file that `metastyle params` wrote; other sizes cannot extend it.
MADE = "# Made from "
BACK = "git checkout params.yaml params dvc.yaml"

# Pixels. VGG-16 halves an image four times, the network twice; `stylise` pads, training does not.
ImageSide = Annotated[int, Field(ge=16)]
CropSide = Annotated[int, Field(ge=16, multiple_of=4)]
Precision = Literal["float32", "bfloat16"]  # of convolutions
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every typed section: unknown keys are refused, values cannot be changed in place.

    Numbers may arrive as strings: PyYAML, unlike DVC, reads `1e-5` as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, params: "str | Path | Project", section: str) -> Self:
        """One section of a parameter file.

        Args:
            section: top-level key, or a dotted one such as `methods.gatys`.

        Raises:
            InputError: the file or the section is missing, a key is unknown or missing, or a
                value has the wrong type. The message names the file and the full key.
        """
        path = Path(params)
        values = load(path)
        for key in section.split("."):
            if not isinstance(values, dict) or key not in values:
                raise InputError(f"{path}: section '{section}' is missing; add it")
            values = values[key]
        return cls._validated(values, f"{path}: {section}")

    def changed(self, **values: Any) -> Self:
        """The same with other values, all of them validated again.

        Raises:
            InputError: a value is not allowed, or there is no such key.
        """
        return self._validated(self.model_dump() | values, "")

    @classmethod
    def _validated(cls, values: Any, where: str) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            place = f"{where}.{key}" if where and key else where or key
            raise InputError(f"{place}: {_explain(first, cls)}") from None


def _explain(error: dict, schema: type[Section]) -> str:
    if error["type"] == "extra_forbidden":
        if len(error["loc"]) == 1:
            return f"unknown parameter; known ones are {', '.join(schema.model_fields)}"
        return "unknown parameter; remove it or correct its spelling"
    if error["type"] == "missing":
        return "parameter is missing; add it"
    message = error["msg"][0].lower() + error["msg"][1:]
    return message if isinstance(error["input"], dict) else f"{message}, got {error['input']!r}"


def load(path: str | Path) -> dict[str, Any]:
    """All values of a parameter file, untyped.

    Two top-level keys name other files, relative to this one: the sections of those under
    `include` are added to this file's, and values of `extends` hold where this one gives none.

    Raises:
        InputError: a file is missing, extends itself, or is not a YAML mapping.
    """
    return _load(Path(path), ())


def _load(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise InputError(f"{path}: extends or includes itself; correct `extends` or `include`")
    values, above = _mapping(path), (*above, path.resolve())
    for name in included(path, values):
        values = _merge(_load(path.parent / name, above), values)
    base = values.pop("extends", None)
    values.pop("include", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: must name one parameter file, got {base!r}")
    below = _load(path.parent / base, above)
    if (path.parent / base).read_text().startswith(MADE):
        raise InputError(f"{base}: was made from another size; run '{BACK}' first")
    return _merge(below, values)


def included(path: Path, values: dict[str, Any]) -> list[str]:
    """The files under `include`, as they are written there."""
    names = values.get("include") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: include: must be a list of parameter files, got {names!r}")
    return names


def _mapping(path: Path) -> dict[str, Any]:
    import yaml  # not needed to restyle a photo

    try:
        values = yaml.safe_load(path.read_text())
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such parameter file") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this parameter file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML ({reason})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a parameter file; it must hold sections")
    return values


def _merge(base: dict, over: dict) -> dict:
    """Both; where both have a key, mappings are merged and otherwise `over` wins."""
    both = {
        key: _merge(base[key], value)
        for key, value in over.items()
        if isinstance(base.get(key), dict) and isinstance(value, dict)
    }
    return base | over | both


class Paths(Section):
    """Section `paths`: folders relative to the project root."""

    inputs: Path  # results of earlier stages
    outputs: Path  # this stage's results; another folder keeps a trial run off the pipeline's


class Project:
    """A parameter file and what lies around it; may stand wherever the file's path may.

    root: the nearest folder above it that holds dvc.yaml. inputs: where results of earlier
    stages are found. outputs: where results go.

    Raises:
        InputError: there is no such file, or no dvc.yaml above it.
    """

    def __init__(self, params: str | Path) -> None:
        self.params = Path(params)
        for folder in self.params.resolve().parents:
            if (folder / "dvc.yaml").is_file():
                break
        else:
            raise InputError(f"{params}: not inside the project (no dvc.yaml above it)")
        paths = Paths.read(params, "paths")
        self.root = folder
        self.inputs, self.outputs = folder / paths.inputs, folder / paths.outputs

    def __fspath__(self) -> str:
        return str(self.params)
