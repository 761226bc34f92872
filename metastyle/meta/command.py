"""Meta-training where there is no pipeline: a GPU elsewhere, or several.

    python -m metastyle.meta.train params.yaml --minutes 600 --state run.safetensors
    torchrun --nproc-per-node 8 --max-restarts 3 -m metastyle.meta.train params.yaml

trains and goes on from a state, whoever made it. It needs the data, and of packages torch,
torchvision, numpy, pillow, pandas, pydantic, pyyaml and safetensors. Where the pipeline is,

    python -m metastyle.meta.train params.yaml --import-state run.safetensors

files the state where the stage `meta_train` looks for its own.
"""

import argparse
import logging
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metastyle.config import InputError, Project
from metastyle.core import cache, code, splits
from metastyle.core.checkpoint import load_info, load_network, save_network
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.core.network import TransformerNet
from metastyle.files import replacing
from metastyle.meta import train
from metastyle.meta.distributed import joined
from metastyle.meta.loader import Images, MetaTraining, training_images


class Run(NamedTuple):
    """What the project says to train, and hashes of what decides its result."""

    settings: MetaTraining
    images: Images
    loss: PerceptualLoss
    start: TransformerNet | None
    about: dict[str, str]


def read(project: Project) -> Run:
    """The run of a project. No image is decoded to see whether it is one: the training does."""
    settings, loss = MetaTraining.read(project, "meta_train"), load_loss(project)
    kept = (project.inputs / "splits.csv").is_file()
    sets = splits.read(project, None if kept else splits.make(project, check=False))
    start = load_network(project.root / settings.start) if settings.start else None
    images = training_images(sets)
    about = {
        "settings": cache.digest(train.decides(settings)),
        "loss": cache.digest(loss.settings),
        "images": cache.digest(sizes(project, images)),
        "VGG-16": cache.digest(loss.vgg),
        "start": cache.digest(start),
        "code": code.digest("metastyle.meta.train")[:24],
    }
    return Run(settings, images, loss, start, about)


def sizes(project: Project, images: Images) -> list[list[tuple[str, int]]]:
    """What images are known by on every machine: names below their folder, and bytes."""
    data = splits.Data.read(project, "data")
    folders = data.photos, data.photos, data.artworks
    return [
        [
            (file.relative_to(project.root / folder).as_posix(), file.stat().st_size)
            for file in files
        ]
        for files, folder in zip(images, folders, strict=True)
    ]


def check(file: Path, run: Run) -> None:
    """Refuse the state of another run; one that the pipeline wrote to the cache is named by its
    key, and says no more about itself.

    Raises:
        InputError: it is one, or no state at all.
    """
    about = load_info(file).get("about")
    if not about and cache.cache_folder() in file.parents:
        return
    if not about:
        raise InputError(f"{file}: no state of 'python -m metastyle.meta.train'; choose another")
    if differs := [name for name, known in run.about.items() if about.get(name) != known]:
        raise InputError(
            f"{file}: is the state of another run, with other {', '.join(differs)}; choose another "
            "file, or bring back what it was made with"
        )


def go(run: Run, file: Path, minutes: float) -> None:
    """Train; the state, its log and in the end the network lie side by side.

    Raises:
        InputError: the file is the state of another run.
    """
    total, told = run.settings.iterations, time.monotonic() - math.inf
    with joined() as ranks:
        if ranks.first and file.is_file():
            check(file, run)
        given = {"start": run.start, "file": file, "about": run.about}
        states = train.training(
            run.settings, run.images, run.loss, **given, minutes=minutes, ranks=ranks
        )
        for state in states:
            done = len(state.log)
            if ranks.first and time.monotonic() - told >= 60:
                loss = f", loss {state.log[-1][1]:.4g}" if done else ""
                print(f"{done:,} of {total:,} iterations{loss}", flush=True)
                told = time.monotonic()
    if not ranks.first:
        return
    print(f"{done:,} of {total:,} iterations in {state.seconds / 3600:.3g} hours: {file}")
    if done < total:
        print("the same command goes on from there")
        return
    network = dict(train.result(state).network.named_parameters())
    info = {"settings": run.settings.model_dump(mode="json"), "machines": state.machines}
    save_network(file.with_name(f"{file.stem}-network.safetensors"), network, info)


def bring_in(run: Run, file: Path) -> Path:
    """File a state under the key of the pipeline's own, and say where that is.

    Raises:
        InputError: it is of another run, or has not gone as far as what is there.
    """
    check(file, run)
    place = cache.cache_folder() / train.key(run.settings, run.images, run.loss, run.start)
    place = place / "state.safetensors"
    done = []
    for state_file in (file, place):
        state = train.new_state(run.settings, run.loss.device, run.start)
        if state_file.is_file():
            train.load(state_file, state)
        done.append(len(state.log))
    if done[0] < done[1]:
        raise InputError(f"{file}: has gone {done[0]} iterations; {place} {done[1]} already")
    with replacing(place) as temporary:
        shutil.copyfile(file, temporary)
    print(f"{done[0]:,} of {run.settings.iterations:,} iterations filed for 'dvc repro meta_train'")
    return place


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit 1 with one line for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m metastyle.meta.train", description="Meta-train, by torchrun or alone."
    )
    parser.add_argument("params", type=Path, help="parameter file")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--state", type=Path, help="file to go on from and to write")
    parser.add_argument("--import-state", type=Path, help="file for the pipeline to go on from")
    a = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        run = read(Project(a.params))
        if a.import_state:
            bring_in(run, a.import_state)
            return
        name = cache.digest(run.about)
        go(run, a.state or cache.cache_folder() / "runs" / f"{name}.safetensors", a.minutes)
    except InputError as error:
        sys.exit(f"metastyle: {error}")


if __name__ == "__main__":
    main()
