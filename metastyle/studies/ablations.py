"""Chapter 11, the runs: short meta-trainings that differ in one thing each (claim C9)."""

import shutil
from typing import NamedTuple, Self

import pandas as pd
from pydantic import Field, PositiveInt, model_validator
from tqdm import tqdm

from metastyle.adaptation.adapt import Adaptation, Evaluations, adapt_with_evaluation
from metastyle.config import InputError, Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.losses import Perceptual, PerceptualLoss
from metastyle.core.vgg import load_vgg
from metastyle.files import write_table
from metastyle.meta import train
from metastyle.meta.loader import MetaTraining, training_images


class Change(Section):
    """What a trial has other than the trial it is compared with: values of sections, by name.

    against: that other trial; `base` names itself.
    """

    why: str
    against: str = "base"
    perceptual: dict = Field(default_factory=dict)
    meta_train: dict = Field(default_factory=dict)


class Ablations(Section):
    """Section `ablations`.

    names: the trials to run. changes: all that are known, by name. The other fields are the
    settings of `base`, and how every trial's network is adapted and evaluated. artworks:
    validation artworks, the first by name.
    """

    names: list[str]
    changes: dict[str, Change]
    perceptual: Perceptual
    meta_train: MetaTraining
    adapt: Adaptation
    artworks: PositiveInt
    evaluations: Evaluations

    @model_validator(mode="after")
    def _every_trial_can_be_made(self) -> Self:
        order = [*self.changes]
        for name, change in self.changes.items():
            if change.against not in order[: order.index(name) + 1]:
                raise ValueError(f"changes.{name}: has no {change.against} above it to change")
            settings(self, name)
        if unknown := set(self.names) - set(order):
            raise ValueError(f"changes has no {', '.join(sorted(unknown))}")
        return self


class Run(NamedTuple):
    """A finished trial: the log of its training, and its network's evaluation losses along the
    adaptation to each artwork (columns artwork, update, seconds, loss, content, style, ...)."""

    plan: Ablations
    log: pd.DataFrame
    curves: pd.DataFrame


def settings(plan: Ablations, name: str) -> tuple[MetaTraining, Perceptual]:
    """The meta-training of one trial and the loss that it minimises.

    Raises:
        InputError: a change names no parameter, or gives it a wrong value.
    """
    change, before = plan.changes[name], (plan.meta_train, plan.perceptual)
    if change.against != name:
        before = settings(plan, change.against)
    try:
        return before[0].changed(**change.meta_train), before[1].changed(**change.perceptual)
    except InputError as error:
        raise InputError(f"changes.{name}: {error}") from None


def changes(project: Project, trial: str) -> pd.DataFrame:
    """What the trial changes: values in the trial that it is compared with, and its own."""
    plan = Ablations.read(project, "ablations")
    change = plan.changes[trial]
    names = [*change.meta_train, *change.perceptual]
    table = {}
    for name in (change.against, trial):
        both = [section.model_dump() for section in settings(plan, name)]
        table[name] = {key: str((both[0] | both[1])[key]) for key in names}
    return pd.DataFrame(table)


def run(project: Project, trial: str) -> Run:
    """Train one trial, adapt its network to validation artworks, and write log, losses and
    renderings to results.

    Every network is adapted by the same recipe with the loss that it was trained for, and
    evaluated by the same loss, that of `base`. Held-out images decide nothing here.
    """
    plan, sets = Ablations.read(project, "ablations"), splits.read(project)
    meta_train, perceptual = settings(plan, trial)
    file = project.root / splits.Data.read(project, "data").vgg
    loss, judge = (
        PerceptualLoss(load_vgg(file), balance)
        for balance in (perceptual, plan.perceptual)
    )
    folder = project.outputs / "ablations" / trial
    shutil.rmtree(folder, ignore_errors=True)
    given = meta_train, training_images(sets), loss
    with tqdm(total=meta_train.iterations, unit="it", mininterval=10) as bar:
        for state in train.training(*given, folder=cache.cache_folder()):
            bar.update(len(state.log) - bar.n)  # a resumed run begins further on
    network, log, *_ = train.result(state)
    write_table(folder / "log.csv", log, float_format="%.6g")

    files = sets.photos.validation[: plan.evaluations.photos]
    unseen, tables = images.load_squares(files, plan.evaluations.photo_size), {}
    for k, file in enumerate(tqdm(sets.artworks.validation[: plan.artworks], unit="artwork")):
        style = images.load(file, plan.adapt.style_size)
        given = network, style, sets.photos.train, unseen, loss, plan.adapt, plan.evaluations
        _, tables[k], renders = adapt_with_evaluation(*given, judge=judge)
        for update, pictures in renders.items():
            for n, picture in enumerate(pictures.split(1)):
                images.save(folder / f"renders/{k}_{update:04d}_{n}.png", picture)
    curves = pd.concat(tables, names=["artwork"]).reset_index("artwork")
    write_table(folder / "curves.csv", curves.drop(columns="seconds"), float_format="%.5g")
    return Run(plan, log, curves)


def medians(run: Run) -> pd.DataFrame:
    """Of the evaluation losses over the artworks, by the number of updates."""
    return run.curves.groupby("update").median().drop(columns=["artwork", "seconds"])


def check(run: Run) -> None:
    """Print on how many artworks the network was adapted, and whether their loss fell."""
    updates = run.curves["update"]
    first, last = (run.curves[updates == k]["loss"].mean() for k in (0, run.plan.adapt.updates))
    artworks = run.curves["artwork"].nunique()
    print("artworks:", artworks, "- evaluation loss fell:", bool(last < first))
