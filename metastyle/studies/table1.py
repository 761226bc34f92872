"""Table 1: every method of the paper at its published shape, counted and timed.

Memory is measured in a process of its own: `python -m metastyle.studies.table1 params.yaml`
prints the peak of every method as JSON.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from tqdm import tqdm

from metastyle.baselines import Method, registry
from metastyle.config import ImageSide, Probability, Project, Section
from metastyle.core import device
from metastyle.core.allocator import keep_freed_memory
from metastyle.core.crops import derive_seed
from metastyle.evaluation import operations
from metastyle.evaluation.timing import Timing, summary, time_in_turns
from metastyle.files import write_json, write_table
from metastyle.studies import _published
from metastyle.studies._published import CACHED, ENCODED, Builder, Operations


class Table1(Section):
    """Section `table1`; see params.yaml for units and sources.

    feed_forward: methods timed at `more_sizes`, too. repeats: at least and at most, within
    `seconds_per_cell`. vgg16: methods that see VGG-16's features; all others VGG-19's. published:
    settings by method that differ from its own section. claims: by method how many times as long
    as MetaStyle it takes at least. alike: factor within which medians are not distinguished.
    """

    sizes: Annotated[list[ImageSide], Field(min_length=1)]
    more_sizes: list[ImageSide]
    feed_forward: list[str]
    seconds_per_cell: NonNegativeFloat
    repeats: tuple[PositiveInt, PositiveInt]
    updates: PositiveInt
    updates_timed: Annotated[int, Field(ge=2)]
    vgg16: list[str]
    published: dict[str, dict[str, Any]]
    memory_size: ImageSide | None
    ceiling_seconds: NonNegativeFloat
    planned_share: Probability
    claims: dict[str, PositiveFloat]
    alike: Annotated[float, Field(ge=1)]
    seed: int


def noise(settings: Table1, size: int) -> tuple[Tensor, Tensor]:
    """Content and style, (1, 3, size, size) each, uniform in [0, 1], on the GPU where there is
    one: not the same, or there would be nothing to optimise."""
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "noise", size))
    images = torch.rand(2, 1, 3, size, size, generator=generator)
    return images.to(device.chosen()).unbind()


class Time(NamedTuple):
    """Seconds of one image, and their ratio to Johnson's forward pass, turn by turn."""

    seconds: Timing
    ratio: Timing | None


def time_method(
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

    calls = {"encode": prepare, "first": stylise}
    if method.updates > 1:
        calls["first"] = partial(stylise, updates=1)
        calls["few"] = partial(stylise, updates=settings.updates_timed)
    if beside:
        calls["beside"] = beside
    least, most = settings.repeats
    turns = time_in_turns(calls, repeats=most, least=least, budget=settings.seconds_per_cell)
    cached = turns["first"]
    if method.updates > 1:
        update = (turns["few"] - turns["first"]) / (settings.updates_timed - 1)
        cached = cached + (settings.updates - 1) * update
    times = {ENCODED: cached + turns["encode"], CACHED: cached}
    return {
        kind: Time(summary(t), summary(t / turns["beside"]) if beside else None)
        for kind, t in times.items()
    }


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


class Run(NamedTuple):
    """What was counted and timed.

    methods: by name, on the meta device. table: see `tabulate`. curve: seconds with the style
    cached by method and image side. ceilings: GFLOP/s in float32 before and after all else.
    eigen: seconds of an eigendecomposition of 512 x 512.
    """

    settings: Table1
    methods: dict[str, Method]
    table: pd.DataFrame
    curve: dict[str, dict[int, Timing]]
    ceilings: tuple[float, float]
    eigen: float

    def ratio(self, name: str, size: int, style: str) -> Timing:
        """Time over Johnson's."""
        return timings(self.table.loc[(name, size, style)])[1]


def timings(row: pd.Series) -> tuple[Timing, Timing]:
    """Seconds and ratio of a row of the table."""
    parts = ([row[of], row[f"{of} low"], row[f"{of} high"]] for of in ("seconds", "ratio"))
    return tuple(Timing(*part, row["repeats"]) for part in parts)


def builder(project: Project, place: str | None = None) -> Builder:
    """See `_published.builder`."""
    settings = Table1.read(project, "table1")
    return _published.builder(project, settings.vgg16, settings.published, place)


def shapes(project: Project) -> dict[str, Method]:
    """The methods on PyTorch's meta device: shapes without numbers."""
    build, size = builder(project, "meta"), Table1.read(project, "table1").sizes[0]
    return {name: build(name, size) for name in registry.names(project)}


def run(project: Project) -> Run:
    """Count and time every method; write table1.csv and metrics.json to results.

    Prints how long it will take first. Large blocks of memory are kept when freed, else the
    system would clear every page of large images anew.
    """
    s, methods, build = Table1.read(project, "table1"), shapes(project), builder(project)
    cells = [(name, size) for name in methods for size in s.sizes]
    cells += [(name, size) for name in s.feed_forward for size in s.more_sizes]
    counted = _published.count(build, builder(project, "meta"), cells)
    before = operations.ceiling(operations.ceilings(s.ceiling_seconds))
    seconds = planned(counted, s, s.planned_share * before)
    print(f"ceiling {before:.0f} GFLOP/s; {len(cells)} cells, planned at {s.planned_share:.0%}: "
          f"{seconds / 60:.1f} minutes")  # fmt: skip
    keep_freed_memory()
    johnson = build("johnson", s.sizes[0])
    times, curve = {}, {name: {} for name in methods}
    for name, size in tqdm(cells, unit="cell", mininterval=5):
        in_table = size in s.sizes
        content, style = noise(s, size)
        method = build(name, size if in_table else s.sizes[0])
        beside = partial(johnson.stylise, johnson.ready(style), content) if in_table else None
        found = time_method(method, content, style, s, beside)
        curve[name][size] = found[CACHED].seconds
        if in_table:
            times[name, size] = found
        del method
    ceilings = before, operations.ceiling(operations.ceilings(s.ceiling_seconds))
    table = tabulate(times, counted, methods, s, max(ceilings))
    if held := memory(project):
        table["peak GiB"] = table.index.get_level_values("name").map(held)
    write_table(project.outputs / "table1" / "table1.csv", table, index=True)
    metrics = {
        name: {f"{size} px, {style}": row["seconds"] for (_, size, style), row in rows.iterrows()}
        for name, rows in table.groupby(level="name", sort=False)
    }
    write_json(project.outputs / "table1" / "metrics.json", metrics)
    return Run(s, methods, table, curve, ceilings, _eigendecomposition(s))


def _eigendecomposition(settings: Table1) -> float:
    generator = torch.Generator().manual_seed(settings.seed)
    matrix = torch.rand(512, 512, generator=generator, dtype=torch.float64).to(device.chosen())
    call = partial(torch.linalg.eigh, matrix @ matrix.T)
    limits = {"repeats": 100, "least": 3, "budget": settings.ceiling_seconds}
    return time_in_turns({"eigh": call}, **limits)["eigh"].median()


def memory(project: Project) -> dict[str, float] | None:
    """Peak memory in GiB of each method for one image, its weights and its style included.

    Measured beyond what the process held before, on the GPU where there is one. None where
    neither a GPU nor Linux tells, or without `table1.memory_size`.
    """
    if Table1.read(project, "table1").memory_size is None:
        return None
    # Freed tensors go back to the system at once, so that a method leaves nothing to the next.
    environment = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    return operations.in_child("metastyle.studies.table1", str(project.params), **environment)


def peaks(project: Project) -> dict[str, float] | None:
    """Peak memory in GiB of each method for one image of `memory_size`, its weights and its style
    included, beyond what this process held before; None where the machine does not tell."""
    s, build, found = Table1.read(project, "table1"), builder(project), {}
    for name in registry.names(project):
        try:
            before = operations.forget_peak()
        except OSError:
            return None
        method = build(name, s.memory_size)
        content, style = noise(s, s.memory_size)
        few = {"updates": 2} if method.updates > 1 else {}
        method.stylise(method.ready(style), content, **few)
        found[name] = operations.peak() - before
        del method
    return found


def tabulate(
    times: Mapping[tuple[str, int], Mapping[str, Time]],
    counted: Mapping[tuple[str, int], Operations],
    methods: Mapping[str, Method],
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
        method, seconds = methods[name], methods[name].printed.seconds.get(size)
        johnson = methods["johnson"].printed.seconds.get(size)
        updates = settings.updates if method.updates > 1 else 1
        for style, (time, ratio) in by_style.items():
            gmac = counted[name, size].image(style, updates)
            rate = 2 * gmac / time.median
            row = {"name": name, "size": size, "style": style, "method": method.label}
            row |= {"styles": method.styles, "parameters": method.parameters}
            row |= {"paper parameters": method.printed.parameters, "seconds": time.median}
            row |= {"seconds low": time.low, "seconds high": time.high, "repeats": time.repeats}
            row |= {"extrapolated": method.updates > 1, "GMAC": gmac, "GFLOP/s": rate}
            row |= {"share": rate / ceiling, "ratio": ratio.median, "ratio low": ratio.low}
            row |= {"ratio high": ratio.high, "paper seconds": seconds}
            row["paper ratio"] = seconds / johnson if seconds else None
            row["operation ratio"] = gmac / counted["johnson", size].image(style, 1)
            found.append(row)
    found = pd.DataFrame(found).astype({"parameters": "Int64", "paper ratio": float})
    return found.set_index(["name", "size", "style"]).sort_index(level="size", sort_remaining=False)


def check(run: Run) -> None:
    """Print whether every cell was timed."""
    print("cells:", len(run.table), "- all timed:", bool((run.table["seconds low"] > 0).all()))


if __name__ == "__main__":
    print(json.dumps(peaks(Project(sys.argv[1]))))
