"""Add the stages of pending.yaml to dvc.yaml: experiments that have not been run at full size yet.

    python tools/add_pending.py

They are kept apart because `dvc repro` would run them, for hours, in every clone. A stage that both
files have is replaced.
"""

from pathlib import Path

import yaml

from metastyle.files import replacing


def add(pipeline: Path, pending: Path) -> None:
    """Write the stages of `pending` into `pipeline`, whose comments are lost."""
    values = yaml.safe_load(pipeline.read_text())
    values["stages"] |= yaml.safe_load(pending.read_text())["stages"]
    with replacing(pipeline) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False))


if __name__ == "__main__":
    add(Path("dvc.yaml"), Path("pending.yaml"))
