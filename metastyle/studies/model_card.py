"""The model card of a style-neutral network: what it was made from and what it is good for."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from metastyle.core.losses import Perceptual
from metastyle.meta.loader import Images, MetaTraining, Phase


def fingerprint(parameters: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, in the order given: hexadecimal, 64 digits."""
    digest = hashlib.sha256()
    for name, tensor in parameters.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def phases(of: Sequence[Phase]) -> list[str]:
    """In words, e.g. "iterations 1 to 8,000: joint (no inner step), 128 px"."""
    told, done = [], 0
    for phase in of:
        first, done = done + 1, done + phase.iterations
        way = "joint (no inner step)"
        if phase.inner_steps:
            way = f"T = {phase.inner_steps}, δ = {phase.inner_learning_rate:g}, {phase.order} order"
        if phase.inner_steps and phase.inner_warmup:
            way += f", δ rising over {phase.inner_warmup:,} iterations"
        if phase.inner_steps and phase.inner_clip:
            way += f", inner gradients of at most {phase.inner_clip:g}"
        told.append(f"iterations {first:,} to {done:,}: {way}, {phase.size} px")
    return told


def licences(files: Sequence[Path], sources: pd.DataFrame) -> Counter[str]:
    """How many of the files come under which class of licence.

    Args:
        sources: columns `file` (ends a listed file's path) and `licence_class`.
    """
    known = {Path(row.file).name: row.licence_class for row in sources.itertuples()}
    return Counter(known.get(file.name, "not in the list of sources") for file in files)


def markdown(
    parameters: dict[str, Tensor],
    log: pd.DataFrame,
    settings: MetaTraining,
    perceptual: Perceptual,
    images: Images,
    sources: pd.DataFrame,
    *,
    hours: float,
    machines: Sequence[Mapping[str, Any]],
    note: str = "",
) -> str:
    """The card, in Markdown.

    Args:
        parameters: of the network, by name.
        log: columns of `meta.train.COLUMNS`.
        sources: see `licences`.
        hours, machines: what the training took, and where, see `State.made_on`.
        note: what else a reader must know of this run.
    """
    s = settings
    photos = [*images.inner, *images.outer]
    last = log.tail(max(1, s.average_last))
    count = sum(p.numel() for p in parameters.values())
    batch = f"{s.contents_per_batch} + {s.contents_per_batch}"  # support and query
    rows = {
        "network": f"image transformation network, {count:,} parameters, "
        f"SHA-256 `{fingerprint(parameters)[:16]}`",
        "trained by": f"Algorithm 1 of the paper, from {s.start or 'a random start'}, "
        f"inner parameters {s.inner_parameters}; {'; '.join(phases(s.phases))}",
        "steps": f"{len(log):,} outer iterations of {s.styles_per_iteration} style(s) with {batch} "
        "photos",
        "time": f"{hours:.1f} h; {'; '.join(map(_piece, machines))}",
        "loss": f"torchvision's VGG-16, variant {perceptual.variant}, style weight "
        f"{perceptual.style_weight:g}, range penalty {perceptual.range_weight:g}, spike penalty "
        f"{perceptual.spike_weight:g}; median "
        f"outer loss over the last {len(last)} iterations {last['loss'].median():.1f}",
        "photos": f"{len(photos)}: {_counts(licences(photos, sources))}",
        "artworks": f"{len(images.artworks)}: {_counts(licences(images.artworks, sources))}",
        "made for": "being adapted to one style; its own renderings are a mixture of all styles",
        "limits": "few photos and artworks, so that subjects and styles far from them adapt less "
        "well; small crops, which show large strokes in part; training and evaluation rest on "
        "one VGG-16",
    }
    if note:
        rows["note"] = note
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {k} | {v} |" for k, v in rows.items())


def _piece(machine: Mapping[str, Any]) -> str:
    m = machine
    by = m["processor"] if m["accelerator"] == "none" else m["accelerator"]
    processes = f" in {m['processes']} processes" if m["processes"] > 1 else ""
    told = f"{m['precision']}, PyTorch {m['torch']}"
    return f"iterations {m['first']:,} to {m['last']:,} on {by}{processes} ({told})"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counter.most_common())
