"""Chapter 12, the runs: a method of Table 1 that trains one network for all styles."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm

from metastyle.baselines import Context, Trainable, registry, training
from metastyle.config import Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.checkpoint import save_tensors
from metastyle.core.losses import load_loss
from metastyle.evaluation.metrics import psnr
from metastyle.files import write_table

SHOWN = 4  # validation photos, and held-out styles, over which the rounding is measured


class Run(NamedTuple):
    """A finished training: the network as it was trained, and the file that is kept of it."""

    method: Trainable
    settings: Section
    schedule: training.Run
    network: nn.Module
    log: pd.DataFrame
    styles: list[Tensor]
    file: Path


def run(project: Project, name: str) -> Run:
    """Train one method; write the log and what is kept of the network to results.

    Kept is the decoder, without the frozen encoder, its large filters rounded to `levels`; of
    Shen's hypernetwork, which is larger than everything else here, the networks that it
    generates for the held-out artworks.
    """
    plan = training.Pretraining.read(project, "pretrain")
    method, schedule = registry.module(name), plan.runs[name]
    settings = method.Settings.read(project, f"methods.{name}")
    sets, vgg = splits.read(project), load_loss(project).vgg
    folder = project.outputs / "pretrain" / name
    shutil.rmtree(folder, ignore_errors=True)
    given = method, settings, schedule, plan, vgg, sets.photos.train, sets.artworks.train
    with tqdm(total=schedule.iterations, unit="it", mininterval=10) as bar:
        for state in training.pretraining(*given, folder=cache.cache_folder()):
            bar.update(len(state.log) - bar.n)  # a resumed run begins further on
            bar.set_postfix(loss=f"{state.loss:.4g}")
    log = training.log(state, schedule)
    write_table(folder / "log.csv", log, float_format="%.5g")
    styles = [images.load(file, settings.style_size) for file in sets.artworks.held_out]
    kept = training.result(method, state.network, settings, vgg, styles, schedule.levels)
    file = folder / "network.safetensors"
    save_tensors(file, kept, {"settings": settings.model_dump(mode="json")})
    return Run(method, settings, schedule, state.network, log, styles[:SHOWN], file)


def rounding(project: Project, run: Run) -> pd.DataFrame:
    """What the rounding costs, over validation photos: the mean PSNR (dB) of photos encoded and
    decoded, before and after; of generated networks, how far it moves their images (mean
    absolute, levels of 255)."""
    loss = load_loss(project)
    files = splits.read(project).photos.validation[:SHOWN]
    photos = images.load_squares(files, run.schedule.size).to(loss.device)
    if hasattr(run.method, "reconstruct"):
        kept = training.restore(run.method, run.settings, run.file, loss.vgg)
        table = {}
        for when, network in (("trained", run.network), ("kept", kept)):
            for decoder, made in run.method.reconstruct(network, photos).items():
                found = map(psnr, made.split(1), photos.split(1))
                table.setdefault(f"PSNR as {when}", {})[decoder] = np.mean([*found])
        return pd.DataFrame(table)
    stored, moved = run.method.build(run.settings.changed(weights=run.file), Context(loss)), []
    for style in run.styles:
        known = run.method.describe(style, run.settings, loss.vgg)
        networks = run.network.network(known), stored.prepare(style)
        trained, kept = (stored.stylise(network, photos) for network in networks)
        moved.append(255 * (trained - kept).abs().mean().item())
    return pd.DataFrame({"levels moved": {"generated": np.mean(moved)}})


def check(run: Run) -> None:
    """Print whether all iterations were made and their losses are finite."""
    finite = bool(np.isfinite(run.log["loss"]).all())
    print("iterations:", len(run.log) == run.schedule.iterations, "- finite:", finite)
