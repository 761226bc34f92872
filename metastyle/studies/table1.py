"""Table 1: every method at its published shape, counted, timed and set beside the paper's.

Memory is measured in a process of its own: `python -m metastyle.table1 params.yaml` prints the
peak of every method as JSON.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from metastyle.adaptation.adapt import Adaptation
from metastyle.baselines import Method
from metastyle.config import read
from metastyle.core import splits
from metastyle.core.crops import derive_seed
from metastyle.core.losses import Perceptual
from metastyle.core.network import TransformerNet, new_network
from metastyle.core.vgg import VGG16, load_vgg
from metastyle.evaluation.timing import Table1, Timing, side_by_side, summary

ENCODED, CACHED = "style encoded", "style cached"
STYLES = (ENCODED, CACHED)  # what an image's time includes
_SMALL = 64  # pixels, where an iterative method's operations are counted
Verdict = Literal["holds", "undecided", "does not hold"]


class VGG19Shape(VGG16):
    """What VGG-19 computes up to relu5_1, with VGG-16's weights: for counting and timing only.

    The blocks 3 and 4 have a fourth convolution, of the same shape as the third.
    """

    def conv_relu(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """One layer; the last of blocks 3 and 4 twice."""
        x = super().conv_relu(x, weight, bias)
        if weight is self.weight3_3 or weight is self.weight4_3:
            x = super().conv_relu(x, weight, bias)
        return x


class Parts(NamedTuple):
    """What methods are built of; the networks are on one device."""

    vgg16: VGG16
    vgg19: VGG19Shape
    start: TransformerNet
    perceptual: Perceptual
    adaptation: Adaptation

    def to(self, device: str) -> "Parts":
        """With copies of the networks on another device."""
        networks = (copy.deepcopy(network).to(device) for network in self[:3])
        return Parts(*networks, *self[3:])


def parts(params: str | Path) -> Parts:
    """Read what methods are built of; on the GPU where there is one.

    Raises:
        InputError: VGG-16's weights are missing, or a parameter is wrong.
    """
    file = project.root(params) / read(params, "data", splits.Data).vgg
    perceptual = read(params, "perceptual", Perceptual)
    vgg16, vgg19 = (load_vgg(file, perceptual.feature_scale, k) for k in (VGG16, VGG19Shape))
    start = new_network(0).to(vgg16.mean.device)
    return Parts(vgg16, vgg19, start, perceptual, read(params, "adapt", Adaptation))


def published(name: str, params: str | Path, settings: Table1, size: int, parts: Parts) -> Method:
    """A method in its published shape, with random weights, which cost the same time.

    The style is as large as the image unless `settings.published` says otherwise. Use its
    `ready`: there are no photos to train on.

    Args:
        size: side of the image, in pixels.
    """
    resources = methods.Resources(
        features=parts.vgg16 if name in settings.vgg16 else parts.vgg19,
        perceptual=parts.perceptual,
        photos=[],
        start=parts.start,
        adaptation=parts.adaptation,
    )
    changes = {"encoder": "vgg19", "weights": None, "style_size": size}
    changes |= settings.published.get(name, {})
    return methods.load(name, params, resources, **changes)


class Operations(NamedTuple):
    """Billions of multiply-adds (GMAC) of convolutions and matrix products, for one image.

    encode: of its style. first: of stylising; in an iterative method, with one update. update:
    each further one.
    """

    encode: float
    first: float
    update: float

    def image(self, style: str, updates: int) -> float:
        """All of one image; `style` is one of `STYLES`."""
        stylise = self.first + (updates - 1) * self.update
        return stylise + self.encode * (style == ENCODED)


def operations(
    name: str, params: str | Path, settings: Table1, size: int, parts: Parts
) -> Operations:
    """Count by running, without computing: on the meta device.

    An iterative method looks at its loss, which has no value there. It is run on a small image
    instead: all its operations are proportional to the pixels.
    """

    def count(call: Callable[[], object]) -> float:
        return benchmark.operations(call) / 2  # a multiplication and an addition are one

    method = published(name, params, settings, size, parts.to("meta"))
    if method.updates == 1:
        picture = torch.empty(1, 3, size, size, device="meta")
        state = method.ready(picture)
        encode = count(lambda: method.ready(picture))
        return Operations(encode, count(lambda: method.stylise(state, picture)), 0.0)

    method = published(name, params, settings, _SMALL, parts)
    style, content = torch.zeros(1, 3, _SMALL, _SMALL), torch.full((1, 3, _SMALL, _SMALL), 0.5)
    state = method.ready(style)
    encode = count(lambda: method.ready(style))
    one, two = (count(partial(method.stylise, state, content, updates=n)) for n in (1, 2))
    pixels = (size / _SMALL) ** 2
    return Operations(encode * pixels, one * pixels, (two - one) * pixels)


def pictures(settings: Table1, size: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Noise for content and style, (1, 3, size, size) each: not the same, or there would be
    nothing to optimise."""
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "noise", size))
    return torch.rand(2, 1, 3, size, size, generator=generator).to(device).unbind()


class Time(NamedTuple):
    """Seconds of one image, and their ratio to Johnson's forward pass, turn by turn."""

    seconds: Timing
    ratio: Timing | None


def measure(
    method: Method,
    content: Tensor,
    style: Tensor,
    settings: Table1,
    beside: Callable[[], object] | None = None,
) -> dict[str, Time]:
    """Time one image, by what is included (`STYLES`).

    Every repeat encodes the style, then stylises, then runs `beside`, so that a ratio compares
    what the machine did within seconds. Of an iterative method a repeat times one update and
    `settings.updates_timed`; the difference gives the time of `settings.updates`.

    Args:
        content, style: images in [0, 1], (1, 3, H, W).
        beside: Johnson's forward pass at the same size; None leaves the ratio out.
    """
    state = {}

    def prepare():
        state["style"] = method.ready(style)

    def stylise(**updates):
        method.stylise(state["style"], content, **updates)

    if method.updates == 1:
        calls = {"first": stylise}
    else:
        calls = {"first": partial(stylise, updates=1)}
        calls["few"] = partial(stylise, updates=settings.updates_timed)
    calls = {"encode": prepare, **calls}
    if beside:
        calls["beside"] = beside
    least, most = settings.repeats
    turns = side_by_side(calls, repeats=most, least=least, budget=settings.seconds_per_cell)
    cached = turns["first"]
    if method.updates > 1:
        update = (turns["few"] - turns["first"]) / (settings.updates_timed - 1)
        cached = cached + (settings.updates - 1) * update
    times = {ENCODED: cached + turns["encode"], CACHED: cached}
    ratios = {k: summary(t / turns["beside"]) if beside else None for k, t in times.items()}
    return {k: Time(summary(t), ratios[k]) for k, t in times.items()}


def planned(counted: Mapping[tuple[str, int], Operations], settings: Table1, rate: float) -> float:
    """Seconds that the timing will take at `rate` GFLOP/s, warm-ups and memory included."""
    least, most = settings.repeats
    budget, total = settings.seconds_per_cell, 0.0
    for (_, size), o in counted.items():
        gmac = o.encode + o.first
        if size in settings.sizes:
            gmac += counted["johnson", size].first
        if o.update:
            gmac += o.first + (settings.updates_timed - 1) * o.update
        turn = 2 * gmac / rate
        total += max(least * turn, min(budget + turn, most * turn)) + turn * (turn <= budget)
        total += 2 * o.image(ENCODED, 2) / rate * (size == settings.memory_size)
    return total


def table(
    times: Mapping[tuple[str, int], Mapping[str, Time]],
    counted: Mapping[tuple[str, int], Operations],
    rows: Mapping[str, Method],
    settings: Table1,
    ceiling: float,
) -> pd.DataFrame:
    """All numbers: one row per method, image size and kind of time (`STYLES`).

    Seconds and the ratio to Johnson's come with their quartiles. paper ratio, operation ratio: the
    same from the paper's seconds and from multiply-adds alone. share: of the machine's `ceiling`
    in GFLOP/s.
    """
    found = []
    for (name, size), by_style in times.items():
        method, seconds = rows[name], rows[name].printed.seconds.get(size)
        johnson = rows["johnson"].printed.seconds.get(size)
        updates = settings.updates if method.updates > 1 else 1
        for style, (time, ratio) in by_style.items():
            gmac = counted[name, size].image(style, updates)
            rate = 2 * gmac / time.median
            found.append(
                {
                    "name": name,
                    "size": size,
                    "style": style,
                    "method": method.label,
                    "styles": method.styles,
                    "parameters": method.parameters,
                    "paper parameters": method.printed.parameters,
                    "seconds": time.median,
                    "seconds low": time.low,
                    "seconds high": time.high,
                    "repeats": time.repeats,
                    "extrapolated": method.updates > 1,
                    "GMAC": gmac,
                    "GFLOP/s": rate,
                    "share": rate / ceiling,
                    "ratio": ratio.median,
                    "ratio low": ratio.low,
                    "ratio high": ratio.high,
                    "paper seconds": seconds,
                    "paper ratio": seconds / johnson if seconds else None,
                    "operation ratio": gmac / counted["johnson", size].image(style, 1),
                }
            )
    found = pd.DataFrame(found).astype({"parameters": "Int64"})
    return found.set_index(["name", "size", "style"]).sort_index(level="size", sort_remaining=False)


def printable(found: pd.DataFrame) -> pd.DataFrame:
    """`table` for the eye: one column per method, rows by image size; × marks extrapolation."""
    columns = {}
    for _, rows in found.groupby(level="name", sort=False):
        one = rows.iloc[0]
        count, printed = one["parameters"], one["paper parameters"]
        column = {("", "parameters"): "N/A", ("", "paper"): printed, ("", "styles"): one["styles"]}
        if not pd.isna(count):
            column["", "parameters"] = f"{count:,}" + " ≠" * (not as_printed(count, printed))
        for (_, size, style), row in rows.iterrows():
            mark = " ×" if row["extrapolated"] else ""
            column[f"{size} px", f"{style} (s)"] = (
                f"{row['seconds']:.3g}{mark} [{row['seconds low']:.3g}, {row['seconds high']:.3g}]"
            )
            column[f"{size} px", f"{style}, GMAC"] = f"{row['GMAC']:,.1f}"
            column[f"{size} px", f"{style}, GFLOP/s (of ceiling)"] = (
                f"{row['GFLOP/s']:.0f} ({row['share']:.0%})"
            )
            column[f"{size} px", f"{style}, time / Johnson"] = (
                f"{row['ratio']:,.2f} [{row['ratio low']:,.2f}, {row['ratio high']:,.2f}]"
            )
            column[f"{size} px", f"{style}, operations / Johnson"] = (
                f"{row['operation ratio']:,.2f}"
            )
            if not pd.isna(row["paper ratio"]):
                column[f"{size} px", "paper (s)"] = f"{row['paper seconds']:.4f}"
                column[f"{size} px", "paper, time / Johnson"] = f"{row['paper ratio']:,.2f}"
        columns[one["method"]] = column
    return pd.DataFrame(columns)


def as_printed(parameters: int, printed: str) -> bool:
    """Whether a count, in millions and rounded as the paper does, is what the paper prints."""
    return f"{parameters / 1e6:.2f}M" == printed


def swapped(
    here: Mapping[str, Timing], paper: Mapping[str, float], alike: float
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs (a, b) of methods of which the paper's a is the faster one.

    Args:
        here: times, or their ratios to one and the same.
        alike: medians within this factor are not told apart.

    Returns:
        Those of which b is the faster one here, their quartiles apart; and those of which
        nothing can be said.
    """

    def faster(a, b):
        return here[a].high < here[b].low and alike * here[a].median < here[b].median

    pairs = [(a, b) for a, b in permutations(paper, 2) if paper[a] < paper[b]]
    against = [(a, b) for a, b in pairs if faster(b, a)]
    return against, [(a, b) for a, b in pairs if not (faster(a, b) or faster(b, a))]


def verdict(ratio: Timing, least: float) -> Verdict:
    """Whether a ratio of times is at least so large, the range of its quartiles considered."""
    if ratio.low >= least:
        return "holds"
    return "does not hold" if ratio.high < least else "undecided"


def memory(params: str | Path) -> dict[str, float] | None:
    """Peak memory in GiB of each method for one image, its weights and its style included.

    Measured beyond what the process held before, on the GPU where there is one. None where
    neither a GPU nor Linux tells, or without `table1.memory_size`.
    """
    if read(params, "table1", Table1).memory_size is None:
        return None
    command = [sys.executable, "-m", "metastyle.table1", str(params)]
    # Freed tensors go back to the system at once, so that a method leaves nothing to the next.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def _peaks(params: Path) -> dict[str, float] | None:
    settings = read(params, "table1", Table1)
    using, size = parts(params), settings.memory_size
    peaks = {}
    for name in methods.names(params):
        try:
            before = _start_peak()
        except OSError:
            return None
        method = published(name, params, settings, size, using)
        content, style = pictures(settings, size, using.vgg16.mean.device)
        few = {"updates": 2} if method.updates > 1 else {}
        method.stylise(method.ready(style), content, **few)
        peaks[name] = _peak() - before
        del method
    return peaks


def _start_peak() -> float:
    """Forget the peak so far; GiB held now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**30
    Path("/proc/self/clear_refs").write_text("5")
    return benchmark.held("VmRSS")


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return benchmark.held("VmHWM")


if __name__ == "__main__":
    print(json.dumps(_peaks(Path(sys.argv[1]))))
