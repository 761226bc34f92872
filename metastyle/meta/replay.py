"""Does the code still compute the stored run? Its first iterations, again, beside its log."""

import pandas as pd

from metastyle.config import InputError, Project
from metastyle.core import splits
from metastyle.core.checkpoint import load_network
from metastyle.core.losses import load_loss
from metastyle.meta.loader import MetaTraining, training_images
from metastyle.meta.train import meta_train


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
