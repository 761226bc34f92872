"""Chapter 5, the run: one method's images for figure 4, and their measures."""

import copy
import inspect
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import pandas as pd
from PIL import Image
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, empty
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from metastyle import baselines
from metastyle.baselines import Method, Printed, registry
from metastyle.config import Probability, Project, Section
from metastyle.core import cache, code, images, splits
from metastyle.core.crops import pairs
from metastyle.core.losses import PerceptualLoss
from metastyle.evaluation import lpips, metrics
from metastyle.evaluation.metrics import MEASURES, Judges, Metrics, Photo
from metastyle.files import replacing, write_json, write_table

KEYS = ["photo", "artwork", "artist"]


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
    size: Annotated[int, Field(ge=lpips.LEAST)]
    style_size: Annotated[int, Field(ge=lpips.LEAST)]
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


def _filling(style: Tensor, photo: Tensor) -> Tensor:
    """The style image itself, scaled and cropped to the photo's size."""
    height, width = photo.shape[-2:]
    scale = max(height / style.shape[-2], width / style.shape[-1])
    size = [round(scale * side) for side in style.shape[-2:]]
    return images.centre(images.resize(style, size), height, width)


def _anchor(name: str, prepare: Callable, stylise: Callable) -> Method:
    return Method(name, None, "any", 1, prepare, prepare, stylise, Printed("", {}))


# What any method lies between: the photo as it is, and the painting.
ANCHORS = {
    "photo": _anchor("photo", lambda style: None, lambda state, photo: photo),
    "style": _anchor("style", lambda style: style, _filling),
}


def renderings(
    photos: Sequence[Path], artworks: Sequence[Path], settings: Comparison, method: Method
) -> dict[Path, list[Path]]:
    """The photos that a method renders in the style of each artwork.

    A method that takes a training from scratch per style gets the figure's artworks alone.
    """
    s = settings
    count = s.optimised_pairs if method.updates > 1 else s.measured_pairs
    wanted: dict[Path, list[Path]] = {}
    if count is None:
        wanted = {artwork: list(photos) for artwork in artworks}
    else:
        for photo, artwork in pairs(photos, artworks, count, s.seed):
            wanted.setdefault(artwork, []).append(photo)
    if method.styles == "1":
        figure = {artwork for _, artwork in pairs(photos, artworks, s.pairs, s.seed)}
        wanted = {artwork: files for artwork, files in wanted.items() if artwork in figure}
    return wanted


def rendered(
    method: Method,
    artwork: Path,
    photos: Mapping[Path, Photo],
    judges: Judges,
    settings: Comparison,
    save: Mapping[Path, Path],
) -> pd.DataFrame:
    """Photos in the style of one artwork: a row of `MEASURES` each, in their order.

    Args:
        save: where the images of some photos go.
    """
    painting = images.load(artwork, settings.style_size).to(judges.loss.device)
    wanted = metrics.style(painting, judges)
    state = method.prepare(painting)
    rows = []
    for file, photo in photos.items():
        output = method.stylise(state, photo.image)
        if file in save:
            images.save(save[file], output)
        rows.append(metrics.measure(output, photo, wanted, judges))
    return pd.DataFrame(rows, columns=MEASURES)


def measured(
    method: Method, project: Project, loss: PerceptualLoss, settings: Comparison, key: str
) -> tuple[pd.DataFrame, dict[int, Path]]:
    """A method's images of the held-out photos, `rendered` artwork by artwork, each kept, so that
    a call that was stopped goes on.

    Args:
        key: a hash of what the method depends on, see `cache.key`.

    Returns:
        Columns photo, artwork (files), artist and `MEASURES`; and the files of the figure's
        images by their rows there.
    """
    s, sets, listed = settings, splits.read(project), splits.listed(project)
    judges = metrics.load_judges(project, loss, s.metrics)
    held_out = sets.photos.held_out, sets.artworks.held_out
    figure, wanted = pairs(*held_out, s.pairs, s.seed), renderings(*held_out, s, method)
    photos = {
        file: metrics.photo(images.load_square(file, s.size).to(loss.device), judges)
        for file in sorted({file for files in wanted.values() for file in files})
    }
    known = [key, s.size, s.style_size, s.metrics, loss.settings, loss.vgg, judges.alexnet]
    known.append(code.executed(inspect.getsource(rendered)))
    tables, pictures = [], {}
    for artwork, files in tqdm(wanted.items(), unit="artwork"):
        rows = {k: photo for k, (photo, other) in enumerate(figure) if other == artwork}
        decides = [*known, artwork, files, {str(k): photo.name for k, photo in rows.items()}]
        folder = cache.cache_folder() / "images" / cache.key(*decides, by=[metrics.__name__])
        pictures |= {k: folder / f"{k}.png" for k in rows}
        save = {photo: pictures[k] for k, photo in rows.items()}
        given = method, artwork, {file: photos[file] for file in files}, judges, s, save
        # The images are written before the table, so that they are there whenever it is.
        table = cache.kept_table(folder / "measures.csv", partial(rendered, *given))
        names = listed.loc[files, "file"].tolist(), *listed.loc[artwork, ["file", "artist"]]
        for place, (column, values) in enumerate(zip(KEYS, names, strict=True)):
            table.insert(place, column, values)
        tables.append(table)
    return pd.concat(tables, ignore_index=True), pictures


def run(project: Project, name: str) -> Run:
    """Make a method's images, measure them, and write both to results."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("metastyle").setLevel(logging.INFO)  # Johnson's training says where it ends
    settings, context = Comparison.read(project, "comparison"), baselines.context(project)
    chosen = settings.methods[name]
    made_of = project.root / chosen.made_of
    method = registry.load(name, project, context, weights=made_of)
    decides = [name, _Values.read(project, f"methods.{name}"), made_of]
    decides += [_Values.read(project, chosen.section), context.photos, context.validation]
    decides += [context.adaptation.seed, context.adaptation.photos]
    key = cache.key(*decides, by=[registry.module(name).__name__])
    measures, pictures = measured(method, project, context.loss, settings, key)
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


def deviation(
    name: str, project: Project, loss: PerceptualLoss, size: int
) -> dict[str, dict] | None:
    """Parameters, and GMAC of an image of a side with its style encoded, of the network that makes
    the images and of the one that Table 1 times, where they differ: in an encoder deeper than
    relu3_3. They are counted on the meta device, without computing."""
    if "encoder" not in registry.module(name).Settings.model_fields:
        return None
    meta = PerceptualLoss(copy.deepcopy(loss.vgg).to("meta"), loss.settings)
    picture, found = empty(1, 3, size, size, device="meta"), {}
    for which, changes in {"images": {}, "timed": {"encoder": "vgg19", "vgg19": None}}.items():
        method = registry.load(name, project, baselines.Context(meta), **changes)
        with FlopCounterMode(display=False) as counter:
            method.stylise(method.ready(picture), picture)
        gmac = counter.get_total_flops() / 2e9
        found[which] = {"parameters": method.parameters, "GMAC": gmac}
    return None if found["images"] == found["timed"] else found
