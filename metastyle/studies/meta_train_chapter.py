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
from metastyle.core.checkpoint import load_network, load_neutral
from metastyle.core.losses import Perceptual
from metastyle.core.network import TransformerNet, stylise
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import Interval, geometric_mean
from metastyle.meta.loader import MetaTraining, training_images
from metastyle.studies import model_card


class MetaTrainChapter(Section):
    """Section `meta_train_chapter`.

    photos: held-out photos shown, the first by name, at `size` pixels. smooth: iterations of the
    running median.
    """

    photos: PositiveInt
    size: ImageSide
    smooth: PositiveInt


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
    """Read the stages' results."""
    folder, sets = project.inputs / "meta_train", splits.read(project)
    networks = {
        f"{int(file.stem):,} iterations": load_network(file)
        for file in sorted(folder.glob("snapshots/*.safetensors"))
    }
    validation = pd.read_csv(project.inputs / "validation" / "curves.csv")
    titles = splits.listed(project)["title"]
    validation["painting"] = [titles[sets.artworks.validation[k]] for k in validation["artwork"]]
    return Run(
        project,
        MetaTrainChapter.read(project, "meta_train_chapter"),
        MetaTraining.read(project, "meta_train"),
        Perceptual.read(project, "perceptual"),
        sets,
        pd.read_csv(folder / "log.csv"),
        validation,
        networks | {"result": load_neutral(project)},
    )


def settings(run: Run) -> pd.DataFrame:
    """The parameters of this run."""
    values = run.training.model_dump(exclude={"photos", "artworks"}) | run.perceptual.model_dump()
    return pd.DataFrame({"here": pd.Series(values, dtype=object).map(str)})


def curves(run: Run, *columns: str) -> Figure:
    """Columns of the log against the iteration, with a running median, and a line where the
    training changes its way."""
    s, length = run.training, len(run.log)
    changes = {
        "full style weight": s.style_warmup,
        "first order from here": s.exact_iterations if s.order == "second" else None,
        f"{s.last_size} px": length - s.last_iterations if s.last_iterations else None,
    }
    return plots.curves(
        {"": run.log},
        "iteration",
        columns,
        smooth=run.settings.smooth,
        linear=["saturated"],
        marks={name: at for name, at in changes.items() if at and at < length},
    )


def _full(run: Run) -> pd.DataFrame:
    """The iterations at full style weight."""
    return run.log[run.log["iteration"] > run.training.style_warmup]


def medians(run: Run) -> pd.DataFrame:
    """Medians of the first iterations at full style weight and of the last ones before the crops
    grow, as many of each as are averaged at the end; and the range of all at full weight."""
    full, s = _full(run), run.training
    window = s.average_last or run.settings.smooth
    alike = full[full["iteration"] <= len(run.log) - s.last_iterations]
    columns = ["loss", "content", "style", "gradient_norm", "saturated"]
    found = {
        f"first {window}": alike[columns].head(window).median(),
        f"last {window}": alike[columns].tail(window).median(),
        "5 % of all": full[columns].quantile(0.05),
        "95 % of all": full[columns].quantile(0.95),
        "largest": full[columns].max(),
    }
    return pd.DataFrame(found)


def inner_share(run: Run) -> pd.Series:
    """What an inner step takes off the loss, as a share of it, in each iteration at full weight.

    To first order a step of gradient g lowers the loss by delta |g|^2; for |g| stands the norm of
    the meta-gradient per style (it is a sum over the styles, the loss a mean).
    """
    full, s = _full(run), run.training
    norm = full["gradient_norm"] / s.styles_per_iteration
    return s.inner_learning_rate * norm**2 / full["loss"]


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
    table, share = medians(run), inner_share(run)
    start, end, low, high, largest = table.columns
    counts = sorted(run.validation["update"].unique())
    fewer, most = counts[-2:][0], counts[-1]
    some, found = losses(run, fewer), losses(run, most)
    *kept, result = found.columns
    first, before, last = kept[0], kept[-2:][0], kept[-1]
    at = f"evaluation loss after {most} updates"
    above = f"iterations of {len(share):,} in which an inner step takes more than the loss"
    quantities: dict[str, Any] = {
        f"outer loss, median of the {start} iterations at full style weight": table[start]["loss"],
        f"outer loss, median of the {end} iterations of that size": table[end]["loss"],
        "outer loss that 5 % of the iterations are below": table[low]["loss"],
        "outer loss that 95 % of the iterations are below": table[high]["loss"],
        "largest share of saturated output values": table[largest]["saturated"],
        "share of the loss that an inner step takes, median": share.median(),
        "share of the loss that an inner step takes, 90 % are below": share.quantile(0.9),
        above: int((share > 1).sum()),
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
    counted = run.log["iteration"].tolist() == [*range(1, len(run.log) + 1)]
    finite = run.log.notna().all(axis=None) and run.validation.notna().all(axis=None)
    first, *_, result = (next(network.parameters()) for network in run.networks.values())
    print("every iteration is in the log:", counted)
    print("every number is finite:", bool(finite))
    print("the network was changed:", bool((first != result).any()))
