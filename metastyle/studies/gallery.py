"""Chapter 4, figure 1: one photo in the held-out styles; patches, hatching and droplets."""

import json
import shutil
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from metastyle import plots
from metastyle.config import ImageSide, Project, Section
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_network, load_neutral
from metastyle.core.gradients import each
from metastyle.core.network import stylise
from metastyle.evaluation import claims, defects
from metastyle.evaluation.defects import PERIOD, agreement, pattern, rms, saturated_patches
from metastyle.evaluation.statistics import bootstrap
from metastyle.files import write_table

NEUTRAL = "style-neutral"
MEASURES = ["hatching", "at five pixels", "details"]
# Of droplets, with what the claims call them; see `defects`.
DROPLETS = {
    "spikes": "mean excess over 6 of the kurtosis of maps,",
    "idle": "share of idle positions,",
    "stray": "share of stray colours,",
}
NORMS = [f"norm {k}" for k in range(1, 16)]  # the network's


class Gallery(Section):
    """Section `gallery`.

    photo: which held-out photo is shown, by name from 0; size: pixels, of the pictures and of
    the check; inset: side of the painting in the corner over the picture's, whose middle stays
    free; columns: pictures in a row; measured_photos: held-out photos whose renderings are
    checked, the first by name; worst: renderings shown.
    """

    photo: NonNegativeInt
    size: ImageSide
    inset: Annotated[float, Field(ge=0, le=0.375)]
    columns: PositiveInt
    measured_photos: PositiveInt
    worst: PositiveInt


class Run(NamedTuple):
    """What the chapter shows. A style is the file of a painting, or `NEUTRAL`.

    networks: by style. figure: the photo shown and its renderings, by title. photos: those
    measured, by file.
    found: from `measure`, columns set (photo, `NEUTRAL` or adapted), style, title and artist, too.
    along: likewise of the snapshots of the meta-training, by column iteration.
    tiles: mean tiles of the photos and of their renderings, (N, 3, PERIOD, PERIOD), by title;
    moved: correlation of the style-neutral ones with those of photos moved by 1, 2, ... pixels.
    """

    settings: Gallery
    networks: dict[str, nn.Module]
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


def measure(
    network: nn.Module | None, photos: Mapping[str, Tensor], painting: Tensor | None = None
) -> pd.DataFrame:
    """Defects of the photos' renderings, or of the photos themselves; (1, 3, H, W) each.

    Args:
        painting: RGB in [0, 1], (1, 3, H, W), whose colours do not count as stray.

    Returns:
        Columns photo; patches: share of `saturated_patches`; hatching, the same of a period that
        nothing of the network has, and the r.m.s. of all details, in levels of 255; and of
        networks `DROPLETS` and, by `NORMS`, the median kurtosis of a norm's maps.
    """

    def row(photo: Tensor) -> list[float]:
        image = stylise(network, photo).cpu() if network else photo
        grids = (defects.hatching(image, period) for period in (PERIOD, PERIOD + 1))
        values = saturated_patches(image, photo), *grids, rms(defects.details(image))
        found = [value.item() for value in values]
        if network is None:
            return found
        medians, spikes, idle = defects.droplets(network, photo)
        return [*found, spikes, idle, defects.stray_share(image, photo, painting), *medians]

    columns = ["patches", *MEASURES, *([*DROPLETS, *NORMS] if network else [])]
    return pd.DataFrame(each(row, photos.values()), columns=columns).assign(photo=list(photos))


def run(project: Project) -> Run:
    """Render the photos in every style, and measure them; write both to results."""
    settings, listed = Gallery.read(project, "gallery"), splits.listed(project)
    adapted, snapshots = project.inputs / "adapt", project.inputs / "meta_train" / "snapshots"
    styles = json.loads((adapted / "styles.json").read_text())
    artworks = listed[listed["side"] == "artwork"].rename_axis("path").reset_index()
    artworks = artworks.set_index("file").loc[styles]
    titles = {"photo": "photo", NEUTRAL: NEUTRAL, **artworks["title"]}
    networks = {NEUTRAL: load_neutral(project)}
    for k, style in enumerate(styles):
        networks[style] = load_network(adapted / f"networks/{k}.safetensors")
    folder, held_out = project.outputs / "gallery", splits.read(project).photos.held_out
    shutil.rmtree(folder, ignore_errors=True)

    photo = images.load_square(held_out[settings.photo], settings.size)
    figure = {"photo": photo}
    for k, (style, network) in enumerate(networks.items()):
        picture = stylise(network, photo).cpu()
        if style != NEUTRAL:
            painting = images.load_square(artworks.at[style, "path"], settings.size)
            picture = with_inset(picture, painting, settings.inset)
        images.save(folder / f"{k:02d}.png", picture)
        figure[titles[style]] = picture

    files = held_out[: settings.measured_photos]
    photos = {listed.at[file, "file"]: images.load_square(file, settings.size) for file in files}
    tables = [measure(None, photos).assign(set="photo", style="photo")]
    for style, network in tqdm(networks.items(), unit="network"):
        kind, painting = NEUTRAL, None
        if style != NEUTRAL:
            kind, painting = "adapted", images.load(artworks.at[style, "path"], settings.size)
        tables.append(measure(network, photos, painting).assign(set=kind, style=style))
    found = pd.concat(tables).rename_axis("number").reset_index()
    found["title"] = found["style"].map(titles)
    found["artist"] = found["style"].map(artworks["artist"])
    patches = found.loc[found["set"] != "photo", ["style", "photo", "patches"]]
    write_table(folder / "saturation.csv", patches, float_format="%.6g")
    hatched = found[["title", "number", *MEASURES]].set_axis(["style", "photo", *MEASURES], axis=1)
    write_table(folder / "hatching.csv", hatched, float_format="%.6g")
    spiked = found.loc[found["set"] != "photo", ["style", "photo", *DROPLETS]]
    write_table(folder / "droplets.csv", spiked, float_format="%.6g")
    along = pd.concat(
        measure(load_network(file), photos).assign(iteration=int(file.stem))
        for file in sorted(snapshots.glob("*.safetensors"))
    )

    wider = images.load_squares(files, settings.size + PERIOD)

    def tiles(network: nn.Module, by: int = 0) -> Tensor:
        windows = wider[..., by : settings.size + by, by : settings.size + by].split(1)
        return torch.cat(each(lambda window: pattern(stylise(network, window).cpu()), windows))

    still = {"photo": pattern(wider)}
    still |= {titles[style]: tiles(network) for style, network in networks.items()}
    neutral = networks[NEUTRAL]
    moved = [agreement(still[NEUTRAL], tiles(neutral, by)) for by in range(1, PERIOD)]
    return Run(settings, networks, figure, photos, found, along, still, moved)


def pictures(run: Run) -> Figure:
    """Figure 1: the photo, its style-neutral rendering, and those in every style."""
    titles = [title.split(" - ")[0] for title in run.figure]
    return plots.sheet([*run.figure.values()], titles, run.settings.columns, 2.45)


def patches(run: Run) -> pd.DataFrame:
    """By style: the share of photos with saturated patches, and the largest share of patches."""
    by_title = run.found[run.found["set"] != "photo"].groupby("title", sort=False)["patches"]
    columns = {
        "photos with a patch": by_title.agg(lambda shares: (shares > 0).mean()),
        "largest share of squares": by_title.max(),
    }
    return pd.DataFrame(columns).map("{:.2%}".format)


def worst(run: Run) -> None:
    """Show the renderings with the largest share of patches, each beside its photo."""
    shown, texts = [], []
    found = run.found[run.found["patches"] > 0].nlargest(run.settings.worst, "patches")
    for row in found.itertuples():
        photo = run.photos[row.photo]
        shown += [photo, stylise(run.networks[row.style], photo).cpu()]
        texts += ["", f"{row.title}: {row.patches:.2%}"]
    if shown:
        plots.sheet(shown, texts, 4, 2.45)
    else:
        print("No rendering has a patch.")


def strengths(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means of the hatching over the photos, with its interval, and of what it is read beside, for
    each value of a column."""
    groups = table.groupby(by, sort=False)
    means = groups[MEASURES].mean()
    means["hatching / details"] = means["hatching"] / means["details"]
    shown = means.map("{:.2f}".format)
    shown["hatching"] = [str(bootstrap(rows, "hatching", ["photo"])) for _, rows in groups]
    return shown


def droplets(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means of `DROPLETS` over the photos with their intervals, and the median kurtosis over all
    norms, for each value of a column; rows of photos have none and are left out."""
    table = table.dropna(subset=[*DROPLETS]).assign(kurtosis=lambda t: t[NORMS].median(axis=1))
    groups = table.groupby(by, sort=False)
    shown = groups[["kurtosis"]].median().map("{:.1f}".format)
    for name in DROPLETS:
        shown[name] = [str(bootstrap(rows, name, ["photo"])) for _, rows in groups]
    return shown


def norms(run: Run) -> pd.DataFrame:
    """The median kurtosis of the maps of every instance norm, over the photos and styles."""
    medians = run.found.groupby("set", sort=False)[NORMS].median().drop("photo")
    return medians.T.map("{:.1f}".format)


def enlarged(run: Run) -> Figure:
    """The central part of the photo, a quarter as wide, and of its renderings, four times
    enlarged; below, four by four mean tiles, differences from grey twenty times as large."""
    adapted = run.found[run.found["set"] == "adapted"].groupby("title")["hatching"].mean()
    titles = ["photo", NEUTRAL, adapted.idxmin(), adapted.idxmax()]
    side = run.settings.size // 4
    window = slice((run.settings.size - side) // 2, (run.settings.size + side) // 2)
    means = [run.tiles[title].mean(0, keepdim=True) for title in titles]
    tiles = [(0.5 + 20 / 255 * mean).clamp(0, 1).repeat(1, 1, 4, 4) for mean in means]
    rows = [[run.figure[title][..., window, window] for title in titles], tiles]
    larger = [[image.repeat_interleave(4, 2).repeat_interleave(4, 3) for image in r] for r in rows]
    return plots.grid(larger, columns=titles, cell=2.6)


def judge(run: Run) -> list[claims.Row]:
    """Shares of renderings with saturated patches, hatching, and droplets, by set."""
    rows = []
    for kind, table in run.found.groupby("set", sort=False):
        over = ["artist", "photo"] if kind == "adapted" else ["photo"]
        name = "photos" if kind == "photo" else f"{kind} renderings"
        if kind != "photo":
            table = table.assign(any=table["patches"] > 0)
            note = f"{table['any'].sum()} of {len(table)} have one; the largest share of a "
            note += f"picture's squares is {table['patches'].max():.2%}."
            quantity = f"share of {name} with saturated patches"
            rows.append(claims.row("defects", quantity, bootstrap(table, "any", over), note=note))
        chance, contrast = table[MEASURES[1:]].mean()
        note = f"By chance, at five pixels: {chance:.2f}. All details: {contrast:.1f}."
        found, quantity = bootstrap(table, "hatching", over), f"hatching of {name}, levels of 255"
        rows.append(claims.row("defects", quantity, found, note=note))
        notes = {"spikes": f"Median kurtosis: {table[NORMS].median().median():.1f} (noise: 3)."}
        if kind == NEUTRAL:
            notes["stray"] = "Beside the photo's colours alone: there is no painting."
        for measure, words in DROPLETS.items() if kind != "photo" else ():
            found, note = bootstrap(table, measure, over), notes.get(measure, "")
            rows.append(claims.row("defects", f"{words} {name}", found, note=note))
    neutral, *others = [tile.mean(0) for title, tile in run.tiles.items() if title != "photo"]
    alike = [agreement(neutral, other) for other in others]
    moved = "correlation of the style-neutral mean tiles when the photos move by 1 to 3 px, least"
    note = f"All: {', '.join(map('{:.2f}'.format, run.moved))}."
    rows.append(claims.row("defects", moved, min(run.moved), note=note))
    same = "correlation of the style-neutral mean tile with the adapted ones, median"
    note = f"From {min(alike):.2f} to {max(alike):.2f}."
    return [*rows, claims.row("defects", same, float(np.median(alike)), note=note)]


def check(run: Run) -> None:
    """Print whether every rendering was measured, and the measures are possible."""
    count = len(run.networks) * len(run.photos)
    checked = (run.found["set"] != "photo").sum()
    print("networks:", len(run.networks), "- renderings checked:", checked, "of", count)
    print("shares within 0 and 1:", bool(run.found["patches"].between(0, 1).all()))
    print("every hatching finite:", bool(np.isfinite(run.found[MEASURES]).all(axis=None)))
    networks = run.found.loc[run.found["set"] != "photo", [*DROPLETS, *NORMS]]
    print("droplets finite:", bool(np.isfinite(networks).all(axis=None)))
