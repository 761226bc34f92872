"""Chapter 9, figure 5a: blends of adapted networks, and how smooth they are (claim C6)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from metastyle import plots
from metastyle.adaptation.interpolation import blend
from metastyle.config import ImageSide, Probability, Project, Section
from metastyle.core import images, losses, splits
from metastyle.core.checkpoint import load_network, load_neutral
from metastyle.core.kernels import gram
from metastyle.core.network import TransformerNet, stylise
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import bootstrap
from metastyle.files import write_table

RULE = (
    "Reproduced if on both lines the largest step over the mean one (mean over the photos) is at "
    "most a tenth above the cross-fade's and no style loss has a hill: the 95 % interval of its "
    "highest value inside the line over that at its worse end lies below 1; partly if on one "
    "line, else not."
)
NEAR = 1.1  # times the cross-fade's
LINES = {"two styles": ["style 1", "style 2"], "strength": ["style 1"]}  # and their paintings
BLENDS, FADE = "networks mixed", "pictures mixed"
QUANTITIES = {
    "largest": "largest step over the mean step",
    "detour": "length of the way over the distance of its ends",
    "hill": "highest style loss inside over that at the worse end",
}


class Interpolation(Section):
    """Section `interpolation`.

    styles: of the adapted ones; the line joins the first two, the triangle all three.
    weights: shares of the second style on the line, and strengths of the first.
    divisions: of a side of the triangle.
    measured_photos, measured_steps: how many photos and how finely the smoothness is measured.
    """

    styles: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    weights: Annotated[list[Probability], Field(min_length=2)]
    divisions: PositiveInt
    photos: PositiveInt
    size: ImageSide
    measured_photos: PositiveInt
    measured_steps: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _three_different_styles(self) -> Self:
        if len(set(self.styles)) < 3:
            raise ValueError("styles must be three different ones")
        return self


class Run(NamedTuple):
    """What was rendered and measured; images (1, 3, size, size) in [0, 1].

    titles, paintings, networks: of the three styles. lines: by name and photo the pictures at
    `weights`. grid: the triangle of the first photo, row by row. walks: the tables of `along`
    with columns line, kind, photo and λ.
    """

    settings: Interpolation
    titles: list[str]
    paintings: list[Tensor]
    networks: list[TransformerNet]
    lines: dict[str, list[list[Tensor]]]
    grid: list[list[Tensor]]
    walks: pd.DataFrame


def triangle(divisions: int) -> list[list[tuple[float, float, float]]]:
    """Weights of three styles at the points of a triangular grid, row by row from the top.

    The corners are the styles themselves: the first on top, the second at the left, the third at
    the right. Row k has k + 1 points; every point's weights sum to 1.
    """
    n = divisions
    return [[((n - k) / n, (k - i) / n, i / n) for i in range(k + 1)] for k in range(n + 1)]


def cross_fade(first: Tensor, last: Tensor, shares: Sequence[float]) -> Tensor:
    """The control: pictures mixed instead of networks, (1, 3, H, W) twice -> (K, 3, H, W)."""
    return torch.cat([torch.lerp(first, last, share) for share in shares])


@torch.no_grad()
def along(
    pictures: Tensor, loss: losses.PerceptualLoss, targets: Mapping[str, losses.StyleTarget]
) -> pd.DataFrame:
    """What a walk from one picture to another looks like to VGG-16.

    Args:
        pictures: renderings of one photo in their order, (K, 3, H, W) in [0, 1].
        targets: Gram matrices of paintings by name.

    Returns:
        K rows with columns `step`, the distance to the picture before (nan in the first row):
        the root of the content loss between the two, a distance in feature space in which the
        steps of a straight line add up to its length; `distance`, the same to the first
        picture; and per painting its style loss (`release` or `paper`, as the loss has it).
    """
    s, rows = loss.settings, []
    first = before = None
    for picture in pictures.split(1):
        layers = loss.vgg(picture, [s.content_layer, *s.style_layers])
        features = layers[s.content_layer]
        first = features if first is None else first
        grams = {k: gram(layers[k]) for k in s.style_layers}
        row = {"step": _distance(features, before), "distance": _distance(features, first)}
        row |= {k: losses.style_loss(grams, style, s).item() for k, style in targets.items()}
        rows.append(row)
        before = features
    return pd.DataFrame(rows)


def _distance(features: Tensor, others: Tensor | None) -> float:
    return np.nan if others is None else losses.content_loss(features, others).sqrt().item()


def smoothness(walk: pd.DataFrame, paintings: Sequence[str]) -> dict[str, float]:
    """Of a table of `along`: `largest`, the longest step over the mean one (1: all are equal);
    `detour`, the sum of the steps over the distance of the ends (1: a straight line); `hill`, the
    highest style loss inside over that at the worse end, of the painting where it is more."""
    steps, losses = walk["step"].iloc[1:], walk[list(paintings)]
    return {
        "largest": steps.max() / steps.mean(),
        "detour": steps.sum() / walk["distance"].iloc[-1],
        "hill": (losses.iloc[1:-1].max() / losses.iloc[[0, -1]].max()).max(),
    }


def run(project: Project) -> Run:
    """Render the lines and the triangle, measure the lines; write both to results."""
    settings = Interpolation.read(project, "interpolation")
    adapted, listed = project.inputs / "adapt", splits.listed(project)
    names = json.loads((adapted / "styles.json").read_text())
    folder = project.root / splits.Data.read(project, "data").artworks
    files = [folder / names[k] for k in settings.styles]
    paintings = [images.load_square(file, settings.size) for file in files]
    networks = [load_network(adapted / f"networks/{k}.safetensors") for k in settings.styles]
    ends = {"two styles": networks[:2], "strength": [load_neutral(project), networks[0]]}
    held_out = splits.read(project).photos.held_out
    photos = [images.load_square(file, settings.size) for file in held_out[: settings.photos]]
    lines = {
        line: [
            [stylise(blend(pair, [1 - w, w]), photo).cpu() for w in settings.weights]
            for photo in photos
        ]
        for line, pair in ends.items()
    }
    grid = [
        [stylise(blend(networks, weights), photos[0]).cpu() for weights in row]
        for row in tqdm(triangle(settings.divisions), unit="row")
    ]
    walks = _walks(ends, held_out, paintings, losses.load_loss(project), settings)
    titles = [listed["title"][file].split(" - ")[0] for file in files]
    found = Run(settings, titles, paintings, networks, lines, grid, walks)
    _save(project.outputs / "interpolation", found)
    return found


def _walks(
    ends: Mapping[str, Sequence[TransformerNet]],
    files: Sequence[Path],
    paintings: Sequence[Tensor],
    loss: losses.PerceptualLoss,
    settings: Interpolation,
) -> pd.DataFrame:
    """Both lines in small even steps by mixed networks, and the cross-fades of their ends."""
    shares = np.linspace(0, 1, settings.measured_steps + 1)
    targets = [loss.style(painting.to(loss.device)) for painting in paintings[:2]]
    targets = dict(zip(LINES["two styles"], targets, strict=True))
    walks = []
    for line, pair in ends.items():
        mixed = [blend(pair, [1 - w, w]) for w in shares]
        for file in tqdm(files[: settings.measured_photos], desc=line, unit="photo"):
            photo = images.load_square(file, settings.size)
            pictures = torch.cat([stylise(network, photo) for network in mixed])
            faded = cross_fade(pictures[:1], pictures[-1:], shares)
            for kind, walk in {BLENDS: pictures, FADE: faded}.items():
                table = along(walk, loss, targets)
                walks.append(table.assign(line=line, kind=kind, photo=file.stem, λ=shares))
    return pd.concat(walks)


def _save(folder: Path, run: Run) -> None:
    for line, name in {"two styles": "styles", "strength": "strength"}.items():
        for n, pictures in enumerate(run.lines[line]):
            for weight, picture in zip(run.settings.weights, pictures, strict=True):
                images.save(folder / f"{name}_{n}_{weight:.2f}.jpg", picture)
    for k, row in enumerate(run.grid):
        for i, picture in enumerate(row):
            images.save(folder / f"triangle_{k}_{i}.jpg", picture)
    write_table(folder / "walks.csv", run.walks, float_format="%.5g")


def paintings(run: Run) -> Figure:
    """The three paintings."""
    return plots.grid([run.paintings], columns=run.titles, cell=2)


def pictures(run: Run, line: str) -> Figure:
    """The pictures along a line, a row per photo."""
    first, second, _ = run.titles
    ends = [first, second] if line == "two styles" else ["style-neutral", first]
    columns = [f"λ = {weight:g}" for weight in run.settings.weights]
    columns[0], columns[-1] = f"{columns[0]}: {ends[0]}", f"{columns[-1]}: {ends[1]}"
    return plots.grid(run.lines[line], columns=columns, cell=2)


def three_styles(run: Run) -> Figure:
    """The triangle: its corners are the adapted networks, its inside blends of all three."""
    return plots.triangle(run.grid, run.titles, cell=1.9)


def curves(run: Run, line: str) -> Figure:
    """Steps and style losses along a line: means over the photos, standard deviation shaded."""
    here = run.walks[run.walks["line"] == line]
    tables = dict(list(here.groupby("kind", sort=False)))
    columns = ["step", *LINES[line]]
    titles = [f"style loss, {title}" for title in run.titles[: len(LINES[line])]]
    return plots.bands(tables, "λ", columns, ["distance to the one before", *titles])


def measures(run: Run) -> pd.DataFrame:
    """`smoothness`, means over the photos: an interval (photos drawn anew) per line and kind."""
    groups = run.walks.groupby(["line", "kind", "photo"], sort=False)
    found = {key: smoothness(walk, LINES[key[0]]) for key, walk in groups}
    table = pd.DataFrame(found).T.rename_axis(["line", "kind", "photo"]).reset_index()
    return _means(table, ["line", "kind"], QUANTITIES)


def middle(run: Run) -> pd.DataFrame:
    """Style losses half way between two styles, likewise; by kind and painting."""
    at = np.unique(run.walks["λ"])[(run.settings.measured_steps + 1) // 2]
    half = run.walks[(run.walks["line"] == "two styles") & (run.walks["λ"] == at)]
    names = LINES["two styles"]
    return _means(half, "kind", names).set_axis(run.titles[: len(names)], axis=1)


def _means(table: pd.DataFrame, by: str | list[str], columns: Iterable[str]) -> pd.DataFrame:
    groups = table.groupby(by, sort=False)
    found = {k: [bootstrap(rows, name, ["photo"]) for name in columns] for k, rows in groups}
    return pd.DataFrame({k: pd.Series(row, [*columns]) for k, row in found.items()}).T


def judge(run: Run) -> list[claims.Row]:
    """C6 by `RULE`; rows for both lines."""
    found = measures(run)
    smooth = [
        found.at[(line, BLENDS), "largest"].value <= NEAR * found.at[(line, FADE), "largest"].value
        and found.at[(line, BLENDS), "hill"].high < 1
        for line in LINES
    ]
    rows = []
    for line in LINES:
        for name, quantity in QUANTITIES.items():
            note = f"Cross-fade {found.at[(line, FADE), name].value:.3g}."
            here = found.at[(line, BLENDS), name]
            rows.append(claims.row("C6", f"{line}: {quantity}", here, note=note))
    judged = {"paper": "smooth", "rule": RULE, "verdict": claims.graded(sum(smooth), len(smooth))}
    return [rows[0].changed(**judged), *rows[1:]]


def check(run: Run) -> None:
    """Print whether blends are means of parameters, and what was measured."""
    vectors = [parameters_to_vector(network.parameters()) for network in run.networks]
    lines = []
    for weights in ((1, 0, 0), (0, 1, 0), (1 / 3, 1 / 3, 1 / 3)):
        mixed = parameters_to_vector(blend(run.networks, weights).parameters())
        expected = sum(w * vector for w, vector in zip(weights, vectors, strict=True))
        share = ", ".join(f"{w:.2f}" for w in weights)
        lines.append(f"λ = ({share}): largest difference {(mixed - expected).abs().max():.4f}")
    print(*lines, sep="\n")
    counts = run.walks.groupby(["line", "kind"])["photo"].nunique()
    print("walks:", len(counts), "- photos:", *counts.unique(), end=" ")
    print("- steps:", run.settings.measured_steps)
    print("finite:", bool(run.walks.drop(columns="step").notna().all(axis=None)))
