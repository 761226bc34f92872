"""Does the code still compute the stored run? Its first iterations, again, beside its log."""

from pathlib import Path

import pandas as pd

from metastyle import project, splits
from metastyle.errors import InputError
from metastyle.losses import Perceptual
from metastyle.params import read
from metastyle.training import Images, MetaTraining, meta_train
from metastyle.vgg import load_vgg


def replay(params: str | Path, iterations: int) -> pd.DataFrame:
    """Meta-train for the first iterations of the stored run and compare.

    Returns:
        Per iteration the `stored` and the `replayed` outer loss and the `difference` of the
        second from the first, relative. Rounding alone makes a difference that grows slowly:
        below one in a thousand over twenty iterations for operations in another order.

    Raises:
        InputError: there is no log of a stored run.
    """
    root, inputs, _ = project.paths(params)
    file = inputs / "meta_train" / "log.csv"
    if not file.is_file():
        raise InputError(f"{file}: no log of a stored run; run 'dvc pull' or 'dvc repro'")
    data = read(params, "data", splits.Data)
    perceptual = read(params, "perceptual", Perceptual)
    settings = read(params, "meta_train", MetaTraining).model_copy(
        update={"iterations": iterations, "last_iterations": 0, "snapshots": []}
    )
    sets = splits.read(inputs / "splits.csv", data, root)
    images = Images(sets["photo/inner"], sets["photo/outer"], sets["artwork/train"])
    features = load_vgg(root / data.vgg, perceptual.feature_scale)
    log = meta_train(settings, perceptual, images, features).log
    stored = pd.read_csv(file)["loss"].head(iterations)
    table = pd.DataFrame({"stored": stored, "replayed": log["loss"]})
    table["difference"] = table["replayed"] / table["stored"] - 1
    return table.set_axis(pd.Index(log["iteration"]))
