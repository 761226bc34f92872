"""Chapter 13: variants of computing one meta-gradient, and what each costs; run by `make bench`.

Memory is measured in a process of its own: `python -m metastyle.studies.speed exact reference
params.yaml` prints it as JSON.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from metastyle.config import CropSide, Project, Section
from metastyle.core import crops
from metastyle.core.checkpoint import load_network
from metastyle.core.gradients import Parameters, in_this_thread
from metastyle.core.network import new_network
from metastyle.evaluation import operations
from metastyle.evaluation.machine import has_bfloat16
from metastyle.evaluation.statistics import number
from metastyle.evaluation.timing import summary, time_in_turns
from metastyle.files import write_json
from metastyle.studies import _variants
from metastyle.studies._variants import Prepared, Step, cosine, distance


class Scale(Section):
    """How much one meta-gradient has to do, and how many turns measure it."""

    name: str
    size: CropSide
    styles_per_iteration: PositiveInt
    contents_per_batch: PositiveInt
    repeats: PositiveInt

    def __str__(self) -> str:
        contents = self.contents_per_batch
        return f"{self.size} px, {self.styles_per_iteration} x ({contents} + {contents})"


class Goals(Section):
    """What was asked of the variants before they were written: times faster than the plain one,
    and the exact one's memory as a share of the plain one's."""

    exact: PositiveFloat
    fast: PositiveFloat
    memory: PositiveFloat


class Speed(Section):
    """Section `speed`.

    ceiling_seconds: for each of four measurements of the machine. input_iterations: whose crops
    are timed.
    """

    scales: Annotated[list[Scale], Field(min_length=1)]
    goals: Goals
    ceiling_seconds: NonNegativeFloat
    input_iterations: PositiveInt


KINDS = ("float32", "bfloat16")
OF_PLAIN = {"of plain's peak": "peak, GiB", "of plain's own": "the step's own, GiB"}
# Operations by what they do; what is not listed counts as element-wise work and copies.
GROUPS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::mkldnn_convolution_backward",
                     "aten::_convolution", "aten::convolution_backward",
                     "aten::_slow_conv2d_forward"),
    "Gram matrices": ("aten::bmm", "aten::mm"),
    "instance norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
    "pooling": ("aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices_backward",
                "aten::gather"),
    "borders": ("aten::reflection_pad2d", "aten::reflection_pad2d_backward",
                "aten::replication_pad2d", "aten::replication_pad2d_backward"),
}  # fmt: skip


def prepare(project: Project, scale: Scale) -> Prepared:
    """The variants at a scale, see `_variants.prepare`."""
    decides = {"size", "styles_per_iteration", "contents_per_batch"}
    return _variants.prepare(project, **scale.model_dump(include=decides))


def _theta() -> Parameters:
    return dict(new_network(0).named_parameters())


def _in_turns(steps: Mapping[str, Step], theta: Parameters, repeats: int) -> pd.DataFrame:
    return time_in_turns({k: partial(step, theta) for k, step in steps.items()}, repeats=repeats)


def ceilings(project: Project) -> dict[str, float]:
    """GFLOP/s that this machine reaches, see `operations.ceilings`."""
    return operations.ceilings(Speed.read(project, "speed").ceiling_seconds)


def variants(project: Project, ceilings: Mapping[str, float]) -> pd.DataFrame:
    """The variants in turns at every scale, one row each by scale and variant: seconds, how many
    times faster than plain in the same turn (median and quartiles), operations and memory."""
    theta, scales = _theta(), Speed.read(project, "speed").scales
    # All times first, so that no counting warms the machine for some.
    times = [_in_turns(prepare(project, s).variants, theta, s.repeats) for s in scales]
    rows = []
    for scale, turns in zip(scales, times, strict=True):
        steps = prepare(project, scale).variants
        for name, step in tqdm(steps.items(), desc=f"counting at scale {scale.name}"):
            gflop, used = operations.operations(partial(step, theta)), memory(name, scale, project)
            faster, seconds = summary(turns["plain"] / turns[name]), turns[name].median()
            shares = {kind: gflop / seconds / operations.ceiling(ceilings, kind) for kind in KINDS}
            row = {"scale": str(scale), "variant": name, "turns": len(turns), "seconds": seconds}
            row |= {"times faster": faster.median, "low": faster.low, "high": faster.high}
            row |= {"GFLOP": gflop, "of float32's ceiling": shares["float32"]}
            row["of bfloat16's"] = shares["bfloat16"] if name == "fast" else None
            row |= {"peak, GiB": used["peak"], "the step's own, GiB": used["peak"] - used["before"]}
            rows.append(row)
    table = pd.DataFrame(rows).set_index(["scale", "variant"])
    for share, column in OF_PLAIN.items():
        table[share] = table[column] / table.groupby("scale")[column].transform("first")
    return table.astype({"of bfloat16's": float})


def memory(variant: str, scale: Scale, project: Project) -> dict[str, float]:
    """Memory in GiB of a process that does one step of a variant (or ablation): `before` it, and
    the `peak`."""
    arguments = variant, scale.name, str(project.params)
    return operations.in_child("metastyle.studies.speed", *arguments)


def goals(project: Project, variants: pd.DataFrame) -> pd.DataFrame:
    """The variants' medians against `speed.goals`."""
    asked, rows = Speed.read(project, "speed").goals, []
    for (scale, name), row in variants.iterrows():
        if name in ("exact", "fast"):
            found, goal = row["times faster"], getattr(asked, name)
            rows.append((scale, name, "times faster", found, goal, found >= goal))
        for share in OF_PLAIN if name == "exact" else ():
            found, goal = row[share], asked.memory
            rows.append((scale, name, share, found, goal, found <= goal))
    return pd.DataFrame(rows, columns=["scale", "variant", "measure", "here", "goal", "reached"])


def ablations(project: Project) -> pd.DataFrame:
    """The ablations in turns with the plain and the exact variant, at the first scale.

    error over the second order: distance to the plain gradient over that of the first-order one.
    """
    theta, scale = _theta(), Speed.read(project, "speed").scales[0]
    variants, others, _ = prepare(project, scale)
    steps = {"plain": variants["plain"], **others, "exact": variants["exact"]}
    turns = _in_turns(steps, theta, scale.repeats)
    plain, rows = variants["plain"](theta), {}
    second = distance(variants["first order"](theta), plain)
    for name, step in steps.items():
        faster = summary(turns["plain"] / turns[name])
        rows[name] = {
            "times faster": faster.median,
            "low": faster.low,
            "high": faster.high,
            "error over the second order": distance(step(theta), plain) / second,
            "peak, GiB": memory(name, scale, project)["peak"],
        }
    return pd.DataFrame(rows).T.rename_axis("ablation")


def along(project: Project) -> pd.DataFrame:
    """Distance of each variant's gradient from the plain one, by 1 - cosine and relative to the
    plain one's norm, at the networks of the reference run."""
    steps, rows = prepare(project, Speed.read(project, "speed").scales[0]).variants, []
    for file in sorted((project.inputs / "meta_train" / "snapshots").glob("*.safetensors")):
        at = dict(load_network(file).named_parameters())
        plain, row = steps["plain"](at), {"iteration": int(file.stem)}
        norm = distance(plain, {name: torch.zeros_like(g) for name, g in plain.items()})
        for name in [name for name in steps if name != "plain"]:
            gradient = steps[name](at)
            row[f"{name}: 1 - cosine"] = 1 - cosine(gradient, plain)
            row[f"{name}: distance"] = distance(gradient, plain) / norm
        rows.append(row)
    return pd.DataFrame(rows).set_index("iteration")


def check(along: pd.DataFrame) -> None:
    """Print whether the exact variant computes the plain one's gradient."""
    same = bool((along["exact: 1 - cosine"] < 1e-4).all())
    print("cosine of the exact variant at least 0.9999:", same)


def profiles(project: Project) -> pd.DataFrame:
    """`shares` of each variant at the first scale."""
    steps, theta = prepare(project, Speed.read(project, "speed").scales[0]).variants, _theta()
    found = {name: shares(partial(step, theta)) for name, step in steps.items()}
    return pd.DataFrame(found).rename_axis("operations")


def shares(step: Callable[[], object]) -> dict[str, float]:
    """Share of a step's time by group of operations, on one core."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with in_this_thread():
        step()
        with profile(activities=[ProfilerActivity.CPU]) as run:
            step()
    torch.set_num_threads(threads)
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    rest = "element-wise work and copies"
    spent = dict.fromkeys([*GROUPS, rest], 0.0)
    for event in run.key_averages():
        spent[group_of.get(event.key, rest)] += event.self_cpu_time_total
    return {group: time / sum(spent.values()) for group, time in spent.items()}


def waits(project: Project, variants: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds that an iteration's crops take, and their share of a whole iteration."""
    settings, rows = Speed.read(project, "speed"), {}
    for scale in settings.scales:
        draw, steps = prepare(project, scale).draw, variants.loc[str(scale), "seconds"]
        for images, seconds in input_seconds(draw, settings.input_iterations).items():
            rows[str(scale), images] = {"input, ms": 1000 * seconds, **seconds / (seconds + steps)}
    return pd.DataFrame(rows).T.rename_axis(["scale", "images"])


def input_seconds(draw: Callable[[int], list], iterations: int) -> dict[str, float]:
    """Median time of an iteration's crops: of images decoded before, as where a collection fits
    into memory (`crops.decoded`), and of images that have to be decoded, as where it is large."""

    def anew(iteration: int) -> None:
        crops.forget_decoded()
        draw(iteration)

    def seconds(call: Callable[[int], object]) -> float:
        each = iter(range(iterations + 1))
        turns = time_in_turns({"draw": lambda: call(next(each))}, repeats=iterations)
        return turns["draw"].median()

    for iteration in range(iterations + 1):
        draw(iteration)
    return {"decoded before": seconds(draw), "decoded anew": seconds(anew)}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers to three digits, the longer side downwards."""
    rounded = table.map(lambda x: "" if pd.isna(x) else number(x) if isinstance(x, float) else x)
    return rounded.T if rounded.shape[1] > rounded.shape[0] else rounded


def write(project: Project, ceilings: Mapping[str, float], **tables: pd.DataFrame) -> None:
    """Write all that was measured to speed/benchmark.json below the project's outputs."""
    found = {"ceilings, GFLOP/s": ceilings, "bfloat16 instructions": has_bfloat16()}
    found |= {name: table.reset_index().to_dict("records") for name, table in tables.items()}
    write_json(project.outputs / "speed" / "benchmark.json", found)


def main(variant: str, scale: str, params: str) -> None:
    project = Project(params)
    scales = {found.name: found for found in Speed.read(project, "speed").scales}
    variants, ablations, _ = prepare(project, scales[scale])
    theta, before = _theta(), operations.held("VmRSS")
    (variants | ablations)[variant](theta)
    print(json.dumps({"before": before, "peak": operations.held("VmHWM")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
