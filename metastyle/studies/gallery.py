"""Chapter 4, figure 1: one photo in the held-out styles; saturated patches and hatching."""

import json
import shutil
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from metastyle import plots
from metastyle.config import ImageSide, Probability, Project, Section
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_network, load_neutral
from metastyle.core.gradients import each
from metastyle.core.network import stylise
from metastyle.evaluation import claims
from metastyle.evaluation.defects import (
    PERIOD,
    agreement,
    details,
    hatching,
    pattern,
    rms,
    saturated_patches,
)
from metastyle.evaluation.statistics import bootstrap
from metastyle.files import write_table

NEUTRAL = "style-neutral"
MEASURES = ["hatching", "at five pixels", "details"]


class Gallery(Section):
    """Section `gallery`.

    photo: which held-out photo is shown, by name from 0; size: pixels, of the pictures and of
    the check; inset: side of the painting in the corner over the picture's; columns: pictures
    in a row; measured_photos: held-out photos whose renderings are checked, the first by name;
    worst: renderings shown.
    """

    photo: NonNegativeInt
    size: ImageSide
    inset: Probability
    columns: PositiveInt
    measured_photos: PositiveInt
    worst: PositiveInt


class Run(NamedTuple):
    """What the chapter shows. A style is the file of a painting, or `NEUTRAL`.

    networks, titles: by style. photo: the one shown; figure: its renderings as saved. photos:
    those measured, by file.
    found: from `measure`, columns set (photo, `NEUTRAL` or adapted), style, photo, artist, too.
    along: likewise of the snapshots of the meta-training, by column iteration.
    tiles: mean tiles of the photos and of each style's renderings, (N, 3, PERIOD, PERIOD);
    moved: correlation of the style-neutral ones with those of photos moved by 1, 2, ... pixels.
    """

    settings: Gallery
    networks: dict[str, nn.Module]
    titles: dict[str, str]
    photo: Tensor
    figure: dict[str, Tensor]
    photos: dict[str, Tensor]
    found: pd.DataFrame
    along: pd.DataFrame
    tiles: dict[str, Tensor]
    moved: list[float]


def with_inset(picture: Tensor, painting: Tensor, share: float, border: int = 2) -> Tensor:
    """The picture with the painting in its lower left corner, in a white frame.

    Args:
        picture, painting: squares in [0, 1], (1, 3, H, H).
        share: side of the painting in the result over the picture's.
        border: of the frame, pixels.
    """
    side = max(1, round(share * picture.shape[-1]))
    small = F.interpolate(painting, size=(side, side), mode="bilinear", antialias=True)
    framed = F.pad(small.clamp(0, 1), (0, border, border, 0), value=1.0)
    result = picture.clone()
    result[..., -(side + border) :, : side + border] = framed
    return result


def measure(network: nn.Module | None, photos: Mapping[str, Tensor]) -> pd.DataFrame:
    """Defects of the photos' renderings, or of the photos themselves; (1, 3, H, W) each.

    Returns:
        Columns photo; patches: share of `saturated_patches`; hatching, the same of a period that
        nothing of the network has, and the r.m.s. of all details, in levels of 255.
    """

    def row(photo: Tensor) -> list[float]:
        image = stylise(network, photo).cpu() if network else photo
        found = hatching(image), hatching(image, PERIOD + 1), rms(details(image))
        return [saturated_patches(image, photo).item(), *(value.item() for value in found)]

    table = pd.DataFrame(each(row, photos.values()), columns=["patches", *MEASURES])
    return table.assign(photo=list(photos))


def run(project: Project) -> Run:
    """Render the photos in every style, and measure them; write both to results."""
    settings, listed = Gallery.read(project, "gallery"), splits.listed(project)
    held_out = splits.read(project).photos.held_out
    adapted, snapshots = project.inputs / "adapt", project.inputs / "meta_train" / "snapshots"
    styles = json.loads((adapted / "styles.json").read_text())
    artworks = listed[listed["side"] == "artwork"].assign(path=lambda table: table.index)
    artworks = artworks.set_index("file").loc[styles]
    networks = {NEUTRAL: load_neutral(project)}
    for k, style in enumerate(styles):
        networks[style] = load_network(adapted / f"networks/{k}.safetensors")
    titles = {NEUTRAL: NEUTRAL, **artworks["title"]}
    folder = project.outputs / "gallery"
    shutil.rmtree(folder, ignore_errors=True)

    photo, figure = images.load_square(held_out[settings.photo], settings.size), {}
    for k, (style, network) in enumerate(networks.items()):
        figure[style] = stylise(network, photo).cpu()
        if style != NEUTRAL:
            painting = images.load_square(artworks.at[style, "path"], settings.size)
            figure[style] = with_inset(figure[style], painting, settings.inset)
        images.save(folder / f"{k:02d}.png", figure[style])

    files = held_out[: settings.measured_photos]
    photos = {listed.at[file, "file"]: images.load_square(file, settings.size) for file in files}
    tables = [measure(None, photos).assign(set="photo", style="photo")]
    for style, network in tqdm(networks.items(), unit="network"):
        kind = NEUTRAL if style == NEUTRAL else "adapted"
        tables.append(measure(network, photos).assign(set=kind, style=style))
    found = pd.concat(tables, ignore_index=True)
    found["artist"] = found["style"].map(artworks["artist"])
    named = found.assign(number=found.groupby("style").cumcount())
    named["title"] = named["style"].replace(titles)
    rounded = {"float_format": "%.6g"}
    patches = named.loc[named["set"] != "photo", ["style", "photo", "patches"]]
    write_table(folder / "saturation.csv", patches, **rounded)
    hatched = named[["title", "number", *MEASURES]]
    names = ["style", "photo", *MEASURES]
    write_table(folder / "hatching.csv", hatched, header=names, **rounded)
    along = pd.concat(
        measure(load_network(file), photos).assign(iteration=int(file.stem))
        for file in sorted(snapshots.glob("*.safetensors"))
    )

    wider = images.load_squares(files, settings.size + PERIOD)

    def tiles(network: nn.Module, by: int = 0) -> Tensor:
        windows = wider[..., by : settings.size + by, by : settings.size + by].split(1)
        return torch.cat(each(lambda window: pattern(stylise(network, window).cpu()), windows))

    still = {"photo": pattern(wider), **{style: tiles(n) for style, n in networks.items()}}
    neutral = networks[NEUTRAL]
    moved = [agreement(still[NEUTRAL], tiles(neutral, by)) for by in range(1, PERIOD)]
    return Run(
        settings, networks, titles, photo, figure, photos, found, along, still, moved
    )  # fmt: skip


def pictures(run: Run) -> Figure:
    """Figure 1: the photo, its style-neutral rendering, and those in every style."""
    titles = [run.titles[style].split(" - ")[0] for style in run.figure]
    shown = [run.photo, *run.figure.values()]
    return plots.sheet(shown, ["photo", *titles], run.settings.columns, 2.45)


def _rendered(run: Run) -> pd.DataFrame:
    found = run.found[run.found["set"] != "photo"]
    return found.assign(any=found["patches"] > 0)


def patches(run: Run) -> pd.DataFrame:
    """By style: the share of photos with a saturated patch, and the largest share of patches."""
    by_style = _rendered(run).groupby("style", sort=False)
    summary = by_style.agg({"any": "mean", "patches": "max"}).rename(index=run.titles)
    columns = {"any": "photos with a patch", "patches": "largest share of squares"}
    return summary.rename(columns=columns).map("{:.2%}".format)


def worst(run: Run) -> None:
    """Show the renderings with the largest share of patches, each beside its photo."""
    found = _rendered(run).query("any").nlargest(run.settings.worst, "patches")
    shown, texts = [], []
    for row in found.itertuples():
        photo = run.photos[row.photo]
        shown += [photo, stylise(run.networks[row.style], photo).cpu()]
        texts += ["", f"{run.titles[row.style]}: {row.patches:.2%}"]
    if shown:
        plots.sheet(shown, texts, 4, 2.45)
    else:
        print("No rendering has a patch.")


def _hatching(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means of the hatching over the photos, with its interval, and of what it is read beside."""
    groups = table.groupby(by, sort=False)
    means = groups[MEASURES].mean()
    means["hatching / details"] = means["hatching"] / means["details"]
    shown = means.map("{:.2f}".format)
    shown["hatching"] = [str(bootstrap(rows, "hatching", ["photo"])) for _, rows in groups]
    return shown


def hatching_by_style(run: Run) -> pd.DataFrame:
    """Hatching of the photos, and of their renderings in each style."""
    return _hatching(run.found, "style").rename(index=run.titles)


def hatching_along_training(run: Run) -> pd.DataFrame:
    """Hatching of the networks that were kept on the way to the style-neutral one."""
    return _hatching(run.along, "iteration").T


def correlations(run: Run) -> pd.DataFrame:
    """Correlation of the style-neutral mean tiles with those of moved photos."""
    row = {f"moved by {by} px": f"{value:.2f}" for by, value in enumerate(run.moved, 1)}
    return pd.DataFrame([row], index=["correlation of the mean tiles"])


def enlarged(run: Run) -> Figure:
    """The central part of the photo, a quarter as wide, and of its renderings, four times
    enlarged; below, four by four mean tiles, differences from grey twenty times as large."""
    adapted = run.found[run.found["set"] == "adapted"].groupby("style")["hatching"].mean()
    styles = [NEUTRAL, adapted.idxmin(), adapted.idxmax()]
    side = run.settings.size // 4
    window = slice((run.settings.size - side) // 2, (run.settings.size + side) // 2)
    shown = [run.photo, *(stylise(run.networks[style], run.photo).cpu() for style in styles)]
    means = [run.tiles[style].mean(0, keepdim=True) for style in ("photo", *styles)]
    tiles = [(0.5 + 20 / 255 * mean).clamp(0, 1).repeat(1, 1, 4, 4) for mean in means]
    rows = [[image[..., window, window] for image in shown], tiles]
    larger = [[image.repeat_interleave(4, 2).repeat_interleave(4, 3) for image in r] for r in rows]
    names = ["photo", *(run.titles[style] for style in styles)]
    return plots.grid(larger, under=[names, [""] * len(names)], cell=2.6)


def judge(run: Run) -> list[claims.Row]:
    """Shares of renderings with saturated patches, and hatching, by set."""
    found, rows = _rendered(run), []
    factors = {"photo": ["photo"], NEUTRAL: ["photo"], "adapted": ["artist", "photo"]}
    for kind in (NEUTRAL, "adapted"):
        table = found[found["set"] == kind]
        note = f"{table['any'].sum()} of {len(table)} have one; the largest share of a picture's "
        note += f"squares is {table['patches'].max():.2%}."
        share = bootstrap(table, "any", factors[kind])
        quantity = f"share of {kind} renderings with a saturated patch"
        rows.append(claims.row("defects", quantity, share, note=note))
    for kind, table in run.found.groupby("set", sort=False):
        chance, all_details = table[MEASURES[1:]].mean()
        note = f"By chance, at five pixels: {chance:.2f}. All details: {all_details:.1f}."
        name = "photos" if kind == "photo" else f"{kind} renderings"
        strength = bootstrap(table, "hatching", factors[kind])
        name = f"hatching of {name}, levels of 255"
        rows.append(claims.row("defects", name, strength, note=note))
    neutral = run.tiles[NEUTRAL].mean(0)
    alike = [agreement(neutral, run.tiles[s].mean(0)) for s in run.networks if s != NEUTRAL]
    note = f"From {min(alike):.2f} to {max(alike):.2f}."
    still = (
        "least correlation of the style-neutral mean tiles when the photos move by 1 to 3 pixels"
    )
    same = "median correlation of the style-neutral mean tile with the adapted ones"
    return [
        *rows,
        claims.row("defects", still, min(run.moved)),
        claims.row("defects", same, float(np.median(alike)), note=note),
    ]


def check(run: Run) -> None:
    """Print whether every rendering was measured, and the measures are possible."""
    found, count = _rendered(run), len(run.networks) * len(run.photos)
    print("networks:", len(run.networks), "- renderings checked:", len(found), "of", count)
    print("shares within 0 and 1:", bool(found["patches"].between(0, 1).all()))
    print("every hatching finite:", bool(np.isfinite(run.found[MEASURES]).all(axis=None)))
