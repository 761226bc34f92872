"""Chapter 5, figure 4: eight methods compared, in pictures and in measures (claim C5)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.adaptation.adapt import Adaptation
from metastyle.baselines import Context, gatys, johnson, registry
from metastyle.baselines.training import Pretraining
from metastyle.config import Project
from metastyle.core import crops, images, splits
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.evaluation import claims, metrics
from metastyle.evaluation.metrics import MEASURES
from metastyle.evaluation.statistics import bootstrap, number
from metastyle.studies._standing import (
    BESIDE,
    INDEPENDENT,
    JUDGED,
    PARTS,
    PEERS,
    RULE,
    claim,
    gain,
    standing,
)
from metastyle.studies.images import ANCHORS, KEYS, Comparison, measured

# What the paper says of each.
PAPER = {
    "gatys": "with Johnson the best image quality of all methods tested, and the slowest",
    "johnson": "with Gatys the best image quality; one training for each style",
    "wct": "strokes in excess: blobs of colour in which much of the photo's structure is lost",
    "adain": "unnatural cracks and discontinuities",
    "shen": "strange regions of colour, probably from image networks that have not converged",
    "avatarnet": "contours of the photo are changed without need",
    "styleswap": "the painting's colours are taken over, its strokes and effects are not",
    "metastyle": "after adaptation the quality of Johnson's networks",
}
# Photos of 256 x 256 pixels that a published training saw: AdaIN's 160,000 batches of 8; the others
# name their photos alone, about 80,000 (MS-COCO), which are counted once.
PUBLISHED = dict.fromkeys(["wct", "shen", "avatarnet", "styleswap"], 80_000)
PUBLISHED["adain"] = 160_000 * 8


class Run(NamedTuple):
    """What the chapter shows, by method: MetaStyle beside its peers, then the others.

    pairs: photos and artworks of the figure. tables: of the images' measures, see `images.Run`;
    anchors: the same of the photo left as it is, and of the painting. differences: from `against`
    MetaStyle. trainings: see `trainings`.
    """

    project: Project
    settings: Comparison
    loss: PerceptualLoss
    pairs: list[tuple[Path, Path]]
    tables: dict[str, pd.DataFrame]
    anchors: dict[str, pd.DataFrame]
    differences: dict[str, pd.Series]
    trainings: pd.DataFrame


def trainings(project: Project, settings: Comparison) -> pd.DataFrame:
    """How each method was trained, as far as it is known.

    Returns:
        Indexed by method: iterations (at most; Gatys' are of every image), photos of an iteration,
        sides of its crops in pixels; for methods that train once for all styles share, of the
        pixels of `PUBLISHED`; and not judged: why, or nothing.
    """
    runs = Pretraining.read(project, "pretrain").runs
    known: dict[str, tuple] = {k: (r.iterations, r.photos, [r.size]) for k, r in runs.items()}
    scratch = johnson.Settings.read(project, "methods.johnson")
    for name, s in (("johnson", scratch), ("metastyle", Adaptation.read(project, "adapt"))):
        known[name] = s.updates, s.contents_per_batch, s.sizes
    iterations = gatys.Settings.read(project, "methods.gatys").updates
    known["gatys"] = iterations, 1, [settings.size]
    table = pd.DataFrame.from_dict(known, "index", columns=["iterations", "photos", "sides"])
    table["share"], table["not judged"] = "", ""
    reached = json.loads((project.inputs / "baselines" / "floors.json").read_text())
    for name, r in runs.items():
        share = r.iterations * r.photos * r.size**2 / (PUBLISHED[name] * 256**2)
        missed = [k for k, good in reached.items() if k.rstrip("12345") == name and not good]
        why = f"trained on {share:.2%} of the published pixels" * (share < settings.trained)
        why = f"below its floor ({', '.join(missed)})" if missed else why
        table.loc[name, ["share", "not judged"]] = f"{share:.2%}", why
    return table


def run(project: Project) -> Run:
    """Read the images' measures, measure the anchors, and take differences to MetaStyle."""
    settings, loss = Comparison.read(project, "comparison"), load_loss(project)
    folder, held_out = project.inputs / "images", splits.read(project)
    names = sorted(settings.methods, key=lambda name: name not in [*PEERS, "metastyle"])
    tables = {name: pd.read_csv(folder / name / "metrics.csv") for name in names}
    anchors = {
        name: measured(anchor, project, loss, settings, f"anchor: {name}")[0]
        for name, anchor in ANCHORS.items()
    }
    others = {name: table for name, table in tables.items() if name != "metastyle"}
    differences = {name: against(table, tables["metastyle"]) for name, table in others.items()}
    files = held_out.photos.held_out, held_out.artworks.held_out
    pairs = crops.pairs(*files, settings.pairs, settings.seed)
    given = project, settings, loss, pairs, tables, anchors, differences
    return Run(*given, trainings(project, settings).reindex(names))


def means(table: pd.DataFrame) -> pd.Series:
    """How many pairs a table has, and the mean of each of `MEASURES` with its interval over artists
    and photos.

    Args:
        table: columns photo, artwork, artist and `MEASURES`.
    """
    found = {name: bootstrap(table, name, ["artist", "photo"]) for name in MEASURES}
    return pd.Series({"pairs": len(table), **found})


def against(table: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """`means` of the differences on the pairs that two tables share, the first minus the other."""
    both = table.merge(other, on=KEYS, suffixes=("", " other"))
    for name in MEASURES:
        both[name] -= both[f"{name} other"]
    return means(both)


def spans(run: Run) -> dict[str, float]:
    """How far the anchors are apart in each measure."""
    photo, style = (run.anchors[name][MEASURES].mean() for name in ("photo", "style"))
    return (photo - style).abs().to_dict()


def pictures(run: Run) -> Figure:
    """Figure 4: a pair in each row, and each method's image with its weighted loss."""
    size, w = run.settings.size, run.loss.settings
    listed = splits.listed(run.project)
    tables = [table.set_index(["photo", "artwork"]) for table in run.tables.values()]
    rows, under = [], []
    for k, (photo, artwork) in enumerate(run.pairs):
        made = [run.project.inputs / "images" / name / f"{k}.jpg" for name in run.tables]
        shown = [images.load_square(file, size) for file in (photo, artwork)]
        rows.append([*shown, *map(images.load, made)])
        at = [table.loc[tuple(listed.loc[[photo, artwork], "file"])] for table in tables]
        losses = (w.content_weight * row["content"] + w.style_weight * row["gram"] for row in at)
        title = listed.at[artwork, "title"].split(" - ")[0]
        under.append(["", title, *map("{:.0f}".format, losses)])
    columns = ["content", "style", *run.tables]
    return plots.grid(rows, columns=columns, under=under, cell=2.45, text=13)


def networks(run: Run) -> pd.DataFrame:
    """Parameters and GMAC where images come from another network than the one Table 1 times."""
    files = {name: run.project.inputs / "images" / name / "network.json" for name in run.tables}
    counted = {name: json.loads(file.read_text()) for name, file in files.items()}
    tables = {name: pd.DataFrame(found) for name, found in counted.items() if found}
    return pd.concat(tables or {"": pd.DataFrame()}).map(number)


def measures(run: Run) -> pd.DataFrame:
    """Means over all pairs that a method rendered, and of the anchors."""
    tables = {f"anchor: {name}": table for name, table in run.anchors.items()} | run.tables
    return pd.DataFrame({name: means(table) for name, table in tables.items()}).T.map(str)


def differences(run: Run) -> pd.DataFrame:
    """Mean differences to MetaStyle on the same pairs."""
    return pd.DataFrame(run.differences).T.map(str)


def trade_offs(run: Run, measures: Sequence[str] = JUDGED[:2]) -> Figure:
    """The differences in style and structure as a plane around MetaStyle."""
    points = {name: found[measures].tolist() for name, found in run.differences.items()}
    near = [run.settings.near * spans(run)[k] for k in measures]
    return plots.trade_offs(points, "metastyle", near, measures)


def by_alexnet(run: Run) -> Figure:
    """`trade_offs` by AlexNet, with the anchors."""
    anchors = {
        f"anchor: {name}": against(table, run.tables["metastyle"])
        for name, table in run.anchors.items()
    }
    return trade_offs(run._replace(differences=run.differences | anchors), INDEPENDENT)


def coded(run: Run) -> None:
    """Show the figure's photos through WCT's five coders, without a style and with it; and SSIM."""
    if "wct" not in run.tables:
        return
    s, folder = run.settings, run.project.inputs / "images" / "wct"
    weights = run.project.root / s.methods["wct"].made_of
    coders = registry.load("wct", run.project, Context(run.loss), weights=weights, alpha=0.0)
    rows, under = [[], []], [[], []]
    for k, (file, artwork) in enumerate(run.pairs):
        photo = images.load_square(file, s.size)
        state = coders.prepare(images.load(artwork, s.style_size))
        both = coders.stylise(state, photo), images.load_square(folder / f"{k}.jpg", s.size)
        for row, texts, image in zip(rows, under, both, strict=True):
            row.append(image)
            texts.append(f"SSIM {metrics.ssim(image, photo):.2f}")
    plots.grid(rows, labels=["no style", "style"], under=under, cell=2.45)


def judge(run: Run) -> list[claims.Row]:
    """C5 by `RULE`, its two parts, and how each method stands."""
    why, rows, stands = run.trainings["not judged"], [], {}
    for name, found in run.differences.items():
        stand = standing(found, spans(run), run.settings.near)
        gains = {measure: gain(measure, found[measure]) for measure in MEASURES}
        words = {
            "nearer": [measure for measure, (low, _) in gains.items() if low > 0],
            "farther": [measure for measure, (_, high) in gains.items() if high < 0],
        }
        told = [f"{word} in {', '.join(within)}" for word, within in words.items() if within]
        note = f"To photo or painting, on {found['pairs']} pairs, {'; '.join(told) or 'undecided'}."
        given = {"paper": PAPER.get(name), "note": note}
        if why[name]:
            given |= {"verdict": "not judged", "note": f"Not judged: {why[name]}. {note}"}
        else:
            stands[name] = stand
        rows.append(claims.row("C5", f"{name} seen from MetaStyle", stand, **given))
    verdicts, parts = claim(stands), []
    for part, (quantity, rule) in PARTS.items():
        of = [f"{k} {stand}" for k, stand in stands.items() if (k in PEERS) == (part == "near")]
        given = {"rule": rule, "verdict": verdicts[part]}
        parts.append(claims.row("C5", quantity, ", ".join(of) or "none judged", **given))
    s, left = run.settings, ", ".join(name for name in run.differences if why[name])
    seen = {k: standing(d, spans(run), s.near, INDEPENDENT) for k, d in run.differences.items()}
    found = ", ".join(f"{name} {stand}" for name, stand in seen.items())
    rows.append(claims.row("C5", "image quality by AlexNet, to MetaStyle's", found, note=BESIDE))
    note = f"`near` is {s.near:.0%}, `trained` {s.trained:.0%}. Not judged: {left or 'none'}."
    found = f"near: {verdicts['near']}; above: {verdicts['above']}"
    given = {"rule": RULE, "paper": PAPER["metastyle"], "verdict": verdicts["both"], "note": note}
    return [claims.row("C5", "image quality", found, **given), *parts, *rows]


def check(run: Run) -> None:
    """Print whether all methods are there, with finite measures."""
    finite = pd.concat(run.tables.values())[MEASURES].map(lambda v: abs(v) < float("inf"))
    print("methods:", len(run.tables), "- finite:", bool(finite.all(axis=None)))
