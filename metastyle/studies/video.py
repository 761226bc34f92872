"""Chapter 10, figure 5b: a clip frame by frame, and its flicker (claim C8)."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from tqdm import tqdm

from metastyle import plots
from metastyle.adaptation import video
from metastyle.baselines import Context, gatys
from metastyle.config import ImageSide, Project, Section
from metastyle.core import images, splits
from metastyle.core.checkpoint import load_network
from metastyle.core.losses import load_loss
from metastyle.core.network import stylise
from metastyle.evaluation import claims, flicker
from metastyle.evaluation.statistics import Interval, bootstrap, geometric_mean
from metastyle.files import write_table

RULE = (
    "Reproduced if no network's warping error over the clip exceeds the source's own: the 95 % "
    "interval of the ratio reaches down to 1; partly if one does, but the network adapted to "
    "Gatys' painting has a smaller error than Gatys on the same frames, as it is and in "
    "proportion to the contrast of the pictures; else not."
)
UNKNOWN = Interval(*3 * [float("nan")])
Pictures = dict[str, Tensor]  # of one frame by name, (1, 3, H, W) in [0, 1]


class Pan(Section):
    """A camera moving over held-out photos, see `flicker.pan`.

    photos: the first by name; size: pixels of the window; steps: pixels per frame, 0 among them;
    noise: rms of the noise that a second run adds to every frame.
    """

    photos: PositiveInt
    size: ImageSide
    steps: Annotated[list[NonNegativeInt], Field(min_length=2)]
    frames: Annotated[int, Field(ge=2)]
    noise: NonNegativeFloat
    seed: int


class Video(Section):
    """Section `video`: what chapter 10 renders and measures.

    styles: of the adapted ones; height: pixels; frames: of the clip, None for all; shown: first
    and number of the consecutive frames that are shown and that Gatys gets.
    """

    styles: Annotated[list[NonNegativeInt], Field(min_length=1)]
    height: ImageSide
    frames: PositiveInt | None
    shown: tuple[NonNegativeInt, Annotated[int, Field(ge=2)]]
    gatys_height: ImageSide
    gatys_updates: PositiveInt
    pan: Pan


class Run(NamedTuple):
    """What was rendered and measured.

    clips: the written files by network; titles: of the paintings, likewise. whole, few:
    `flicker.errors` of the clip, and of the shown frames with Gatys. shown: those frames of the
    clip; small: the same with Gatys. known: errors under exact motion, columns name, noise,
    pixels per frame, photo, error.
    """

    settings: Video
    rate: Fraction
    clips: dict[str, Path]
    titles: dict[str, str]
    whole: pd.DataFrame
    few: pd.DataFrame
    shown: list[Pictures]
    small: list[Pictures]
    known: pd.DataFrame


def run(project: Project) -> Run:
    """Render the clip, the frames of Gatys and the moving camera; write clips and measures."""
    settings, data = Video.read(project, "video"), splits.Data.read(project, "data")
    folder, adapted = project.outputs / "video", project.inputs / "adapt"
    files = json.loads((adapted / "styles.json").read_text())
    names = {f"MetaStyle {k}": k for k in settings.styles}
    paintings = {name: project.root / data.artworks / files[k] for name, k in names.items()}
    files = {name: adapted / f"networks/{k}.safetensors" for name, k in names.items()}
    networks = {name: load_network(file) for name, file in files.items()}
    clips = {name: folder / f"{k}.mp4" for name, k in names.items()}
    source, first, count = project.root / data.clip, *settings.shown
    clip = video.describe(source)
    frames = islice(video.frames(source, settings.height), settings.frames)
    frames = tqdm(frames, total=settings.frames or clip.length, unit="frame", mininterval=5)
    with ExitStack() as stack:
        write = {k: stack.enter_context(video.writer(f, clip.rate)) for k, f in clips.items()}
        whole = flicker.errors(_written(_stylised(frames, networks), write), "source")
    shown, small = (
        list(_stylised(islice(video.frames(source, height), first, first + count), networks))
        for height in (settings.height, settings.gatys_height)
    )
    _add_gatys(small, next(iter(paintings.values())), project, settings.gatys_updates)
    few = flicker.errors(small, "source")
    known = _panned(splits.read(project).photos.held_out, networks, settings.pan)
    both = pd.concat({"whole": whole, "few": few}, names=["clip"]).reset_index("clip")
    write_table(folder / "flicker.csv", both, float_format="%.4g")
    write_table(folder / "pan.csv", known, float_format="%.4g")
    titles = splits.listed(project)["title"].str.split(" - ").str[0]
    titles = {name: titles[file] for name, file in paintings.items()}
    return Run(settings, clip.rate, clips, titles, whole, few, shown, small, known)


def _stylised(frames: Iterable[Tensor], networks: Mapping[str, nn.Module]) -> Iterator[Pictures]:
    for frame in frames:
        yield {"source": frame, **{k: stylise(n, frame).cpu() for k, n in networks.items()}}


def _written(frames: Iterable[Pictures], write: Mapping[str, Callable]) -> Iterator[Pictures]:
    for pictures in frames:
        for name, append in write.items():
            append(pictures[name])
        yield pictures


def _add_gatys(frames: list[Pictures], painting: Path, project: Project, updates: int) -> None:
    settings = gatys.Settings.read(project, "methods.gatys")
    method = gatys.build(settings, Context(load_loss(project)))
    target = method.prepare(images.load(painting, settings.style_size))
    for pictures in tqdm(frames, unit="Gatys frame"):
        pictures["Gatys"] = method.stylise(target, pictures["source"], updates=updates).cpu()


def _panned(files: list[Path], networks: Mapping[str, nn.Module], pan: Pan) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(pan.seed)
    side = pan.size + max(pan.steps) * (pan.frames - 1)
    rows = []
    for file in tqdm(files[: pan.photos], unit="photo"):
        photo = images.load_square(file, side)
        for step in pan.steps:
            for noise in (0.0, pan.noise):
                frames = [
                    (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)
                    for x in flicker.pan(photo, pan.size, step, pan.frames)
                ]
                made = {"source": frames}
                made |= {k: [stylise(n, x).cpu() for x in frames] for k, n in networks.items()}
                rows += [
                    (name, f"{noise:g}", step, file.stem, error)
                    for name, pictures in made.items()
                    for error in flicker.pan_errors(pictures, step)
                ]
    return pd.DataFrame(rows, columns=["name", "noise", "pixels per frame", "photo", "error"])


def clips(project: Project, run: Run) -> Markdown:
    """Links to the written clips."""
    files = [file.relative_to(project.root).as_posix() for file in run.clips.values()]
    links = [f"[{t}](../{file})" for t, file in zip(run.titles.values(), files, strict=True)]
    return Markdown(f"The clips: {', '.join(links)}.")


def strips(run: Run) -> Figure:
    """The consecutive frames, a row per picture."""
    height, width = run.small[0]["source"].shape[-2:]
    rows = [[frame[name] for frame in run.shown] for name in ("source", *run.titles)]
    rows.append([frame["Gatys"] for frame in run.small])
    columns = [f"frame {run.settings.shown[0] + k}" for k in range(len(run.shown))]
    labels = ["source", *run.titles.values(), f"Gatys, {height} px"]
    return plots.grid(rows, columns=columns, labels=labels, cell=2.4, shape=height / width)


def differences(run: Run) -> Figure:
    """What changes from the first shown frame to the second, magnified fourfold around grey."""
    one, two = run.small[:2]
    (height, width), columns = one["source"].shape[-2:], [run.titles.get(k, k) for k in one]
    row = [(0.5 + 4 * (two[name] - one[name])).clamp(0, 1) for name in one]
    return plots.grid([row], columns=columns, cell=2.7, shape=height / width)


def _summary(table: pd.DataFrame, length: int) -> pd.DataFrame:
    """Intervals by picture name: means, but of `times source` the geometric mean; runs of
    `length` pairs of frames are drawn anew, for neighbours are alike."""
    source = table[table["name"] == "source"].set_index("frame")["warp"]
    table = table.assign(
        **{
            "warp / contrast": table["warp"] / table["contrast"],
            "times source": table["warp"] / table["frame"].map(source),
            "run": (table["frame"] - 1) // length,
        }
    )

    means = dict.fromkeys(["warp", "change", "still", "warp / contrast"], bootstrap)
    found: dict[str, dict[str, Interval]] = {}
    for column, how in {**means, "times source": geometric_mean}.items():
        known = {k: rows.dropna(subset=[column]) for k, rows in table.groupby("name", sort=False)}
        found[column] = {
            k: UNKNOWN if rows.empty else how(rows, column, ["run"]) for k, rows in known.items()
        }
    return pd.DataFrame(found)


def measures(run: Run) -> dict[str, pd.DataFrame]:
    """Of the clip, half seconds drawn anew; of the frames that Gatys has, single pairs drawn."""
    few = f"{len(run.small)} frames, {run.settings.gatys_height} px"
    return {
        f"whole clip, {run.settings.height} px": _summary(run.whole, max(1, round(run.rate / 2))),
        few: _summary(run.few, 1),
    }


def table(run: Run) -> pd.DataFrame:
    """`measures` as text, with the paintings' titles."""
    return pd.concat(measures(run)).map(str).rename(index=run.titles)


def exact_motion(run: Run) -> pd.DataFrame:
    """Mean error under exact motion, an interval (photos drawn anew) by noise, name and step."""
    columns = ["noise", "name", "pixels per frame"]
    groups = run.known.groupby(columns, sort=False)
    found = pd.Series({group: bootstrap(rows, "error", ["photo"]) for group, rows in groups})
    table = found.rename_axis(columns).unstack(sort=False)
    return table.rename(index=run.titles, level="name")


def judge(run: Run) -> list[claims.Row]:
    """C8 by `RULE`, on the row of the largest ratio; what it is made of, and the moving camera."""
    whole, few = measures(run).values()
    few = few.map(lambda interval: interval.value)
    first = next(iter(run.titles))
    over_gatys = few.loc[first] / few.loc["Gatys"]
    exact = all(whole.at[name, "times source"].low <= 1 for name in run.titles)
    ahead = bool((over_gatys[["warp", "warp / contrast"]] < 1).all())
    levels = whole["warp"].map(lambda interval: f"{255 * interval.value:.1f}")
    rows = []
    for name, title in run.titles.items():
        quantity = f"warping error of the clip over the source's own, {title}"
        note = f"{levels[name]} levels of 255 beside {levels['source']} of the source."
        rows.append(claims.row("C8", quantity, whole.at[name, "times source"], note=note))
    rows.sort(key=lambda row: -row.ours)
    note = f"{rows[0].note} With {run.titles[first]} {over_gatys['warp']:.2f} times Gatys' error."
    verdict = "reproduced" if exact else "partly" if ahead else "not reproduced"
    rows[0] = rows[0].changed(rule=RULE, paper="no flicker", verdict=verdict, note=note)
    seen = run.whole.groupby("frame")["seen"].first().mean()
    rows.append(claims.row("C8", "share of the pixels whose motion is known", seen))
    for column, quantity in {
        "warp": "warping error",
        "warp / contrast": "warping error in proportion to contrast",
        "still": "change where the source stands still",
    }.items():
        quantity = f"{quantity} over Gatys', {len(run.small)} frames, {run.titles[first]}"
        ours, gatys_, source = few.loc[[first, "Gatys", "source"], column]
        note = f"{ours:.3g}, Gatys {gatys_:.3g}, the source {source:.3g}."
        rows.append(claims.row("C8", quantity, over_gatys[column], note=note))
    return rows + _moved(run)


def _moved(run: Run) -> list[claims.Row]:
    moved, rows = exact_motion(run), []
    noisy = moved.loc[f"{run.settings.pan.noise:g}"].map(lambda interval: interval.value)
    for title in run.titles.values():
        steps = moved.loc[("0", title)].drop(0)
        order = sorted(steps.index, key=lambda step, steps=steps: steps[step].value)
        quantity = f"error under exact motion, where the source has none, {title}"
        note = f"At {order[-1]} pixels a frame; least at {order[0]}: {steps[order[0]]}."
        rows.append(claims.row("C8", quantity, steps[order[-1]], note=note))
        quantity = f"error of a camera at rest with noise over the source's own, {title}"
        rows.append(claims.row("C8", quantity, noisy.at[title, 0] / noisy.at["source", 0]))
    return rows


def check(run: Run) -> None:
    """Print numbers of frames, and errors that must be zero."""
    exact = run.known[run.known["noise"] == "0"]
    print("frames:", run.whole["frame"].nunique() + 1, end=" ")
    print("- with Gatys:", run.few["frame"].nunique() + 1)
    print("source under exact motion:", exact[exact["name"] == "source"]["error"].max())
    print("camera at rest:", exact[exact["pixels per frame"] == 0]["error"].max())
    written = video.describe(next(iter(run.clips.values())))
    print("written:", written.length, "frames, rate kept:", written.rate == run.rate)
