"""Chapter 7, figure 6: what the start of an adaptation is worth (claim C4)."""

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.config import Project
from metastyle.core import images, splits
from metastyle.evaluation import claims, curves
from metastyle.meta import loader
from metastyle.meta.loader import MetaTraining
from metastyle.studies.starts import Starts

RULE = (
    "MetaStyle is ahead at a count of `starts.compare_at` where the 95 % interval of the median "
    "over artworks, seeds and photos (artists, photos and seeds drawn anew) of the other loss "
    "over MetaStyle's lies above 1. Reproduced if it is ahead of all named starts at every count, "
    "partly if at some, else not."
)
RIVALS = {
    "C4": ["scratch"],  # as the paper has it: Johnson's network at the same learning rate
    "Fair to Johnson": ["scratch-best"],  # at its own best learning rate
    "Any trained start": ["painting", "autoencoder"],
}
REFERENCE = "metastyle"
ADAPTATION = ["artwork", "artist", "seed"]  # columns that name one


class Run(NamedTuple):
    """Losses by start, artwork, artist, seed, update and photo, and their means over the photos;
    `labels` have a start's learning rate."""

    settings: Starts
    losses: pd.DataFrame
    means: pd.DataFrame
    labels: dict[str, str]


def read(project: Project) -> Run:
    """The results of stage `starts`."""
    settings, folder = Starts.read(project, "starts"), project.inputs / "starts"
    tables = [pd.read_csv(folder / name / "losses.csv") for name in settings.names]
    losses = pd.concat(tables, ignore_index=True).rename(columns={"arm": "start"})
    by = ["start", *ADAPTATION, "update"]
    means = losses.groupby(by, sort=False)[["loss", "content", "style"]].mean().reset_index()
    rates = losses.groupby("start", sort=False)["learning_rate"].first()
    labels = {name: f"{name} ({rate:g})" for name, rate in rates.items()}
    return Run(settings, losses, means, labels)


def figure(run: Run) -> Figure:
    """The loss and its two unweighted terms against updates, from each start."""
    columns = ["loss", "content", "style"]
    return plots.quartile_bands(_by_label(run, run.means), "update", columns, columns)


def relative_figure(run: Run) -> Figure:
    """The loss over MetaStyle's of the same artwork and seed, in which the size of a painting's
    Gram matrices cancels."""
    table = run.means.set_index([*ADAPTATION, "update"])
    reference = table.loc[table["start"] == REFERENCE, "loss"]
    table = table.assign(ratio=table["loss"] / reference.reindex(table.index)).reset_index()
    tables = _by_label(run, table.dropna(subset="ratio"))
    return plots.quartile_bands(tables, "update", ["ratio"], ["loss over MetaStyle's"])


def _by_label(run: Run, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {label: table[table["start"] == name] for name, label in run.labels.items()}


def ratios(run: Run) -> pd.DataFrame:
    """Median of the loss over MetaStyle's, an interval per start and count; above 1 MetaStyle is
    ahead."""
    over, counts = ["artist", "photo", "seed"], run.settings.compare_at
    table = curves.ratios(run.losses, REFERENCE, counts, run=[*ADAPTATION, "photo"], over=over)
    return table.rename_axis(columns="updates")


def needed(run: Run) -> pd.DataFrame:
    """Updates to the losses that MetaStyle has after `compare_at` updates, a `curves.Needed` per
    start and count: medians over artworks and seeds (artists and seeds drawn anew)."""
    counts, over = run.settings.compare_at, ["artist", "seed"]
    table = curves.needed(run.means, REFERENCE, counts, run=ADAPTATION, over=over)
    return table.rename_axis(columns="updates")


def judge(run: Run) -> list[claims.Row]:
    """The claims of `RIVALS` by `RULE`, and how long Johnson's network needs."""
    intervals, counts, losses = ratios(run), run.settings.compare_at, run.losses
    number = {name: losses[name].nunique() for name in ("artwork", "artist", "photo", "seed")}
    told = "{artwork} artworks by {artist} artists, {photo} photos, seeds: {seed}.".format(**number)
    rows = []
    for claim, rivals in RIVALS.items():
        there = [name for name in rivals if name in intervals.index]
        missing = [name for name in rivals if name not in there]
        ahead = curves.ahead(intervals, there) if there else []
        rows.append(
            claims.row(
                claim, f"updates after which MetaStyle is ahead of {' and '.join(there or rivals)}",
                ", ".join(map(str, ahead)) or ("none" if there else "not run"), rule=RULE,
                paper="far below, for one painting" if claim == "C4" else None,
                verdict="not judged" if missing else claims.graded(len(ahead), len(counts)),
                note=f"Not run: {', '.join(missing)}." if missing else told,
            )
        )  # fmt: skip
    if "scratch-best" in run.labels:
        rate = float(losses.loc[losses["start"] == "scratch-best", "learning_rate"].iloc[0])
        tried = run.settings.rates
        place = "one end" if rate in (min(tried), max(tried)) else "neither end"
        quantity = "learning rate that is best for Johnson's network on validation artworks"
        note = f"At {place} of those tried."
        rows.append(claims.row("Fair to Johnson", quantity, rate, note=note))
    if "scratch" in run.labels:
        for count in counts:
            quantity = f"loss from scratch over MetaStyle's after {count} updates"
            rows.append(claims.row("C4", quantity, intervals.at["scratch", count]))
        for count, found in needed(run).loc["scratch"].items():
            quantity = f"updates from scratch to MetaStyle's loss after {count}"
            rows.append(claims.row("C4", quantity, found.median, note=found.told()))
    return rows


def pictures(project: Project, run: Run) -> Figure:
    """The first artwork with the first seed, from each start: painting, photo, and renderings of
    the first held-out photo on the way."""
    folder, first = project.inputs / "starts", run.losses.iloc[0]
    listed = splits.listed(project)
    artwork = listed.index[(listed["side"] == "artwork") & (listed["file"] == first["artwork"])][0]
    photo = splits.read(project).photos.held_out[first["photo"]]
    renders = {
        name: [images.load(file) for file in sorted((folder / name / "renders").glob("*.png"))]
        for name in run.labels
    }
    size = renders[REFERENCE][0].shape[-1]
    given = [images.load_square(file, size) for file in (artwork, photo)]
    updates = sorted(int(file.stem) for file in (folder / REFERENCE / "renders").glob("*.png"))
    columns = [listed.at[artwork, "title"], "photo", *(f"{update} updates" for update in updates)]
    rows = [[*given, *found] for found in renders.values()]
    return plots.grid(rows, columns=columns, labels=[*renders])


def crops_seen(project: Project, run: Run) -> pd.DataFrame:
    """Crops of photos that each start was trained on before the adaptation."""
    meta = MetaTraining.read(project, "meta_train")
    crops = dict.fromkeys(run.labels, 0) | {REFERENCE: loader.crops_seen(meta)[0]}
    for name in {"painting", "autoencoder"} & crops.keys():
        updates = getattr(run.settings, name)
        crops[name] = updates.updates * updates.contents_per_batch
    return pd.DataFrame({"crops": crops})
