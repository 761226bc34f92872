"""The model card of a style-neutral network: what it was made from and what it is good for."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from metastyle.core.losses import Perceptual
from metastyle.meta.loader import Images, MetaTraining


def fingerprint(parameters: dict[str, Tensor]) -> str:
    """SHA-256 of names and values, in the order given: hexadecimal, 64 digits."""
    digest = hashlib.sha256()
    for name, tensor in parameters.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def order(settings: MetaTraining) -> str:
    """In words, e.g. "second for 3,200 iterations, then first"."""
    exact = settings.exact_iterations
    return settings.order + (f" for {exact:,} iterations, then first" if exact is not None else "")


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
    machine: str,
    note: str = "",
) -> str:
    """The card, in Markdown.

    Args:
        parameters: of the network, by name.
        log: columns of `meta.train.COLUMNS`.
        sources: see `licences`.
        hours, machine: what the training took, and where.
        note: what else a reader must know of this run.
    """
    s = settings
    photos = [*images.inner, *images.outer]
    last = log.tail(max(1, s.average_last))
    count = sum(p.numel() for p in parameters.values())
    batch = f"{s.contents_per_batch} + {s.contents_per_batch}"
    finish = f", the last {s.last_iterations:,} at {s.last_size} px" if s.last_iterations else ""
    rows = {
        "network": f"image transformation network, {count:,} parameters, "
        f"SHA-256 `{fingerprint(parameters)[:16]}`",
        "trained by": f"Algorithm 1 of the paper, order {order(s)}, T = {s.inner_steps}, "
        f"inner parameters {s.inner_parameters}, δ = {s.inner_learning_rate:g}",
        "steps": f"{len(log):,} outer iterations of {s.styles_per_iteration} style(s) with {batch} "
        f"photos, {s.size} px{finish}",
        "time": f"{hours:.1f} h on {machine}",
        "loss": f"variant {perceptual.variant}, style weight {perceptual.style_weight:g}; median "
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


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counter.most_common())
