"""A small meta-training in a process of its own.

    python train_process.py STATE OUT [ITERATION [after | saving]]

With ITERATION the process kills itself (SIGKILL) after that iteration, or half way through
saving its state.
"""

import os
import signal
import sys
from pathlib import Path

from conftest import ROOT, SMOKE
from safetensors.torch import save

from metastyle.core import checkpoint, splits
from metastyle.core.checkpoint import save_network
from metastyle.core.losses import Perceptual
from metastyle.config import read
from metastyle.meta.train import Images, MetaTraining, meta_train
from metastyle.core.vgg import load_vgg


def write_half_and_die(tensors, path, metadata):
    Path(path).write_bytes(save(tensors, metadata)[:1000])
    os.kill(os.getpid(), signal.SIGKILL)


def main(state: str, out: str, kill_after: int = 0, moment: str = "after") -> None:
    data = read(SMOKE, "data", splits.Data)
    perceptual = read(SMOKE, "perceptual", Perceptual)
    settings = read(SMOKE, "meta_train", MetaTraining)
    settings = settings.model_copy(
        update={
            "iterations": 4,
            "checkpoint_minutes": 0.0,
            "average_last": 3,
            "snapshots": [0, 2, 3, 4],
            "last_iterations": 2,
            "last_size": 48,
        }
    )
    photos = sorted((ROOT / data.photos).iterdir())[:6]
    artworks = sorted((ROOT / data.artworks).iterdir())[:3]
    vgg = load_vgg(ROOT / data.vgg, perceptual.feature_scale)

    def callback(progress):
        print("iteration", int(progress.row["iteration"]), flush=True)
        if progress.row["iteration"] == kill_after - (moment == "saving"):
            if moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            checkpoint.save_file = write_half_and_die

    images = Images(photos[:3], photos[3:], artworks)
    result = meta_train(settings, perceptual, images, vgg, cache=Path(state), callback=callback)
    save_network(Path(out) / "network.safetensors", dict(result.network.named_parameters()), {})
    for iteration, snapshot in result.snapshots.items():
        save_network(Path(out) / f"{iteration}.safetensors", snapshot, {})
    result.log.to_csv(Path(out) / "log.csv")


if __name__ == "__main__":
    state, out, *kill = sys.argv[1:]
    main(state, out, *map(int, kill[:1]), *kill[1:])
