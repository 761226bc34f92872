"""Chapter 3: what a few updates make of the style-neutral network, and which recipe reaches which
loss in how many seconds (claim C3)."""

import json
from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from metastyle import plots
from metastyle.adaptation.adapt import Adaptation, Updates, adapt
from metastyle.baselines import context, gatys
from metastyle.config import CropSide, Precision, Project, Section
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_neutral
from metastyle.evaluation import claims
from metastyle.evaluation.machine import has_bfloat16
from metastyle.evaluation.statistics import bootstrap, geometric_mean, weighted_median
from metastyle.files import write_table
from metastyle.studies import frontier
from metastyle.studies.adapt import held_out
from metastyle.studies.recipes import PAPER

ENOUGH = "Which loss is low enough was not fixed before the runs; the pictures are for the reader."
COST = (
    "Reproduced if an adaptation by the paper's recipe and one by the default recipe each cost "
    "less than one optimised image, partly if one of them does, else not."
)
PAPER_SECONDS = {"paper's": 24, "default": "under 30"}  # of an adaptation [paper]
PAPER_IMAGES = "7.7 (256 px), 27.1 (512 px)"  # seconds [paper, Table 1]
TERMS = ["loss", "content", "style"]


class AdaptChapter(Section):
    """Section `adapt_chapter`.

    seconds: what an adaptation may cost. turns, budget, largest: see `frontier.measure`.
    """

    seconds: PositiveFloat
    turns: PositiveInt
    budget: NonNegativeFloat
    largest: CropSide | None


class Optimised(Section, extra="ignore"):
    """Of section `table1`: updates of an optimised image, and those after which it is timed."""

    updates: PositiveInt
    updates_timed: PositiveInt


class Run(NamedTuple):
    """What the stages `adapt` and `recipes` left, and what updates cost here.

    paintings: title and artist of the held-out artworks, by file. photos: held-out ones, RGB in
    [0, 1], (N, 3, H, H). curves: losses of the default on them. known: the recipes; losses: theirs
    on validation artworks; held_out: the paper's on the first of `paintings`. seconds: of updates,
    and `image`: of one image of the photos' size by Gatys' method. points: see `frontier.points`.
    """

    project: Project
    settings: AdaptChapter
    default: Adaptation
    paintings: pd.DataFrame
    photos: Tensor
    curves: pd.DataFrame
    known: dict[str, Adaptation]
    losses: pd.DataFrame
    held_out: pd.DataFrame
    seconds: frontier.Seconds
    image: float
    points: pd.DataFrame


def run(project: Project) -> Run:
    """Read results, and time updates; the table of seconds goes to results.

    Recipes in bfloat16 count only where the processor has instructions for it.
    """
    settings = AdaptChapter.read(project, "adapt_chapter")
    default, data = Adaptation.read(project, "adapt"), splits.Data.read(project, "data")
    results = project.inputs
    names = json.loads((results / "adapt" / "styles.json").read_text())
    paintings = splits.listed(project).loc[[project.root / data.artworks / n for n in names]]
    stored = json.loads((results / "recipes" / "recipes.json").read_text())
    known = {name: Adaptation.model_validate(values) for name, values in stored.items()}
    if not has_bfloat16():
        known = {name: recipe for name, recipe in known.items() if recipe.precision == "float32"}
    curves, losses, reported = (
        pd.read_csv(results / file)
        for file in ("adapt/curves.csv", "recipes/losses.csv", "recipes/held_out.csv")
    )
    losses = losses[losses["recipe"].isin(known)]

    shared, start, (_, photos) = context(project), load_neutral(project), held_out(project)
    painting = images.load(paintings.index[0], default.style_size)
    dot = torch.rand(1, 3, images.MIN_SIDE, images.MIN_SIDE)

    def adapted(recipe: Adaptation, whole: bool) -> object:
        return adapt(start, painting if whole else dot, shared.photos, shared.loss, recipe)

    method = gatys.build(gatys.Settings.read(project, "methods.gatys"), shared)
    target, timed = method.prepare(painting), Optimised.read(project, "table1")
    image = f"Gatys, {timed.updates_timed} updates"
    others = {image: lambda: method.stylise(target, photos[:1], updates=timed.updates_timed)}
    limits = settings.model_dump(exclude={"seconds"})
    wanted = frontier.kinds([*known.values(), default])
    seconds = frontier.measure(wanted, adapted, default, others | convolutions(), **limits)
    file = project.outputs / "adapt_chapter" / "seconds.csv"
    table = frontier.timings(seconds)
    write_table(file, table, index=True, index_label="what", float_format="%.4g")
    whole = seconds[image].median * timed.updates / timed.updates_timed
    points = frontier.points(losses, known, seconds)
    return Run(
        project, settings, default, paintings, photos, curves, known, losses, reported, seconds,
        whole, points,
    )  # fmt: skip


def convolutions() -> dict[str, Callable[[], object]]:
    """A convolution like VGG-16's in either number format, to be timed."""
    x, weight = torch.rand(1, 128, 32, 32), torch.rand(128, 128, 3, 3)

    def call(dtype: torch.dtype) -> Callable[[], object]:
        a, b = (t.to(dtype, memory_format=torch.channels_last) for t in (x, weight))
        return lambda: F.conv2d(a, b, padding=1)

    return {f"convolution, {name}": call(getattr(torch, name)) for name in get_args(Precision)}


def curves(run: Run) -> Figure:
    """Losses of the default on held-out photos against updates, over the held-out artworks."""
    titles = ["loss (weighted sum)", "content term", "style term"]
    return plots.quartile_bands({"held-out artworks": run.curves}, "update", TERMS, titles)


def changes(run: Run) -> pd.DataFrame:
    """Of the default, by artwork: title, artist, the loss before the first update and after the
    last, and the ratio of after to before of the loss and of its terms."""
    by_update = run.curves.set_index(["update", "artwork"])[TERMS]
    before, after = (by_update.loc[u] for u in run.curves["update"].agg(["min", "max"]))
    table = run.paintings[["title", "artist"]].reset_index(drop=True)
    table = table.assign(before=before["loss"], after=after["loss"])
    return table.join(after / before)


def pictures(run: Run, photo: int) -> Figure:
    """A held-out photo by the networks of each artwork: before the updates, early, at the end."""
    folder = run.project.inputs / "adapt" / "renders"
    updates = sorted({int(file.stem.split("_")[1]) for file in folder.glob("*.png")})
    updates = [*updates[:2], updates[-1]]
    rows = [
        [images.load_square(file, run.photos.shape[-1]), run.photos[photo]]
        + [images.load(folder / f"{k}_{update:04d}_{photo}.png") for update in updates]
        for k, file in enumerate(run.paintings.index)
    ]
    columns = ["painting", "photo", *(f"{update} updates" for update in updates)]
    titles = [title.split(" - ")[0] for title in run.paintings["title"]]
    return plots.grid(rows, columns=columns, labels=titles, cell=2.4)


def figure(run: Run) -> Figure:
    """Loss over the end of the paper's recipe against seconds, and the points nothing beats."""
    limit, best = run.settings.seconds, frontier.cheapest(run.points)
    chosen = frontier.choice(run.points, limit)
    shown = dict.fromkeys([PAPER, best["recipe"], *([] if chosen is None else [chosen["recipe"]])])
    marks = {f"{limit:g} s": limit, "one optimised image": run.image}
    return plots.frontier(run.points, frontier.efficient(run.points), [*shown], marks)


def efficient(run: Run) -> pd.DataFrame:
    """The points that nothing beats, by rising seconds; ratios with intervals over the artworks."""
    table = frontier.efficient(run.points)
    found = [str(frontier.ratio(run.losses, point)) for _, point in table.iterrows()]
    return table.assign(ratio=found).reset_index(drop=True)


def differences(run: Run) -> pd.DataFrame:
    """Where the default differs from what the rule chooses here; nothing without a choice."""
    chosen = frontier.choice(run.points, run.settings.seconds)
    recipe = run.default
    if chosen is not None:
        recipe = run.known[chosen["recipe"]].changed(updates=int(chosen["update"]))
    names = [n for n in Updates.model_fields if getattr(recipe, n) != getattr(run.default, n)]
    rows = {name: [getattr(run.default, name), getattr(recipe, name)] for name in names}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["default", "chosen"])


def on_held_out(run: Run) -> pd.DataFrame:
    """Losses on the held-out artworks that the paper's recipe was run on: before the updates,
    after the default's, and by the number of the paper's, halfway and at its end; ratio: default
    over the last."""
    paper = run.held_out.pivot(index="artwork", columns="update", values="loss")
    half, end = max(u for u in paper.columns if u <= paper.columns[-1] / 2), paper.columns[-1]
    table = changes(run)[["title", "before", "after"]].rename(columns={"after": "default"})
    table = table.join(paper[[half, end]], how="inner")
    return table.assign(ratio=table["default"] / table[end])


def judge(run: Run) -> list[claims.Row]:
    """C3: what the updates do to the loss, and what they cost, by `COST`."""
    return [*_updates(run), *_recipes(run), *_costs(run)]


def check(run: Run) -> None:
    """Print whether the frontier falls and all ratios are finite, and the ratio that is 1."""
    paper = run.points[run.points["recipe"] == PAPER]
    print("frontier falls:", frontier.efficient(run.points)["ratio"].is_monotonic_decreasing)
    print("finite:", bool(np.isfinite(run.points["ratio"]).all()))
    print("the paper's recipe at its end:", paper["ratio"].iloc[-1])


def _updates(run: Run) -> list[claims.Row]:
    table, saturated = changes(run), run.curves.groupby("update")["saturated"].mean()
    rows = []
    for term, name in zip(TERMS, ["loss", "content term", "style term"], strict=True):
        found = bootstrap(table, term, ["artist"], weighted_median)
        quantity = f"{name} after {saturated.index[-1]} updates over before, held-out artworks"
        note = f"Single ones of {len(table)}: {table[term].min():.2f} to {table[term].max():.2f}."
        rows.append(claims.row("C3", quantity, found, note=note))
    paper = "one or two hundred updates are enough"
    rows[0] = rows[0].changed(rule=ENOUGH, verdict="not judged", paper=paper)
    quantity = "share of output values at an end of the range, after the updates"
    note = f"Before them {saturated.iloc[0]:.2g}; those of the photos themselves are included."
    return [*rows, claims.row("C3", quantity, float(saturated.iloc[-1]), note=note)]


def _recipes(run: Run) -> list[claims.Row]:
    held, limit = on_held_out(run).rename_axis("artwork").reset_index(), run.settings.seconds
    half, end = held.columns[-3:-1]
    halfway = geometric_mean(held.assign(ratio=held[half] / held[end]), "ratio", ["artwork"])
    default = geometric_mean(held, "ratio", ["artwork"])
    of = f"{len(held)} held-out artworks"
    first = f"loss after {half} updates of the paper's recipe over that after {end}, {of}"
    second = f"loss of the default over that of the paper's recipe, {of}"
    note = f"The default is {frontier.compared(default)} the paper's recipe there."
    rows = [claims.row("C3", first, halfway), claims.row("C3", second, default, note=note)]
    best = {"the cheapest recipe that is no worse, by the estimate,": frontier.cheapest(run.points)}
    if (chosen := frontier.choice(run.points, limit)) is not None:
        best[f"the recipe that the rule chooses within {limit:g} s"] = chosen
    for name, point in best.items():
        ratio = frontier.ratio(run.losses, point)
        told = f"{point['recipe']} after {point['update']} updates, {point['seconds']:.1f} s: "
        told += f"{frontier.compared(ratio)} the paper's recipe."
        quantity = f"loss of {name} over that of the paper's recipe, validation artworks"
        rows.append(claims.row("C3", quantity, ratio, note=told, machine=True))
    return rows


def _costs(run: Run) -> list[claims.Row]:
    recipes = {"default": run.default, "paper's": run.known[PAPER]}
    spent = {k: frontier.cost(recipe, recipe.updates, run.seconds) for k, recipe in recipes.items()}
    over = {name: seconds / run.image for name, seconds in spent.items()}
    rows = []

    def add(quantity: str, found: float, **rest: object) -> None:
        rows.append(claims.row("C3", quantity, found, machine=True, **rest))

    for name, seconds in spent.items():
        within = "Within" if seconds <= run.settings.seconds else "Beyond"
        note = f"{within} the limit of {run.settings.seconds:g} s."
        quantity = f"seconds of an adaptation by the {name} recipe"
        add(quantity, seconds, paper=PAPER_SECONDS[name], note=note)
    image = f"one optimised image of {run.photos.shape[-1]} px"
    add(f"seconds of {image}", run.image, paper=PAPER_IMAGES)
    add(f"seconds of an adaptation by the default recipe over {image}", over["default"])
    add(
        f"seconds of an adaptation by the paper's recipe over {image}", over["paper's"],
        rule=COST, paper="below 1", verdict=claims.graded(sum(x < 1 for x in over.values()), 2),
        note=f"By the default recipe, {run.default.updates} updates, {over['default']:.2g}.",
    )  # fmt: skip
    half, single = (run.seconds[f"convolution, {name}"] for name in ("bfloat16", "float32"))
    told = "" if has_bfloat16() else "The processor lacks instructions for bfloat16."
    add("seconds of a convolution in bfloat16 over float32", half.over(single).median, note=told)
    return rows
