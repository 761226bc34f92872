"""Chapter 14: the paper's claims one by one, and how large the run is beside the paper's.

`python -m metastyle.studies.claims` tells whether README has the table of results/claims, and
with `--write` puts it there.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from IPython.display import Markdown

from metastyle.adaptation.adapt import Adaptation
from metastyle.config import InputError, Project, load
from metastyle.core import splits
from metastyle.core.code import ROOT
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import number
from metastyle.files import replacing, write_table
from metastyle.meta.loader import MetaTraining, Phase, crops_seen
from metastyle.studies.model_card import phases

PHOTOS, PAINTINGS = 80_000, 20_000  # of the paper, about: MS-COCO, and WikiArt's test split
NO_METHOD = {"meta_train.snapshots", "meta_train.checkpoint_minutes"}  # not of the method
WAITS = "waits for its run"
MACHINE = "†"
FOOTNOTE = f"{MACHINE} Measured on the reference machine; what yours measures is in the chapter."
BEGIN, END = "<!-- claims -->", "<!-- /claims -->"


class Claim(NamedTuple):
    """What the paper claims, in our words; the chapter that judges it, by its file of claims."""

    words: str
    chapter: str


CLAIMS = {
    "C1": Claim("as small as Johnson's network (Table 1)", "table1"),
    "C2": Claim(
        "stylises at Johnson's speed, faster than AdaIN, and orders of magnitude faster than four "
        "other methods (Table 1)",
        "table1",
    ),
    "C3": Claim("100 to 200 updates are enough, and cost less than one optimised image", "adapt"),
    "C4": Claim("at as many updates far below Johnson's loss from scratch (figure 6)", "starts"),
    "C5": Claim("quality near Gatys and Johnson, above the others (figure 4)", "comparison"),
    "C6": Claim("blends of networks interpolate styles smoothly (figure 5a)", "interpolation"),
    "C7": Claim("the style-neutral rendering is the better start for pixels (figure 7)", "pixels"),
    "C8": Claim("a clip stylised frame by frame does not flicker (figure 5b)", "video"),
    "C9": Claim("the bilevel formulation is what makes the difference", "ablations"),
}
NOTEBOOKS = {  # by file of claims
    "table1": "06_table1", "adapt": "03_adapt_chapter", "starts": "07_starts_chapter",
    "comparison": "05_comparison", "interpolation": "09_interpolation", "pixels": "08_pixels",
    "video": "10_video", "ablations": "11_ablations_chapter",
    "meta_train": "02_meta_train_chapter", "gallery": "04_gallery", "baselines": "12_baselines",
}  # fmt: skip

Found = dict[str, list[claims.Row]]  # by chapter, C1's first; what has not been run is left out


def collect(project: Project) -> Found:
    """The rows of all chapters that have been run."""
    folder = project.inputs / "claims"
    there = [chapter for chapter in NOTEBOOKS if (folder / f"{chapter}.json").is_file()]
    return {chapter: claims.read(folder, chapter) for chapter in there}


def run(project: Project) -> Found:
    """`collect`, and write every row to results/claims.csv."""
    found = collect(project)
    rows = [{"chapter": name, **row.model_dump()} for name in found for row in found[name]]
    table = pd.DataFrame(rows, columns=["chapter", *claims.Row.model_fields])
    table = table.sort_values("claim", key=_ranks, kind="stable")
    write_table(project.outputs / "claims.csv", table)
    return found


def _ranks(names: pd.Series) -> pd.Series:
    order = {claim: rank for rank, claim in enumerate(CLAIMS)}
    return names.map(order).fillna(len(order))


def deciding(found: Found, claim: str) -> claims.Row:
    """The row that stands for a claim: the first that a rule judges."""
    rows = [r for rows in found.values() for r in rows if r.claim == claim and r.rule]
    rows.sort(key=lambda row: row.verdict == "not judged")
    waits = claims.Row(claim=claim, quantity="", ours=WAITS, verdict="not judged")
    return rows[0] if rows else waits


def table(found: Found, rendered: str = "") -> str:
    """C1 to C9 as a Markdown table, a row each.

    Args:
        rendered: what leads to the folder of the rendered notebooks.
    """
    rows, links = [], {}
    for claim, (words, chapter) in CLAIMS.items():
        rows.append(_marked(deciding(found, claim)).changed(claim=f"{claim} {words}"))
        links[rows[-1].claim] = _link(chapter, rendered)
    return claims.table(rows, links)


def verdicts(found: Found) -> Markdown:
    """`table` for the notebook."""
    return Markdown(table(found))


def everything(found: Found) -> Markdown:
    """All rows by chapter: sentences of what a rule judges, a table of what is measured."""
    parts = []
    for chapter in NOTEBOOKS:
        rows = [_marked(row) for row in found.get(chapter, [])]
        judged, measured = [r for r in rows if r.rule], [r for r in rows if not r.rule]
        parts += [f"### {_link(chapter)}", claims.sentences(judged)]
        parts += [claims.table(measured)] if measured else []
        parts += [] if rows else [f"This chapter {WAITS}."]
    return Markdown("\n\n".join(filter(None, parts)))


def _marked(row: claims.Row) -> claims.Row:
    return row.changed(quantity=f"{row.quantity} {MACHINE}") if row.machine else row


def _link(chapter: str, rendered: str = "") -> str:
    notebook = NOTEBOOKS[chapter]
    name = notebook[3:].removesuffix("_chapter").replace("_", " ")
    return f"[{int(notebook[:2])} {name}]({rendered}{notebook}.ipynb)"


def scope(project: Project) -> pd.DataFrame:
    """How large the run is beside the paper's: images from the table of splits, and what the
    settings multiply to. The paper's are those of params/paper.yaml; iterations here are those
    of the run's log."""
    here, paper = load(project), _paper(project)
    images = splits.listed(project).groupby(["side", "split"])["artist"].agg(["size", "nunique"])
    number_of, artists = images["size"], images["nunique"]["artwork"]
    log = pd.read_csv(project.inputs / "meta_train" / "log.csv")
    meta = MetaTraining.read(project, "meta_train").first(len(log))
    theirs = MetaTraining(**here["meta_train"] | paper["meta_train"])
    table = pd.DataFrame({
        "paper": _amounts(theirs, Adaptation(**here["adapt"] | paper["adapt"])),
        "here": _amounts(meta, Adaptation.read(project, "adapt")),
    })  # fmt: skip
    table["paper / here"] = table["paper"] / table["here"]
    photos = number_of["photo"]
    counts = {
        "photos trained on": (PHOTOS, photos["inner"] + photos["outer"]),
        "paintings trained on": (PAINTINGS, number_of["artwork", "train"]),
        "by so many artists": (None, artists["train"]),
        "photos held out": (None, photos["held_out"]),
        "paintings held out": (None, number_of["artwork", "held_out"]),
        "by so many artists, held out": (None, artists["held_out"]),
    }
    first = pd.DataFrame.from_dict(counts, orient="index", columns=["paper", "here"])
    first["paper / here"] = first["paper"] / first["here"]
    return pd.concat([first, table]).map(lambda x: "" if pd.isna(x) else number(x))


def _amounts(meta: MetaTraining, adapt: Adaptation) -> dict[str, int]:
    """What sections `meta_train` and `adapt` multiply to."""
    bilevel = [phase for phase in meta.phases if phase.inner_steps]
    crops, pixels = crops_seen(meta)
    sizes, updates = adapt.sizes, adapt.updates
    sides = [sizes[update * len(sizes) // updates] for update in range(updates)]
    return {
        "iterations of meta-training": meta.iterations,
        "of them with an inner step": sum(phase.iterations for phase in bilevel),
        "of those with the exact meta-gradient": sum(
            phase.iterations for phase in bilevel if phase.order == "second"
        ),
        "paintings per iteration": meta.styles_per_iteration,
        "crops of photos in all": crops,
        "pixels of these crops": pixels,
        "updates of an adaptation": updates,
        "crops of photos in it": updates * adapt.contents_per_batch,
        "pixels of those crops": sum(side**2 for side in sides) * adapt.contents_per_batch,
    }


def departures(project: Project) -> pd.DataFrame:
    """Settings of the loss, of meta-training and of adaptation that differ from the paper's."""
    here, paper = load(project), _paper(project)
    found = [
        (name, value, ours)
        for section in ("perceptual", "meta_train", "adapt")
        for name, value, ours in _settings(paper[section], here[section], section)
        if value != ours and name not in NO_METHOD
    ]
    table = pd.DataFrame(found, columns=["setting", "paper", "here"], dtype=object)
    return table.set_index("setting").map(_told)


def _told(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(phases([Phase(**phase) for phase in value]))
    return "none" if value is None else str(value)


def _settings(paper: dict, here: dict, name: str) -> Iterator[tuple[str, Any, Any]]:
    for key, value in paper.items():
        if isinstance(value, dict):
            yield from _settings(value, here.get(key, {}), f"{name}.{key}")
        else:
            yield f"{name}.{key}", value, here.get(key)


def _paper(project: Project) -> dict[str, Any]:
    # Its own values alone: `load` refuses to lay them over a params.yaml of another size.
    return yaml.safe_load((project.root / "params" / "paper.yaml").read_text())


def check(found: Found) -> None:
    """Print how many claims there are, and whether every verdict has a rule."""
    rows = [row for of_chapter in found.values() for row in of_chapter]
    print("claims:", len([deciding(found, claim) for claim in CLAIMS]))
    print("verdicts without a rule:", sum(r.verdict != "measured" and not r.rule for r in rows))


def with_table(text: str, new: str) -> str:
    """A text whose table of claims, between two comments, is another.

    Raises:
        InputError: the comments are not there.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"README.md: needs the lines {BEGIN} and {END} around its table of claims")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    return f"{head}{BEGIN}\n{new}\n\n{FOOTNOTE}\n{END}{tail}"


def is_current(text: str, new: str) -> bool:
    """Whether a text has this table, but for what another machine may have measured."""
    return [*map(_comparable, text.split("\n"))] == [
        *map(_comparable, with_table(text, new).split("\n"))
    ]


def _comparable(line: str) -> list[str]:
    cells = line.split(" | ")
    of_a_machine = len(cells) > 1 and cells[1].endswith(MACHINE)
    return cells[:3] + cells[5:] if of_a_machine else cells


def main(root: Path = ROOT) -> None:
    parser = argparse.ArgumentParser(description="README's table of claims.")
    parser.add_argument("--write", action="store_true", help="write it; else tell if it is current")
    write, file = parser.parse_args().write, root / "README.md"
    try:
        new = table(collect(Project(root / "params.yaml")), "rendered/")
        text = file.read_text()
        if write:
            with replacing(file) as temporary:
                temporary.write_text(with_table(text, new))
        elif not is_current(text, new):
            raise InputError(
                "README.md: its table is not that of results/claims; "
                "run 'python -m metastyle.studies.claims --write'"
            )
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
