"""Chapter 11, the runs: short meta-trainings that differ in one thing each (claim C9).

All of them cost the same. The unit of cost is an iteration of joint training; how many of them an
iteration of another kind costs was measured once (`cost`), and numbers of iterations follow.
"""

import logging
import shutil
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import pandas as pd
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from tqdm import tqdm

from metastyle.adaptation.adapt import Adaptation, Evaluations
from metastyle.config import InputError, Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.checkpoint import load_network, save_network
from metastyle.core.gradients import each
from metastyle.core.losses import Perceptual, PerceptualLoss
from metastyle.core.network import TransformerNet, parameter_names
from metastyle.core.vgg import load_vgg
from metastyle.evaluation.lpips import load_alexnet
from metastyle.files import write_table
from metastyle.meta import bilevel, train
from metastyle.meta.loader import Images, MetaTraining, draw_tasks, training_images
from metastyle.meta.step import Diverged
from metastyle.studies import _trial
from metastyle.studies._trial import InnerRule, Judge, Worth

RANDOM = "random"  # a start: PyTorch's initialisation, or the file `meta_train.start`
LENGTHS = {"budget", "averaged", "warmup", "style_warmup", "inner_warmup"}


class Trial(Section):
    """What a trial has other than the trial it is compared with.

    against: that other trial; `base` names itself. start: the trial whose networks it goes on
    from, or RANDOM; None: as the other trial does. lengths: see `Ablations`. phase, meta_train,
    perceptual: values of those sections, by name.
    """

    why: str
    against: str = "base"
    start: str | None = None
    lengths: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    phase: dict[str, Any] = Field(default_factory=dict)
    meta_train: dict[str, Any] = Field(default_factory=dict)
    perceptual: dict[str, Any] = Field(default_factory=dict)


class Compared(Section):
    """Where the gradient's directions are compared: the networks of the trials `at`, for every
    delta, one inner step, and so many paintings."""

    at: list[str]
    deltas: Annotated[list[PositiveFloat], Field(min_length=1)]
    styles: PositiveInt


class Ablations(Section):
    """Section `ablations`.

    starts: trials that others go on from. names: the other trials to run, the most important
    first. seeds: one training each. trials: all that are known. cost: of an iteration by its kind
    (`kind`), in iterations of joint training. lengths (see LENGTHS): of the training, of what is
    averaged at its end, and of three warm-ups, in the same unit; with phase, meta_train and
    perceptual the settings of the trial `base`. The other fields: how every trial's networks are
    adapted and judged. artworks: of validation, the first by name. chosen_at: the number of
    Adam's updates that decides what is chosen.
    """

    starts: list[str]
    names: list[str]
    seeds: Annotated[list[int], Field(min_length=1)]
    cost: dict[str, PositiveFloat]
    lengths: dict[str, NonNegativeFloat]
    phase: dict[str, Any]
    meta_train: MetaTraining
    perceptual: Perceptual
    trials: dict[str, Trial]
    adapt: Adaptation
    inner_rule: InnerRule
    artworks: PositiveInt
    evaluations: Evaluations
    chosen_at: PositiveInt
    directions: Compared

    @model_validator(mode="after")
    def _every_trial_can_be_made(self) -> Self:
        order = [*self.trials]
        if unknown := {*self.names, *self.starts, *self.directions.at} - {*order}:
            raise ValueError(f"trials has no {', '.join(sorted(unknown))}")
        for name, trial in self.trials.items():
            if trial.against not in order[: order.index(name) + 1]:
                raise ValueError(f"trials.{name}: has no {trial.against} above it to change")
            found = settings(self, name, self.seeds[0])
            asked = name in (*self.names, *self.starts)
            if asked and found.start not in (RANDOM, *self.starts):
                raise ValueError(f"trials.{name}: start {found.start} is none of `starts`")
        if {self.chosen_at, self.adapt.updates} - {*self.evaluations.evaluate_at}:
            raise ValueError("evaluations.evaluate_at needs chosen_at and adapt's last update")
        return self


class Settings(NamedTuple):
    """A trial's training, the loss that it minimises, and where it starts."""

    meta_train: MetaTraining
    perceptual: Perceptual
    start: str


class Run(NamedTuple):
    """A finished trial. log: of its trainings, with a column seed. losses: of `_trial.Worth`, and
    seed, artwork; ends likewise."""

    plan: Ablations
    log: pd.DataFrame
    losses: pd.DataFrame
    ends: pd.DataFrame


def kind(phase: dict[str, Any]) -> str:
    """What decides the cost of an iteration: `joint`, or the order and the inner steps."""
    steps = phase["inner_steps"]
    return f"{phase.get('order', 'second')}-{steps}" if steps else "joint"


def changed(plan: Ablations, name: str) -> dict[str, Any]:
    """The values that a trial is made of: those of `base` and the changes on the way to it."""
    trial = plan.trials[name]
    if trial.against == name:
        before = plan.model_dump(include={"lengths", "phase", "meta_train", "perceptual"})
        before["start"] = RANDOM
    else:
        before = changed(plan, trial.against)
    groups = ("lengths", "phase", "meta_train", "perceptual")
    found = {group: before[group] | getattr(trial, group) for group in groups}
    return found | {"start": trial.start or before["start"]}


def settings(plan: Ablations, name: str, seed: int) -> Settings:
    """One training of a trial, its numbers of iterations by its cost.

    Raises:
        InputError: a change names no parameter, or gives it a wrong value.
    """
    found = changed(plan, name)
    lengths, phase = found["lengths"], found["phase"]
    if wrong := {*lengths} ^ LENGTHS:
        raise InputError(f"trials.{name}: lengths: wrong or missing {', '.join(sorted(wrong))}")
    if kind(phase) not in plan.cost:
        raise InputError(f"trials.{name}: cost has no {kind(phase)}; measure it")
    own = {key: round(value / plan.cost[kind(phase)]) for key, value in lengths.items()}
    iterations = own.pop("budget")
    phase = phase | {"iterations": iterations, "inner_warmup": own.pop("inner_warmup")}
    own["average_last"] = own.pop("averaged")
    own |= {"seed": seed, "phases": [phase] if iterations else []}
    try:
        return Settings(
            plan.meta_train.changed(**found["meta_train"] | own),
            plan.perceptual.changed(**found["perceptual"]),
            found["start"],
        )
    except InputError as error:
        raise InputError(f"trials.{name}: {error}") from None


def folder(plan: Ablations, name: str, results: Path) -> Path:
    """Where a trial's results lie; the starts' lie apart, since the other trials need them."""
    return results / ("ablations_start" if name in plan.starts else "ablations") / name


def changes(project: Project, trial: str) -> pd.DataFrame:
    """What the trial changes: values in the trial that it is compared with, and its own."""
    plan = Ablations.read(project, "ablations")
    both = {}
    for name in (plan.trials[trial].against, trial):
        found, values = settings(plan, name, plan.seeds[0]), changed(plan, name)
        groups = ("phase", "meta_train", "perceptual")
        flat = {key: value for group in groups for key, value in values[group].items()}
        both[name] = {"goes on from": found.start, "iterations": found.meta_train.iterations} | flat
    table = pd.DataFrame(both, dtype=object).map(str)
    return table[table.iloc[:, 0] != table.iloc[:, -1]]


def run(project: Project, trial: str) -> Run:
    """Train one trial with every seed, adapt its networks to validation artworks, and write logs,
    losses and renderings to results.

    Every network is adapted by the same recipes with the loss that it was trained for, and
    evaluated by the same loss, that of `base`. Held-out images decide nothing here.
    """
    plan, sets = Ablations.read(project, "ablations"), splits.read(project)
    data = splits.Data.read(project, "data")
    vgg = load_vgg(project.root / data.vgg)
    loss = PerceptualLoss(vgg, settings(plan, trial, plan.seeds[0]).perceptual)
    out, given, logs = folder(plan, trial, project.outputs), training_images(sets), {}
    shutil.rmtree(out, ignore_errors=True)
    networks: dict[int, TransformerNet] = {}
    for seed in plan.seeds:
        networks[seed], logs[seed] = _trained(project, plan, trial, seed, given, loss)
        if trial in plan.starts:
            parameters = dict(networks[seed].named_parameters())
            save_network(out / f"networks/{seed}.safetensors", parameters, {}, small=True)
    log = pd.concat(logs, names=["seed"]).reset_index("seed")
    write_table(out / "log.csv", log, float_format="%.6g")
    if trial in plan.directions.at:
        table = _directions(plan, networks, given, loss)
        write_table(out / "directions.csv", table, float_format="%.5g")

    files = sets.photos.validation[: plan.evaluations.photos]
    unseen = images.load_squares(files, plan.evaluations.photo_size)
    judge = PerceptualLoss(vgg, plan.perceptual)
    judge = Judge(judge, load_alexnet(project.root / data.alexnet), unseen)
    paintings = sets.artworks.validation[: plan.artworks]
    pairs = [*product(plan.seeds, range(len(paintings)))]

    def worth(pair: tuple[int, int]) -> Worth:
        seed, k = pair
        style, own = images.load(paintings[k], plan.adapt.style_size), plan.adapt.changed(seed=seed)
        rest = own, plan.inner_rule, plan.evaluations
        return _trial.worth(networks[seed], style, sets.photos.train, loss, judge, *rest)

    found = dict(zip(pairs, each(worth, pairs), strict=True))
    tables = []
    for name in ("losses", "ends"):
        by_pair = {pair: getattr(one, name) for pair, one in found.items()}
        table = pd.concat(by_pair, names=["seed", "artwork"]).reset_index(["seed", "artwork"])
        write_table(out / f"{name}.csv", table, float_format="%.5g")
        tables.append(table)
    for k in range(len(paintings)):
        for update, pictures in found[plan.seeds[0], k].renders.items():
            for n, picture in enumerate(pictures.split(1)):
                images.save(out / f"renders/{k}_{update:04d}_{n}.png", picture)
    return Run(plan, log, *tables)


def _trained(
    project: Project, plan: Ablations, trial: str, seed: int, given: Images, loss: PerceptualLoss
) -> tuple[TransformerNet, pd.DataFrame]:
    """The network of one seed, and the log of its training, which ends where it diverges."""
    own, _, start = settings(plan, trial, seed)
    file = project.root / own.start if own.start else None
    if start != RANDOM:
        file = folder(plan, start, project.inputs) / f"networks/{seed}.safetensors"
    begun = load_network(file) if file else None
    with tqdm(total=own.iterations, unit="it", mininterval=10, desc=f"seed {seed}") as bar:
        states = train.training(own, given, loss, start=begun, folder=cache.cache_folder())
        try:
            for state in states:
                bar.update(len(state.log) - bar.n)  # a resumed run begins further on
        except Diverged:
            logging.warning("%s, seed %s: diverged after %s iterations", trial, seed, bar.n)
    found = train.result(state)
    return found.network, found.log


def _directions(
    plan: Ablations, networks: dict[int, TransformerNet], given: Images, loss: PerceptualLoss
) -> pd.DataFrame:
    """`bilevel.directions` at the networks: columns seed, delta, its fields, and support_change,
    what an inner step changes of the loss of its own batch, relative, mean over the paintings."""
    rows = []
    for seed, network in networks.items():
        theta = {name: p.detach() for name, p in network.named_parameters()}
        phase = plan.phase | {"iterations": 1, "inner_steps": 1}
        own = plan.meta_train.changed(seed=seed, phases=[phase])
        own = own.changed(styles_per_iteration=plan.directions.styles)
        tasks = draw_tasks(1, given, own, loss)
        for delta in plan.directions.deltas:
            options = {"delta": delta, "inner": parameter_names(own.inner_parameters)}
            compared = bilevel.directions(theta, tasks, loss.of_parameters, **options)
            options |= {"order": "first", "probe": True}
            _, outcomes = bilevel.meta_gradient(theta, tasks, loss.of_parameters, **options)
            before, after = zip(*(map(float, outcome.support) for outcome in outcomes), strict=True)
            change = sum(b / a - 1 for a, b in zip(before, after, strict=True)) / len(tasks)
            row = {"seed": seed, "delta": delta, **compared._asdict()}
            rows.append(row | {"support_change": change})
    return pd.DataFrame(rows)


def medians(run: Run) -> pd.DataFrame:
    """Of the evaluation losses over artworks and seeds, by rule and number of updates."""
    return run.losses.groupby(["rule", "update"])[["loss", "content", "style"]].median()


def check(run: Run) -> None:
    """Print how many networks were adapted to how many artworks, and whether their loss fell."""
    adam = run.losses[run.losses["rule"] == _trial.ADAM]
    first, last = (adam[adam["update"] == k]["loss"].mean() for k in (0, run.plan.adapt.updates))
    print("networks:", adam["seed"].nunique(), "- artworks:", adam["artwork"].nunique())
    print("evaluation loss fell:", bool(last < first))
