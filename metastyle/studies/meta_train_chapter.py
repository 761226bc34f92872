"""Chapter 2: the course of the meta-training, its networks, and what they are worth."""

import json
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pydantic import PositiveInt

from metastyle import plots
from metastyle.config import ImageSide, Project, Section
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_network, load_neutral, load_tensors
from metastyle.core.losses import REPORT, Perceptual
from metastyle.core.network import TransformerNet, stylise
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.meta.bilevel import Directions
from metastyle.meta.loader import MetaTraining, training_images
from metastyle.studies import model_card
from metastyle.studies.inner_step import InnerStep

LINEAR = ["saturated", "spikes", "idle", "support_change", "query_change", *Directions._fields]


class MetaTrainChapter(Section):
    """Section `meta_train_chapter`.

    photos: held-out photos shown, the first by name, at `size` pixels. smooth: iterations of the
    running median. inner_step: see there.
    """

    photos: PositiveInt
    size: ImageSide
    smooth: PositiveInt
    inner_step: InnerStep


class Run(NamedTuple):
    """What the stages `meta_train` and `validation` left.

    log: columns of `meta.train.COLUMNS`. validation: those of `validation.run`, and `painting`, a
    title. networks: by name, those kept on the way and the result.
    """

    project: Project
    settings: MetaTrainChapter
    training: MetaTraining
    perceptual: Perceptual
    sets: splits.Sets
    log: pd.DataFrame
    validation: pd.DataFrame
    networks: dict[str, TransformerNet]


def read(project: Project) -> Run:
    """Read the stages' results; the settings are those that the network's file holds."""
    folder, sets = project.inputs / "meta_train", splits.read(project)
    networks = {
        f"{int(file.stem):,} iterations": load_network(file)
        for file in sorted(folder.glob("snapshots/*.safetensors"))
    }
    validation = pd.read_csv(project.inputs / "validation" / "curves.csv")
    _, ran = load_tensors(folder / "network.safetensors")
    titles = splits.listed(project)["title"]
    validation["painting"] = [titles[sets.artworks.validation[k]] for k in validation["artwork"]]
    return Run(
        project,
        MetaTrainChapter.read(project, "meta_train_chapter"),
        MetaTraining(**ran["settings"]),
        Perceptual(**ran["perceptual"]),
        sets,
        pd.read_csv(folder / "log.csv"),
        validation,
        networks | {"result": load_neutral(project)},
    )


def settings(run: Run) -> pd.DataFrame:
    """The parameters of this run."""
    values = run.training.model_dump(exclude={"photos", "artworks", "phases"})
    values |= run.perceptual.model_dump()
    return pd.DataFrame({"here": pd.Series(values, dtype=object).map(str)})


def phases(run: Run) -> pd.DataFrame:
    """The parts of the run: a row each, from 1, with its first and last iteration."""
    table = pd.DataFrame([phase.model_dump() for phase in run.training.phases])
    last = table.pop("iterations").cumsum()
    table.insert(0, "last", last)
    table.insert(0, "first", last.shift(fill_value=0) + 1)
    return table.set_axis(pd.RangeIndex(1, len(table) + 1, name="phase"))


def curves(run: Run, *columns: str) -> Figure:
    """Columns of the log against the iteration, with a running median, and a line where a phase
    ends."""
    return plots.curves(
        {"": run.log},
        "iteration",
        columns,
        smooth=run.settings.smooth,
        linear=LINEAR,
        marks=_marks(run),
    )


def _marks(run: Run) -> dict[str, int]:
    """The last iterations of all phases but the last, by what begins then."""
    table = phases(run)
    ends = zip(table.index[1:], table["last"][:-1], strict=True)
    marks = {f"phase {phase} from here": int(last) for phase, last in ends}
    warm = run.training.style_warmup
    return marks | ({"full style weight": warm} if 0 < warm < len(run.log) else {})


def directions(run: Run) -> Figure:
    """How far the exact gradient is from joint training's and first order's, along the run: the
    iterations in which it was measured."""
    columns = [*Directions._fields]
    table = {"": run.log.dropna(subset=columns)}
    options = {"marker": "o", "linear": LINEAR, "marks": _marks(run)}
    return plots.curves(table, "iteration", columns, **options)


def directions_by_delta(compared: pd.DataFrame) -> Figure:
    """The same of the result, against delta; see `inner_step.compare`."""
    return plots.against_delta(compared, [*Directions._fields])


def _by_phase(run: Run) -> list[tuple[str, pd.DataFrame]]:
    """Each phase's name and its rows of the log, those at full style weight."""
    full = run.log[run.log["iteration"] > run.training.style_warmup]
    return [
        (f"phase {row.Index}", full[full["iteration"].between(row.first, row.last)])
        for row in phases(run).itertuples()
    ]


def medians(run: Run) -> pd.DataFrame:
    """Medians of each phase's first and last iterations at full style weight, as many as are
    averaged at the end."""
    window = run.training.average_last or run.settings.smooth
    columns = [*REPORT, "gradient_norm", "support_change", "query_change", *Directions._fields]
    found = {}
    for name, rows in _by_phase(run):
        found[name, f"first {window}"] = rows[columns].head(window).median()
        found[name, f"last {window}"] = rows[columns].tail(window).median()
    return pd.DataFrame(found)


def validation_curves(run: Run) -> Figure:
    """Evaluation losses against the iteration that the network is from, by updates."""
    snapshots = run.validation[run.validation["network"] == "snapshot"]
    tables = {f"{update} updates": table for update, table in snapshots.groupby("update")}
    return plots.means(tables, "iteration", ["loss", "content", "style"])


def losses(run: Run, update: int) -> pd.DataFrame:
    """Evaluation losses after so many updates: a row per painting; a column per snapshot, named
    by its iteration, and `result`."""
    table = run.validation[run.validation["update"] == update]
    names = table["iteration"].where(table["network"] == "snapshot", "result")
    table = table.assign(iteration=names)
    wide = table.pivot(index=["artwork", "painting"], columns="iteration", values="loss")
    return wide.droplevel("artwork")


def ratio(over: pd.Series, under: pd.Series) -> Interval:
    """Geometric mean over the paintings of a ratio of losses, with the range of the means when
    they are drawn anew."""
    return geometric_mean((over / under).rename("ratio").reset_index(), "ratio", ["painting"])


def validation_ratios(run: Run) -> pd.DataFrame:
    """Losses after the most updates over the untrained network's, painting by painting, and
    their geometric means."""
    found = losses(run, run.validation["update"].max())
    table = found.div(found[found.columns[0]], axis=0).map("{:.2f}".format)
    table.loc["mean [95 %]"] = {k: str(ratio(found[k], found.iloc[:, 0])) for k in found}
    return table


def pictures(run: Run) -> Figure:
    """Held-out photos, and below them their renderings by each network before any adaptation."""
    files = run.sets.photos.held_out[: run.settings.photos]
    photos = [images.load_square(file, run.settings.size) for file in files]
    rows = [[stylise(network, photo) for photo in photos] for network in run.networks.values()]
    return plots.grid([photos, *rows], labels=["photo", *run.networks], cell=2.35)


def card(run: Run) -> Markdown:
    """The model card of the result."""
    network = dict(run.networks["result"].named_parameters())
    given = network, run.log, run.training, run.perceptual, training_images(run.sets)
    sources = pd.read_csv(run.project.root / splits.Data.read(run.project, "data").sources)
    cost = json.loads((run.project.inputs / "meta_train" / "run.json").read_text())
    return Markdown(model_card.markdown(*given, sources, **cost))


def judge(run: Run) -> list[claims.Row]:
    """What the training did to the outer loss, how far an inner step goes, and what the network
    is worth in an adaptation. No claim of the paper is judged by these alone."""
    quantities: dict[str, Any] = {}
    window = run.training.average_last or run.settings.smooth
    for name, rows in _by_phase(run):
        first, last = rows.head(window), rows.tail(window)
        quantities[f"outer loss, median of the first {window} iterations of {name}"] = first[
            "loss"
        ].median()
        for column, words in (
            ("loss", "outer loss"),
            ("spikes", "excess kurtosis of normalised maps"),
            ("idle", "share of positions with at most two channels alive"),
        ):
            quantities[f"{words}, median of the last {window} iterations of {name}"] = last[
                column
            ].median()
        change, cosines = rows["support_change"].dropna(), rows["joint"].dropna()
        if len(change):
            words = "what the inner steps change of their own batch's loss, a share of it, median"
            quantities[f"{words}, {name}"] = change.median()
            words = f"iterations of {len(change):,} in which they raise it"
            quantities[f"{words}, {name}"] = int((change > 0).sum())
        if len(cosines):
            words = "cosine of the exact gradient and joint training's, median"
            quantities[f"{words}, {name}"] = cosines.median()
            words = "cosine of the exact gradient and first order's, median"
            quantities[f"{words}, {name}"] = rows["first_order"].median()
    quantities["largest share of saturated output values"] = run.log["saturated"].max()
    rows = [claims.row("meta-training", name, value) for name, value in quantities.items()]
    return rows + _of_validation(run)


def _of_validation(run: Run) -> list[claims.Row]:
    """What the networks along the run are worth, one over another."""
    counts = sorted(run.validation["update"].unique())
    fewer, most = counts[-2:][0], counts[-1]
    some, found = losses(run, fewer), losses(run, most)
    *kept, result = found.columns
    first, before, last = kept[0], kept[-2:][0], kept[-1]
    at = f"evaluation loss after {most} updates"
    quantities = {
        f"{at}, result over iteration {first}": ratio(found[result], found[first]),
        f"evaluation loss, result after {fewer} updates over iteration {first} after {most}": (
            ratio(some[result], found[first])
        ),
        f"{at}, iteration {last} over iteration {before}": ratio(found[last], found[before]),
        f"{at}, result over iteration {last}": ratio(found[result], found[last]),
    }
    return [claims.row("meta-training", name, value) for name, value in quantities.items()]


def check(run: Run) -> None:
    """Print whether the training is whole."""
    log, bilevel = run.log, [phase.inner_steps > 0 for phase in run.training.phases]
    counted = log["iteration"].tolist() == [*range(1, run.training.iterations + 1)]
    stepped = pd.Series(bilevel).repeat([phase.iterations for phase in run.training.phases])
    changes = ["support_change", "query_change"]
    always = log.drop(columns=[*changes, *Directions._fields]).notna().all(axis=None)
    finite = always and run.validation.notna().all(axis=None)
    known = log[changes].notna().all(axis=1).tolist() == stepped.tolist()
    first, *_, result = (next(network.parameters()) for network in run.networks.values())
    print("every iteration is in the log:", counted)
    print("every number is finite:", bool(finite))
    print("what inner steps change is known where there are any:", known)
    print("the network was changed:", bool((first != result).any()))
