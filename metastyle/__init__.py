"""MetaStyle, replicated: a network for any painting from a few updates of a style-neutral one."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"
_WHERE = {
    "adapt": "adaptation.adapt",
    "stylise": "core.network",
    "load_network": "core.checkpoint",
    "save_network": "core.checkpoint",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
