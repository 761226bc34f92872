"""Which photo meets which artwork (paper, figure 4), and what comes of it by each method."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2 import functional as F

from metastyle.baselines import Method
from metastyle.config import ImageSide, Section
from metastyle.core import images
from metastyle.core.cache import fingerprint, kept_table
from metastyle.core.crops import pairs
from metastyle.core.losses import Perceptual
from metastyle.core.vgg import VGG16
from metastyle.evaluation import metrics
from metastyle.evaluation.metrics import Metrics, Photo
from metastyle.evaluation.statistics import Interval, bootstrap

MEASURES = ["content", "gram", "sliced", "ssim", "cfsd"]  # columns of `rendered`


class Comparison(Section):
    """Section `comparison`.

    methods: those that are compared, in the figure's order, each with the file that it is made
        of (beside VGG-16's), relative to the project root.
    pairs: rows of the figure.
    measured_pairs: how many pairs are measured, the figure's first; null: every photo with
        every artwork. optimised_pairs: likewise of a method that optimises every image.
    size: side of the images. style_size: shorter side of the paintings; pixels.
    """

    methods: dict[str, Path]
    pairs: PositiveInt
    measured_pairs: PositiveInt | None
    optimised_pairs: PositiveInt | None
    seed: int
    size: ImageSide
    style_size: ImageSide
    metrics: Metrics

    @model_validator(mode="after")
    def _figure_is_measured(self) -> "Comparison":
        for name in ("measured_pairs", "optimised_pairs"):
            if (getattr(self, name) or self.pairs) < self.pairs:
                raise ValueError(f"{name} includes the figure's pairs and cannot be fewer")
        return self


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


def photos_to_compare(
    files: Sequence[Path], vgg: VGG16, perceptual: Perceptual, settings: Comparison
) -> dict[Path, Photo]:
    """Central squares of the files, with what measures need of them."""
    return {
        file: metrics.photo(
            images.load_square(file, settings.size).to(vgg.mean.device),
            vgg,
            perceptual,
            settings.metrics,
        )
        for file in files
    }


def rendered(
    prepare: Callable[[Tensor], Any],
    stylise: Callable[[Any, Tensor], Tensor],
    artwork: Path,
    photos: Mapping[Path, Photo],
    vgg: VGG16,
    perceptual: Perceptual,
    settings: Comparison,
    *,
    save: Mapping[Path, Path] | None = None,
) -> pd.DataFrame:
    """Photos in the style of one artwork: a row of `MEASURES` each, in their order.

    Args:
        prepare, stylise: as in `methods.Method`.
        save: where the images of some photos go.
    """
    painting = images.load(artwork, settings.style_size).to(vgg.mean.device)
    wanted = metrics.style(painting, vgg, perceptual, settings.metrics)
    state = prepare(painting)
    rows = []
    for file, photo in photos.items():
        output = stylise(state, photo.image)
        if save and file in save:
            images.save(save[file], output)
        rows.append(metrics.measure(output, photo, wanted, vgg, perceptual, settings.metrics))
    return pd.DataFrame(rows, columns=MEASURES)


def kept_rendering(
    cache: Path,
    decides: list[Any],
    prepare: Callable[[Tensor], Any],
    stylise: Callable[[Any, Tensor], Tensor],
    artwork: Path,
    photos: Mapping[Path, Photo],
    vgg: VGG16,
    perceptual: Perceptual,
    settings: Comparison,
    *,
    figure: Sequence[tuple[Path, Path]] = (),
) -> tuple[pd.DataFrame, dict[int, Path]]:
    """`rendered`, unless an earlier call did it.

    Args:
        cache: a folder, see `training.cache_folder`.
        decides: what `prepare` and `stylise` depend on, see `kept.fingerprint`.
        figure: pairs; their images are kept too.

    Returns:
        The table, with the paths in columns `photo` and `artwork` before the measures; and the
        files of the figure's images by their row there.
    """
    s = settings
    rows = {k: photo for k, (photo, other) in enumerate(figure) if other == artwork}
    known = [*decides, s.size, s.style_size, s.metrics, perceptual, vgg, artwork, [*photos]]
    known.append({str(k): photo.name for k, photo in rows.items()})
    folder = cache / "pictures" / fingerprint(*known)
    files = {k: folder / f"{k}.png" for k in rows}
    save = {photo: files[k] for k, photo in rows.items()}
    given = prepare, stylise, artwork, photos, vgg, perceptual, settings
    # The images are written before the table, so that they are there whenever it is.
    table = kept_table(cache, known, lambda: rendered(*given, save=save))
    table.insert(0, "photo", list(photos))
    table.insert(1, "artwork", artwork)
    return table, files


def against(table: pd.DataFrame, other: pd.DataFrame) -> tuple[int, dict[str, Interval]]:
    """How many pairs two tables share, and the mean difference there of each measure, the first
    minus the other, with its interval over artists and photos.

    Args:
        table, other: columns photo, artwork, artist and `MEASURES`.
    """
    both = table.merge(other, on=["photo", "artwork", "artist"], suffixes=("", " other"))
    for name in MEASURES:
        both[name] -= both[f"{name} other"]
    return len(both), {name: bootstrap(both, name, ["artist", "photo"]) for name in MEASURES}


# What any method lies between: functions as `rendered` takes them.
ANCHORS: dict[str, tuple[Callable, Callable]] = {
    "photo": (lambda style: None, lambda state, photo: photo),
    "style": (lambda style: style, lambda style, photo: _filling(style, photo)),
}


def _filling(style: Tensor, photo: Tensor) -> Tensor:
    """The style image itself, scaled and cropped to the photo's size."""
    height, width = photo.shape[-2:]
    scale = max(height / style.shape[-2], width / style.shape[-1])
    size = [round(scale * side) for side in style.shape[-2:]]
    return F.center_crop(F.resize(style, size, antialias=True), [height, width])


def counts(name: str, params: str | Path, vgg: VGG16, size: int, **changes: Any) -> dict:
    """Parameters, and GMAC of an image of a side, style encoded, of a feed-forward method that
    is not adapted: counted on the meta device, without computing.

    Args:
        vgg: on the meta device.
        changes: of the method's settings.
    """
    resources = methods.Resources(vgg, None, [], None, None)
    method = methods.load(name, params, resources, **changes)
    picture = torch.empty(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        method.stylise(method.ready(picture), picture)
    return {"parameters": method.parameters, "GMAC": counter.get_total_flops() / 2e9}


def deviation(name: str, params: str | Path, vgg: VGG16, size: int) -> dict[str, dict] | None:
    """`counts` of the network that makes the images and of the one that Table 1 times, where
    they differ: in an encoder deeper than relu3_3."""
    if "encoder" not in import_module(f"metastyle.methods.{name}").Settings.model_fields:
        return None
    found = {
        "images": counts(name, params, vgg, size),
        "timed": counts(name, params, vgg, size, encoder="vgg19", vgg19=None),
    }
    return None if found["images"] == found["timed"] else found
