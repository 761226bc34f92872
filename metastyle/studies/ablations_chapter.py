"""Chapter 11: what the short meta-trainings say of the bilevel formulation (claim C9)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.config import Project
from metastyle.core import images, splits
from metastyle.evaluation import claims
from metastyle.evaluation.defects import PERIOD, details, hatching, rms
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.studies.ablations import Ablations

BILEVEL, RIVALS = "base", ("joint", "first-order", "random")
RULE = (
    "Reproduced if after every number of updates that was evaluated, 0 left out, the 95 % interval "
    "(artworks drawn anew) of the geometric mean of the loss from the exact bilevel training over "
    "that from its rival lies below 1 for all three rivals, partly if after some, else not; not "
    "judged unless all four were run."
)


class Trials(NamedTuple):
    """The trials whose results are there, by name: folders, and evaluation losses (columns
    artwork, update, loss, ...); paintings: the artworks, in order."""

    plan: Ablations
    folders: dict[str, Path]
    curves: dict[str, pd.DataFrame]
    paintings: list[Path]

    def pairs(self) -> list[tuple[str, str]]:
        """Trials and what each is compared with, both there."""
        against = [(name, self.plan.changes[name].against) for name in self.curves]
        return [(a, b) for a, b in against if a != b and b in self.curves]


def read(project: Project) -> Trials:
    """The trials of section `ablations` that have been run."""
    plan, folder = Ablations.read(project, "ablations"), project.inputs / "ablations"
    folders = {name: folder / name for name in plan.names if (folder / name).is_dir()}
    curves = {name: pd.read_csv(found / "curves.csv") for name, found in folders.items()}
    return Trials(plan, folders, curves, splits.read(project).artworks.validation)


def questions(trials: Trials) -> pd.DataFrame:
    """Each trial of the section: its question, what it is compared with and differs from it in,
    and whether its results are there."""
    rows = {}
    for name in trials.plan.names:
        change = trials.plan.changes[name]
        values = change.meta_train | change.perceptual
        different = ", ".join(f"{key} {value}" for key, value in values.items())
        rows[name] = [change.why, change.against, different, name in trials.curves]
    columns = ["question", "compared with", "differs in", "run"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def summary(trials: Trials) -> pd.DataFrame:
    """A row per trial: the mean evaluation loss over the artworks by the number of updates; the
    content term after the last; the largest share of saturated values in any iteration of the
    training; shares of saturated patches and of hatching in the details of the renderings, the
    latter also at a period that the network does not have (`by chance`)."""
    rows = {}
    for name, folder in trials.folders.items():
        means = trials.curves[name].groupby("update").mean()
        log, (first, last) = pd.read_csv(folder / "log.csv"), means.index[[0, -1]]
        row = {f"{update} updates": loss for update, loss in means["loss"].items()}
        row["content at the last"] = means["content"][last]
        row["saturated in training"] = log["saturated"].to_numpy().max(initial=0)
        for when, update in (("start", first), ("last", last)):
            row[f"patches at the {when}"] = means["patches"][update]
            row[f"hatching at the {when}"] = _hatched(folder, update)
        rows[name] = row | {"hatching by chance": _hatched(folder, last, PERIOD + 1)}
    return pd.DataFrame(rows).T.map("{:.4g}".format)


def _hatched(folder: Path, update: int, period: int = PERIOD) -> float:
    """Share of hatching in the details of a trial's renderings after so many updates."""
    files = sorted((folder / "renders").glob(f"*_{update:04d}_*.png"))
    pictures = torch.cat([images.load(file) for file in files])
    return float(hatching(pictures, period).sum() / rms(details(pictures)).sum())


def figures(trials: Trials) -> list[Figure]:
    """One per trial that others are compared with: geometric means over the artworks of the
    losses over its own, at equal numbers of updates."""
    keys, terms = ["artwork", "update"], ["loss", "content", "style"]
    lines: dict[str, dict[str, pd.DataFrame]] = {}
    for name, other in trials.pairs():
        own, control = (trials.curves[k].set_index(keys)[terms] for k in (name, other))
        means = np.exp(np.log(own / control).groupby("update").mean())
        lines.setdefault(other, {})[name] = means.reset_index()
    drawn = []
    for other, tables in lines.items():
        drawn.append(plots.curves(tables, "update", terms, marker="o"))
        drawn[-1].axes[0].set_ylabel(f"over that of {other}")
    return drawn


def ratio(trials: Trials, one: str, other: str) -> dict[int, Interval]:
    """The losses of one trial over those of another: geometric mean over the artworks, with an
    interval, by the number of updates."""
    a, b = (trials.curves[name].set_index(["artwork", "update"])["loss"] for name in (one, other))
    groups = (a / b).reset_index().groupby("update")
    return {update: geometric_mean(rows, "loss", ["artwork"]) for update, rows in groups}


def ratios(trials: Trials) -> pd.DataFrame:
    """`ratio` of each trial to the one that it is compared with; below 1 it is the better one."""
    rows = {f"{one} / {other}": ratio(trials, one, other) for one, other in trials.pairs()}
    return pd.DataFrame(rows).T.map(str).rename(columns="{} updates".format)


def judge(trials: Trials) -> list[claims.Row]:
    """C9 by `RULE`, and the ratios after the last update."""
    quantity = f"numbers of updates after which `{BILEVEL}` is ahead of {', '.join(RIVALS)}"
    if missing := [name for name in (BILEVEL, *RIVALS) if name not in trials.curves]:
        found = f"not run: {', '.join(missing)}"
        return [claims.row("C9", quantity, found, rule=RULE, verdict="not judged")]
    by_rival = {rival: ratio(trials, BILEVEL, rival) for rival in RIVALS}
    *_, last = counts = [update for update in by_rival["joint"] if update]
    good = [k for k in counts if all(found[k].high < 1 for found in by_rival.values())]
    grade, found = claims.graded(len(good), len(counts)), f"{len(good)} of {len(counts)}"
    rows = [
        claims.row("C9", f"loss from `{BILEVEL}` over that from `{k}`, {last} updates", found[last])
        for k, found in by_rival.items()
    ]
    note = "One training of each: the luck of a run is not in the intervals."
    return [claims.row("C9", quantity, found, rule=RULE, verdict=grade, note=note), *rows]


def pictures(trials: Trials) -> list[Figure]:
    """One per artwork: the painting, and each trial's renderings of the first validation photo."""
    drawn, plan = [], trials.plan
    for k, file in enumerate(trials.paintings[: plan.artworks] if trials.folders else []):
        cells = [images.load_square(file, plan.evaluations.photo_size)]
        rows = []
        for folder in trials.folders.values():
            renders = sorted((folder / "renders").glob(f"{k}_*_0.png"))
            rows.append([*cells, *map(images.load, renders)])
            cells = [None]
        titles = ["painting", *(f"{int(f.stem.split('_')[1])} updates" for f in renders)]
        drawn.append(plots.grid(rows, columns=titles, labels=[*trials.folders], cell=2.2))
    return drawn


def check(trials: Trials) -> None:
    """Print whether everything that was evaluated is finite."""
    print("finite:", all(np.isfinite(table).all(axis=None) for table in trials.curves.values()))
