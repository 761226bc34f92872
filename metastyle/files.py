"""Writing files so that a killed process never leaves half of one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; rename it to `path` on success.

    Parent folders are created. If the block raises, nothing appears at `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        # A new file of mkstemp or safetensors is private (0600); results are for everybody.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_table(path: str | Path, table: Any, **options: Any) -> None:
    """Write a pandas table as CSV, without its index unless told; atomically.

    Args:
        options: of pandas' `to_csv`.
    """
    with replacing(path) as temporary:
        table.to_csv(temporary, **{"index": False, **options})


def write_json(path: str | Path, value: Any) -> None:
    """Write what JSON knows; atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1))
