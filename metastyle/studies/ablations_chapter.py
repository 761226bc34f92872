"""Chapter 11: what the short meta-trainings say of the bilevel formulation (claim C9), and what
the reference run takes from them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.config import Project
from metastyle.core import images, splits
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.studies._trial import ADAM, SGD
from metastyle.studies.ablations import RANDOM, Ablations, changed, folder, settings

BILEVEL, RIVALS = "base", ("joint", "first-order", "random")
RULE = (
    "Reproduced if after every number of steps that was evaluated, 0 left out, by Adam and by the "
    "inner loop's own rule, the 95 % interval (artworks and seeds drawn anew) of the geometric "
    "mean of the loss from the exact bilevel training over that from its rival lies below 1 for "
    "all three rivals, partly if after some, else not; not judged unless all four were run."
)
QUESTIONS = {  # what is taken without evidence against it, and what else was tried
    "how the first iterations are passed": ("base", ["ramped", "clipped"]),
    "the start of joint training": ("joint", ["first-run"]),
    "the gradient": ("base", ["first-order", "joint"]),
    "the inner rate": ("base", ["delta-1e-5"]),
    "inner steps": ("base", ["three-steps"]),
    "inner parameters": ("base", ["instance-norm"]),
    "styles and photos of an iteration": ("base", ["two-photos"]),
}
CHOICE = (
    "The first trial of a question, unless the 95 % interval of the geometric mean of another "
    "one's loss over its, after {} updates of Adam, lies below 1; then the other of lowest mean."
)
WITH, WITHOUT, WORSE = "base", "spikes", 1.05
PENALTY = (
    "The penalty on spikes is kept if with it the kurtosis and the share of stray colours after "
    "the last update are lower in the mean, and the mean loss over that without it is at most "
    f"{WORSE} after as many updates of Adam."
)
COSINES = ["joint", "first_order", "second_order_share"]
LARGEST = 1e9  # a loss beyond it, or none at all, counts as this: the adaptation diverged
KEYS = ["seed", "artwork", "rule", "update"]


class Trials(NamedTuple):
    """The trials whose results are there, by name: folders; losses and ends, see
    `ablations.Run`; logs. paintings: the artworks, in order."""

    plan: Ablations
    folders: dict[str, Path]
    losses: dict[str, pd.DataFrame]
    ends: dict[str, pd.DataFrame]
    logs: dict[str, pd.DataFrame]
    paintings: list[Path]

    def pairs(self) -> list[tuple[str, str]]:
        """Trials and what each is compared with, both there."""
        against = [(name, self.plan.trials[name].against) for name in self.losses]
        return [(a, b) for a, b in against if a != b and b in self.losses]


def read(project: Project) -> Trials:
    """The trials of section `ablations` that have been run."""
    plan = Ablations.read(project, "ablations")
    places = {name: folder(plan, name, project.inputs) for name in [*plan.starts, *plan.names]}
    places = {name: place for name, place in places.items() if place.is_dir()}
    tables = [
        {name: pd.read_csv(place / f"{kind}.csv") for name, place in places.items()}
        for kind in ("losses", "ends", "log")
    ]
    for table in tables[0].values():
        table["loss"] = table["loss"].fillna(LARGEST).clip(upper=LARGEST)
    return Trials(plan, places, *tables, splits.read(project).artworks.validation)


def questions(trials: Trials) -> pd.DataFrame:
    """Each trial of the section: its question, what it is compared with and differs from it in,
    its iterations, and whether its results are there."""
    plan, rows = trials.plan, {}
    for name in [*plan.starts, *plan.names]:
        trial, start = plan.trials[name], changed(plan, name)["start"]
        values = trial.lengths | trial.phase | trial.meta_train | trial.perceptual
        different = ", ".join(f"{key} {value}" for key, value in values.items())
        count = settings(plan, name, plan.seeds[0]).meta_train.iterations
        begins = "a network" if start == RANDOM and "start" in trial.meta_train else start
        rows[name] = [trial.why, trial.against, begins, different, count, name in trials.losses]
    columns = ["question", "compared with", "start", "differs in", "iterations", "run"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def course(trials: Trials) -> list[Figure]:
    """Along the trainings, means over the seeds: loss, excess kurtosis, what the inner step
    changes; and the gradient's directions where they were compared."""
    logs = {name: log for name, log in trials.logs.items() if len(log)}
    means = {name: log.groupby("iteration").mean().reset_index() for name, log in logs.items()}
    compared = {name: found.dropna(subset=COSINES) for name, found in means.items()}
    compared = {name: found for name, found in compared.items() if len(found)}
    columns, signed = ["loss", "spikes", "support_change"], ["spikes", "support_change"]
    figures = [plots.curves(means, "iteration", columns, linear=signed)] if means else []
    if compared:
        options = {"linear": COSINES, "marker": "o"}
        figures.append(plots.curves(compared, "iteration", COSINES, **options))
    return figures


def against_delta(trials: Trials) -> Figure | None:
    """The gradient's directions, and what an inner step changes of its own loss, against delta:
    means over the seeds."""
    places = {name: place / "directions.csv" for name, place in trials.folders.items()}
    tables = {name: pd.read_csv(file) for name, file in places.items() if file.is_file()}
    if not tables:
        return None
    means = {name: table.groupby("delta").mean().reset_index() for name, table in tables.items()}
    columns = [*COSINES, "support_change"]
    figure = plots.curves(means, "delta", columns, linear=columns, marker="o")
    for axis in figure.axes:
        axis.set_xscale("log")
    return figure


def ratio(trials: Trials, one: str, other: str, rule: str = ADAM) -> dict[int, Interval]:
    """The losses of one trial over those of another: geometric mean over artworks and seeds,
    with an interval, by the number of updates."""
    a, b = (trials.losses[name].set_index(KEYS)["loss"] for name in (one, other))
    rows = (a / b).dropna().reset_index()
    groups = rows[rows["rule"] == rule].groupby("update")
    return {update: geometric_mean(found, "loss", ["artwork", "seed"]) for update, found in groups}


def ratios(trials: Trials, rule: str = ADAM) -> pd.DataFrame:
    """`ratio` of each trial to the one that it is compared with; below 1 it is the better one."""
    rows = {f"{one} / {other}": ratio(trials, one, other, rule) for one, other in trials.pairs()}
    return pd.DataFrame(rows).T.map(str).rename(columns=f"{{}} of {rule}".format)


def figures(trials: Trials) -> list[Figure]:
    """One per rule: geometric means over artworks and seeds of each trial's losses over those of
    the trial that it is compared with, by the number of updates."""
    terms, drawn = ["loss", "content", "style"], []
    for rule in (ADAM, SGD) if trials.pairs() else ():
        lines = {}
        for one, other in trials.pairs():
            a, b = (trials.losses[name].set_index(KEYS)[terms] for name in (one, other))
            means = np.exp(np.log(a / b).xs(rule, level="rule").groupby("update").mean())
            lines[f"{one} / {other}"] = means.reset_index()
        drawn.append(plots.curves(lines, "update", terms, marker="o"))
        drawn[-1].axes[0].set_ylabel(f"ratio, by {rule}")
    return drawn


def summary(trials: Trials) -> pd.DataFrame:
    """A column per trial, means over artworks and seeds: evaluation losses, and what no training
    minimises before Adam's first update and after its last."""
    rows = {}
    for name, losses in trials.losses.items():
        means = losses.groupby(["rule", "update"])["loss"].mean()
        row = {f"loss, {update} of {rule}": value for (rule, update), value in means.items()}
        ends = trials.ends[name].groupby("update").mean().drop(columns=["seed", "artwork"])
        for update, found in ends.iterrows():
            row |= {f"{column}, {update:.0f}": value for column, value in found.items()}
        rows[name] = row
    return pd.DataFrame(rows).map("{:.3g}".format)


def judge(trials: Trials) -> list[claims.Row]:
    """C9 by `RULE`, what is chosen by `CHOICE` and `PENALTY`, and the ratios that decide."""
    return [*_bilevel(trials), *_choices(trials), *_penalty(trials)]


def _bilevel(trials: Trials) -> list[claims.Row]:
    quantity = f"numbers of steps after which `{BILEVEL}` is ahead of {', '.join(RIVALS)}"
    if missing := [name for name in (BILEVEL, *RIVALS) if name not in trials.losses]:
        found = f"not run: {', '.join(missing)}"
        return [claims.row("C9", quantity, found, rule=RULE, verdict="not judged")]
    good, of, told, rows = 0, 0, [], []
    for rule in (ADAM, SGD):
        by_rival = {rival: ratio(trials, BILEVEL, rival, rule) for rival in RIVALS}
        *_, last = counts = [update for update in by_rival["joint"] if update]
        ahead = sum(all(found[k].high < 1 for found in by_rival.values()) for k in counts)
        good, of = good + ahead, of + len(counts)
        told.append(f"by {rule} {ahead} of {len(counts)}")
        for rival, found in by_rival.items():
            name = f"loss from `{BILEVEL}` over that from `{rival}`, {last} steps by {rule}"
            rows.append(claims.row("C9", name, found[last]))
    grade, note = claims.graded(good, of), f"Steps: {', '.join(told)}."
    return [
        claims.row("C9", quantity, f"{good} of {of}", rule=RULE, verdict=grade, note=note),
        *rows,
    ]


def _choices(trials: Trials) -> list[claims.Row]:
    at, rows = trials.plan.chosen_at, []
    for question, (default, others) in QUESTIONS.items():
        there = [name for name in others if name in trials.losses]
        if default not in trials.losses or not there:
            continue
        found = {name: ratio(trials, name, default)[at] for name in there}
        better = {name: x.value for name, x in found.items() if x.high < 1}
        chosen = min(better, key=better.get) if better else default
        told = ", ".join(f"`{name}` {x}" for name, x in found.items())
        note = f"Over `{default}`: {told}."
        rule = CHOICE.format(at)
        rows.append(claims.row("choice", question, f"`{chosen}`", rule=rule, note=note))
    return rows


def _penalty(trials: Trials) -> list[claims.Row]:
    if not {WITH, WITHOUT} <= {*trials.losses}:
        return []
    last = trials.plan.adapt.updates
    over = ratio(trials, WITH, WITHOUT)[last]
    ends = [trials.ends[name] for name in (WITH, WITHOUT)]
    ours, others = (table[table["update"] == last].mean() for table in ends)
    lower = all(ours[name] < others[name] for name in ("kurtosis", "stray"))
    found = "kept" if lower and over.value <= WORSE else "left out"
    pairs = ((name, ours[name], others[name]) for name in ("kurtosis", "stray", "idle"))
    told = ", ".join(f"{name} {a:.3g} and {b:.3g}" for name, a, b in pairs)
    note = f"With and without: {told}; loss with over without {over}."
    return [claims.row("choice", "the penalty on spikes", found, rule=PENALTY, note=note)]


def pictures(trials: Trials) -> list[Figure]:
    """One per artwork: the painting, and each trial's renderings of the first validation photo by
    the networks of the first seed."""
    drawn, plan = [], trials.plan
    for k, file in enumerate(trials.paintings[: plan.artworks] if trials.folders else []):
        cells = [images.load_square(file, plan.evaluations.photo_size)]
        rows = []
        for place in trials.folders.values():
            renders = sorted((place / "renders").glob(f"{k}_*_0.png"))
            rows.append([*cells, *map(images.load, renders)])
            cells = [None]
        titles = ["painting", *(f"{int(f.stem.split('_')[1])} updates" for f in renders)]
        drawn.append(plots.grid(rows, columns=titles, labels=[*trials.folders], cell=2.0))
    return drawn


def check(trials: Trials) -> None:
    """Print how many trials there are, and whether any adaptation by Adam diverged."""
    tables = [table[table["rule"] == ADAM] for table in trials.losses.values()]
    diverged = any((table["loss"] >= LARGEST).any() for table in tables)
    print("trials:", len(tables), "- diverged by Adam:", diverged)
