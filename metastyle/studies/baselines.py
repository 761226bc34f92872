"""Chapter 12: how the methods that train once for all styles were trained, and how well."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor, nn
from tqdm import tqdm

from metastyle import plots
from metastyle.baselines import Context, Method, Trainable, quality, registry, shen, training
from metastyle.config import ImageSide, Project, Section
from metastyle.core import images, splits
from metastyle.core.losses import PerceptualLoss, load_loss
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import bootstrap
from metastyle.files import write_json, write_table

RULE = (
    "A method's images are judged (chapter 5) only if over held-out photos the mean PSNR and the "
    "mean SSIM of all its decoders reach their floors; Shen's, if the two distances of its images "
    "stay within their limits."
)
MET = {True: "met", False: "missed"}


class Baselines(Section):
    """Section `baselines`; photos: held-out ones, the first by name; null: all.

    shown: photos, and artworks, in figures. floors: by decoder. generated: limits of Shen's.
    """

    photos: PositiveInt | None
    photo_size: ImageSide
    shown: PositiveInt
    floors: dict[str, quality.Floor]
    generated: quality.Generated


class Run(NamedTuple):
    """What was measured.

    photos: the held-out ones, (1, 3, S, S) in [0, 1] each; decoded: the first of them as each
    decoder has them. table: columns decoder, psnr, ssim, photo, references included. floors,
    limits: see `quality.against_floors` and `quality.against_limits`. pairs: photos in styles.
    """

    settings: Baselines
    photos: Sequence[Tensor]
    decoded: list[dict[str, Tensor]]
    table: pd.DataFrame
    floors: pd.DataFrame
    limits: pd.DataFrame
    pairs: int


def schedules(project: Project) -> dict[str, training.Run]:
    """The trainings of section `pretrain`, by method."""
    return training.Pretraining.read(project, "pretrain").runs


def weights(project: Project, name: str) -> Path:
    """What is kept of a method's training, see `pretrain.run`."""
    return project.inputs / "pretrain" / name / "network.safetensors"


def trainings(project: Project) -> pd.DataFrame:
    """How each method was trained: photos and paintings of an iteration, side of the crops
    (pixels), megapixels of the whole training, and the size of what is kept (MB)."""
    runs = {name: run.model_dump() for name, run in schedules(project).items()}
    columns = ["iterations", "size", "photos", "paintings"]
    table = pd.DataFrame.from_dict(runs, orient="index")[columns]
    crops = table["iterations"] * (table["photos"] + table["paintings"])
    table["megapixels"] = crops * table["size"] ** 2 / 1e6
    table["kept"] = [weights(project, name).stat().st_size / 1e6 for name in runs]
    return table.round(1)


def curves(project: Project) -> list[Figure]:
    """A figure per method: the loss of its training and the terms without their weights."""
    drawn = []
    for name, run in schedules(project).items():
        tables = {name: pd.read_csv(weights(project, name).with_name("log.csv"))}
        smooth = max(2, run.iterations // 40)
        drawn.append(plots.curves(tables, "iteration", ["loss", *run.weights], smooth=smooth))
        drawn[-1].suptitle(name, x=0.01, y=1.02, ha="left", fontsize=10)
    return drawn


def run(project: Project) -> Run:
    """Measure what the methods' trainings reach; write quality.csv and floors.json to results."""
    settings, loss = Baselines.read(project, "baselines"), load_loss(project)
    files, listed = splits.read(project).photos.held_out, splits.listed(project)
    photos = images.load_squares(files[: settings.photos], settings.photo_size)
    photos = photos.to(loss.device).split(1)
    networks = _networks(project, loss)
    tables, decoded = [], []
    for file, photo in zip(files, tqdm(photos, unit="photo"), strict=False):
        made = {}
        for method, network in networks:
            made |= method.reconstruct(network, photo)
        measured = quality.quality(made | quality.references(photo), photo)
        tables.append(measured.assign(photo=listed.at[file, "file"]))
        decoded = [*decoded, made][: settings.shown]
    table = pd.concat(tables, ignore_index=True)
    write_table(project.outputs / "baselines/quality.csv", table, float_format="%.5g")

    floors = quality.against_floors(table, settings.floors)
    pairs, flat = _generated(project, loss, photos, settings.shown)
    limits = quality.against_limits(pairs, settings.generated)
    limits["flat image"] = [bootstrap(flat, k, ["artist", "photo"]) for k in limits.index]
    reached = floors["reached"].astype(bool).to_dict() | {"shen": bool(limits["reached"].all())}
    write_json(project.outputs / "baselines/floors.json", reached)
    return Run(settings, photos, decoded, table, floors, limits, len(pairs))


def _networks(project: Project, loss: PerceptualLoss) -> list[tuple[Trainable, nn.Module]]:
    """Methods that encode and decode, each with its network."""
    found = []
    for name in schedules(project):
        method, kept = registry.module(name), weights(project, name)
        if hasattr(method, "reconstruct"):
            own = method.Settings.read(project, f"methods.{name}")
            found.append((method, training.restore(method, own, kept, loss.vgg)))
    return found


def _generated(
    project: Project, loss: PerceptualLoss, photos: Sequence[Tensor], shown: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`quality.distances` of Shen's networks, of every photo in every held-out style (columns
    artist, photo, content, style), and of the paintings' mean colours, over the photos shown."""
    size = shen.Settings.read(project, "methods.shen").style_size
    method, artists = _load(project, "shen", loss), splits.listed(project)["artist"]
    known = [quality.features(loss.vgg, photo) for photo in photos]
    rows, flat = [], []
    for file in tqdm(splits.read(project).artworks.held_out, unit="artwork"):
        painting = images.load(file, size).to(loss.device)
        style, network = quality.features(loss.vgg, painting), method.prepare(painting)
        for k, photo in enumerate(photos):
            blank = painting.mean((2, 3), keepdim=True).expand_as(photo)
            for found, image in ((rows, method.stylise(network, photo)), (flat, blank)):
                if found is rows or k < shown:
                    output = quality.features(loss.vgg, image)
                    measured = quality.distances(output, known[k], known[k - 1], style)
                    found.append({"artist": artists[file], "photo": k, **measured})
    return pd.DataFrame(rows), pd.DataFrame(flat)


def _load(project: Project, name: str, loss: PerceptualLoss) -> Method:
    return registry.load(name, project, Context(loss), weights=weights(project, name))


def decoders(run: Run) -> Figure:
    """Held-out photos and what each decoder makes of their features; PSNR (dB) and SSIM under."""
    rows, under = [run.photos[: len(run.decoded)]], [[""] * len(run.decoded)]
    for name in run.settings.floors:
        rows.append([made[name] for made in run.decoded])
        found = run.table[run.table["decoder"] == name]
        under.append([f"{r.psnr:.1f} dB / {r.ssim:.2f}" for r in found.itertuples()])
    return plots.grid(rows, labels=["photo", *run.settings.floors], under=under, cell=2.2)


def means(run: Run) -> pd.DataFrame:
    """Means over the photos with their intervals, of decoders beside their floors, and of the
    images that they are to be read by."""
    rows = {
        name: {k: str(bootstrap(found, k, ["photo"])) for k in ("psnr", "ssim")}
        for name, found in run.table.groupby("decoder", sort=False)
    }
    floors = run.floors[["psnr_floor", "ssim_floor", "reached"]].astype(str)
    return pd.DataFrame(rows).T.join(floors).fillna("")


def stylised(project: Project, run: Run) -> Figure:
    """The first held-out photo in the style of held-out artworks, by each method."""
    loss = load_loss(project)
    files = splits.read(project).artworks.held_out[: run.settings.shown]
    squares = [images.load_square(file, run.settings.photo_size) for file in files]
    rows = {"painting": [run.photos[0], *squares]}
    for name in schedules(project):
        method = _load(project, name, loss)
        styles = [method.prepare(images.load(file).to(loss.device)) for file in files]
        rows[name] = [None, *(method.stylise(style, run.photos[0]) for style in styles)]
    return plots.grid([*rows.values()], labels=[*rows], columns=["photo"], cell=2.2)


def judge(run: Run) -> list[claims.Row]:
    """How many methods pass by `RULE`, and each mean beside its floor or limit."""
    found = [
        (name, f"{unit} of photos decoded by `{name}`", row[k], "Floor", row[f"{k}_floor"])
        for name, row in run.floors.iterrows()
        for k, unit in (("psnr", "PSNR (dB)"), ("ssim", "SSIM"))
    ]
    for k, row in run.limits.iterrows():
        quantity = f"distance in {k} of images by `shen`, relative"
        found.append(("shen", quantity, row["mean"], "Limit", row["limit"]))
    rows, missed, close = [], [], []
    for name, quantity, mean, word, bound in found:
        good = mean.value >= bound if word == "Floor" else mean.value <= bound
        rows.append(claims.row("", quantity, mean, note=f"{word} {bound:g}: {MET[good]}."))
        missed += [name] * (not good)
        close += [name] * (mean.low < bound <= mean.high)
    of, without = len(run.floors) + 1, dict.fromkeys(missed)
    note = f"{RULE} Not so: {', '.join(without) or 'none'}."
    if close:
        note += f" With other images it might differ for: {', '.join(dict.fromkeys(close))}."
    quantity = "decoders that reach their floors, and `shen` within its limits"
    return [claims.row("", quantity, f"{of - len(without)} of {of}", note=note), *rows]


def check(run: Run) -> None:
    """Print how much was measured, and whether it is finite."""
    finite = bool(np.isfinite(run.table[["psnr", "ssim"]]).all(axis=None))
    print("decoders:", len(run.floors), "- finite:", finite)
    print("images of generated networks:", run.pairs)
