"""Does the code still compute the stored run? Its first iterations, again, beside its log."""

import json
from typing import NamedTuple

import pandas as pd

from metastyle.config import InputError, Project
from metastyle.core import device, splits
from metastyle.core.checkpoint import load_network
from metastyle.core.losses import load_loss
from metastyle.meta.loader import MetaTraining, training_images
from metastyle.meta.train import meta_train


class Tolerance(NamedTuple):
    """How far losses may be apart, relative, and what for."""

    value: float
    reason: str


# Rounding differs most between number formats: a GPU's float32 convolutions keep 10 bits of a
# factor, bfloat16 keeps 7. In twelve iterations with crops of 32 pixels the whole path in bfloat16
# came within 0.6 % of float32 without inner steps, and within 1.6 % with one; on a processor.
BFLOAT16 = Tolerance(1e-1, "convolutions in bfloat16")
GPU = Tolerance(3e-2, "steps made on a GPU")
PROCESSOR = Tolerance(1e-2, "steps made on processors in float32")


def tolerance(project: Project, iterations: int) -> Tolerance:
    """What the first iterations of the stored run may differ by, here.

    It depends on the precision, on this machine, and on those that meta_train/run.json lists.
    """
    if MetaTraining.read(project, "meta_train").precision == "bfloat16":
        return BFLOAT16
    file = project.inputs / "meta_train" / "run.json"
    machines = json.loads(file.read_text()).get("machines", []) if file.is_file() else []
    device.use(project)
    made = [machine["accelerator"] for machine in machines if machine["first"] <= iterations]
    return GPU if {device.accelerator(), *made} != {"none"} else PROCESSOR


def replay(project: Project, iterations: int) -> pd.DataFrame:
    """Meta-train for the first iterations of the stored run and compare.

    Returns:
        Per iteration the `stored` and the `replayed` outer loss and the `difference` of the
        second from the first, relative. Rounding alone makes a difference that grows slowly:
        below one in a thousand over twenty iterations for operations in another order.

    Raises:
        InputError: there is no log of a stored run, or the number of iterations is no number.
    """
    file = project.inputs / "meta_train" / "log.csv"
    if not file.is_file():
        raise InputError(f"{file}: no log of a stored run; run 'dvc pull' or 'dvc repro'")
    settings = MetaTraining.read(project, "meta_train")
    first = settings.first(iterations).changed(snapshots=[], average_last=0)
    images = training_images(splits.read(project))
    start = load_network(project.root / settings.start) if settings.start else None
    log = meta_train(first, images, load_loss(project), start=start).log
    stored = pd.read_csv(file)["loss"].head(iterations)
    table = pd.DataFrame({"stored": stored, "replayed": log["loss"]})
    table["difference"] = table["replayed"] / table["stored"] - 1
    return table.set_axis(pd.Index(log["iteration"]))
