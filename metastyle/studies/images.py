"""Chapter 5, the run: one method's images for figure 4, and their measures."""

import copy
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd
from PIL import Image
from pydantic import ConfigDict, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, empty
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from metastyle import baselines
from metastyle.baselines import Method, registry
from metastyle.config import ImageSide, Probability, Project, Section
from metastyle.core import cache, images, splits
from metastyle.core.crops import pairs
from metastyle.core.losses import PerceptualLoss
from metastyle.evaluation import metrics
from metastyle.evaluation.metrics import Metrics, Photo
from metastyle.files import replacing, write_json, write_table

MEASURES = ["content", "gram", "sliced", "ssim", "cfsd"]  # see `metrics.measure`


class Made(Section):
    """made_of: the file that a method is made of (beside VGG-16's), relative to the project's
    root; section: of the parameters, which decides its images."""

    made_of: Path
    section: str


class Comparison(Section):
    """Section `comparison`.

    methods: those that are compared. pairs: rows of the figure.
    measured_pairs: how many pairs are measured, the figure's first; null: every photo with every
        artwork. optimised_pairs: likewise of a method that optimises every image.
    size: side of the images. style_size: shorter side of the paintings; pixels.
    near: differences up to this share of the distance between the anchors count as near.
    trained: a method that trains once for all styles is judged if its training saw at least this
        share of the published one's pixels.
    """

    methods: dict[str, Made]
    pairs: PositiveInt
    measured_pairs: PositiveInt | None
    optimised_pairs: PositiveInt | None
    seed: int
    size: ImageSide
    style_size: ImageSide
    near: PositiveFloat
    trained: Probability = 0.1
    metrics: Metrics

    @model_validator(mode="after")
    def _figure_is_measured(self) -> Self:
        for name in ("measured_pairs", "optimised_pairs"):
            if (getattr(self, name) or self.pairs) < self.pairs:
                raise ValueError(f"{name} includes the figure's pairs and cannot be fewer")
        return self


class Run(NamedTuple):
    """folder: of the results. measures: columns photo, artwork (files), artist and `MEASURES`.
    counted: from `deviation`."""

    settings: Comparison
    folder: Path
    measures: pd.DataFrame
    counted: dict[str, dict] | None


class _Values(Section):
    """Any section."""

    model_config = ConfigDict(extra="allow")


def renderings(
    photos: Sequence[Path],
    artworks: Sequence[Path],
    settings: Comparison,
    method: Method | None = None,
) -> dict[Path, list[Path]]:
    """The photos that a method (None: an anchor) renders in the style of each artwork.

    A method that takes a training from scratch per style gets the figure's artworks alone.
    """
    s = settings
    optimises = method is not None and method.updates > 1
    count = s.optimised_pairs if optimises else s.measured_pairs
    if count is None:
        wanted = {artwork: list(photos) for artwork in artworks}
    else:
        wanted = {}
        for photo, artwork in pairs(photos, artworks, count, s.seed):
            wanted.setdefault(artwork, []).append(photo)
    if method is not None and method.styles == "1":
        figure = {artwork for _, artwork in pairs(photos, artworks, s.pairs, s.seed)}
        wanted = {artwork: files for artwork, files in wanted.items() if artwork in figure}
    return wanted


def prepared(
    files: Sequence[Path], loss: PerceptualLoss, settings: Comparison
) -> dict[Path, Photo]:
    """Central squares of the photos, with what measures need of them."""
    squares = ((file, images.load_square(file, settings.size)) for file in files)
    return {
        file: metrics.photo(square.to(loss.device), loss, settings.metrics)
        for file, square in squares
    }


def rendered(
    prepare: Callable[[Tensor], Any],
    stylise: Callable[[Any, Tensor], Tensor],
    artwork: Path,
    photos: Mapping[Path, Photo],
    loss: PerceptualLoss,
    settings: Comparison,
    *,
    save: Mapping[Path, Path] | None = None,
) -> pd.DataFrame:
    """Photos in the style of one artwork: a row of `MEASURES` each, in their order.

    Args:
        prepare, stylise: as in `baselines.Method`.
        save: where the images of some photos go.
    """
    painting = images.load(artwork, settings.style_size).to(loss.device)
    wanted = metrics.style(painting, loss, settings.metrics)
    state = prepare(painting)
    rows = []
    for file, photo in photos.items():
        output = stylise(state, photo.image)
        if save and file in save:
            images.save(save[file], output)
        rows.append(metrics.measure(output, photo, wanted, loss, settings.metrics))
    return pd.DataFrame(rows, columns=MEASURES)


def measured(
    prepare: Callable[[Tensor], Any],
    stylise: Callable[[Any, Tensor], Tensor],
    wanted: Mapping[Path, Sequence[Path]],
    loss: PerceptualLoss,
    settings: Comparison,
    listed: pd.DataFrame,
    *,
    key: str,
    figure: Sequence[tuple[Path, Path]] = (),
) -> tuple[pd.DataFrame, dict[int, Path]]:
    """`rendered` artwork by artwork, each kept, so that a call that was stopped goes on.

    Args:
        wanted: the photos of each artwork.
        listed: from `splits.listed`.
        key: a hash of what `prepare` and `stylise` depend on, see `cache.key`.
        figure: pairs whose images are kept too.

    Returns:
        Columns photo, artwork (files), artist and `MEASURES`; and the files of the figure's
        images by their rows there.
    """
    s, tables, pictures = settings, [], {}
    photos = prepared(sorted({file for files in wanted.values() for file in files}), loss, s)
    for artwork, files in tqdm(wanted.items(), unit="artwork"):
        rows = {k: photo for k, (photo, other) in enumerate(figure) if other == artwork}
        decides = [key, s.size, s.style_size, s.metrics, loss.settings, loss.vgg, artwork, files]
        decides.append({str(k): photo.name for k, photo in rows.items()})
        folder = cache.cache_folder() / "images" / cache.key(*decides, by=[metrics.__name__])
        made = {k: folder / f"{k}.png" for k in rows}
        given = prepare, stylise, artwork, {file: photos[file] for file in files}, loss, s
        # The images are written before the table, so that they are there whenever it is.
        table = cache.kept_table(
            folder / "measures.csv",
            lambda given=given, rows=rows, made=made: rendered(
                *given, save={photo: made[k] for k, photo in rows.items()}
            ),
        )
        table.insert(0, "photo", listed.loc[files, "file"].to_numpy())
        table.insert(1, "artwork", listed.at[artwork, "file"])
        table.insert(2, "artist", listed.at[artwork, "artist"])
        tables.append(table)
        pictures |= made
    return pd.concat(tables, ignore_index=True), pictures


def _filling(style: Tensor, photo: Tensor) -> Tensor:
    """The style image itself, scaled and cropped to the photo's size."""
    height, width = photo.shape[-2:]
    scale = max(height / style.shape[-2], width / style.shape[-1])
    size = [round(scale * side) for side in style.shape[-2:]]
    return images.centre(images.resize(style, size), height, width)


# What any method lies between: functions as `rendered` takes them.
ANCHORS: dict[str, tuple[Callable, Callable]] = {
    "photo": (lambda style: None, lambda state, photo: photo),
    "style": (lambda style: style, _filling),
}


def run(project: Project, name: str) -> Run:
    """Make a method's images, measure them, and write both to results."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("metastyle").setLevel(logging.INFO)  # Johnson's training says where it ends
    settings, context = Comparison.read(project, "comparison"), baselines.context(project)
    sets, chosen = splits.read(project), settings.methods[name]
    made_of = project.root / chosen.made_of
    method = registry.load(name, project, context, weights=made_of)
    files = sets.photos.held_out, sets.artworks.held_out
    decides = [name, _Values.read(project, f"methods.{name}"), made_of]
    decides += [_Values.read(project, chosen.section), context.photos, context.validation]
    decides += [context.adaptation.seed, context.adaptation.photos]
    measures, pictures = measured(
        method.prepare,
        method.stylise,
        renderings(*files, settings, method),
        context.loss,
        settings,
        splits.listed(project),
        key=cache.key(*decides, by=[registry.module(name).__name__]),
        figure=pairs(*files, settings.pairs, settings.seed),
    )
    folder = project.outputs / "images" / name
    shutil.rmtree(folder, ignore_errors=True)
    for k, picture in pictures.items():
        with replacing(folder / f"{k}.jpg") as temporary:
            Image.open(picture).save(temporary, quality=92)
    write_table(folder / "metrics.csv", measures, float_format="%.6g")
    counted = deviation(name, project, context.loss, settings.size)
    write_json(folder / "network.json", counted)
    return Run(settings, folder, measures, counted)


def summary(run: Run) -> pd.DataFrame:
    """The range of each measure over the images."""
    found = run.measures[MEASURES].describe().loc[["count", "mean", "min", "max"]]
    return found.map("{:.4g}".format)


def networks(run: Run) -> pd.DataFrame | str:
    """Parameters and multiply-adds of `deviation`, if there is one."""
    same = "The network that Table 1 times, or none (Gatys, timed with VGG-19's features)."
    return pd.DataFrame(run.counted) if run.counted else same


def check(run: Run) -> None:
    """Print whether every pair of the figure has its image, and all measures are finite."""
    print("images:", len(list(run.folder.glob("*.jpg"))), "of", run.settings.pairs)
    finite = run.measures[MEASURES].map(lambda value: abs(value) < float("inf"))
    print("finite:", bool(finite.all(axis=None)))


def counts(name: str, project: Project, loss: PerceptualLoss, size: int, **changes: Any) -> dict:
    """Parameters, and GMAC of an image of a side, style encoded, of a feed-forward method that
    is not adapted: counted on the meta device, without computing.

    Args:
        loss: on the meta device.
        changes: of the method's settings.
    """
    method = registry.load(name, project, baselines.Context(loss), **changes)
    picture = empty(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        method.stylise(method.ready(picture), picture)
    return {"parameters": method.parameters, "GMAC": counter.get_total_flops() / 2e9}


def deviation(
    name: str, project: Project, loss: PerceptualLoss, size: int
) -> dict[str, dict] | None:
    """`counts` of the network that makes the images and of the one that Table 1 times, where
    they differ: in an encoder deeper than relu3_3."""
    if "encoder" not in registry.module(name).Settings.model_fields:
        return None
    loss = PerceptualLoss(copy.deepcopy(loss.vgg).to("meta"), loss.settings)
    found = {
        "images": counts(name, project, loss, size),
        "timed": counts(name, project, loss, size, encoder="vgg19", vgg19=None),
    }
    return None if found["images"] == found["timed"] else found
