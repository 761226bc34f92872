"""Verdicts on the paper's claims: rows of results first, sentences made of them after.

A chapter states a rule in code, applies it, and writes a row per statement to
results/claims/<chapter>.json, which DVC shows as metrics (`dvc metrics diff`). Chapter 14 and
README's table are made of these rows alone.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from metastyle.config import InputError, Project, Section
from metastyle.evaluation.statistics import Interval, number
from metastyle.files import replacing

Verdict = Literal["reproduced", "partly", "not reproduced", "undecided", "not judged", "measured"]


class Row(Section):
    """One statement of a chapter.

    claim: C1 to C9, or another short name where the statement belongs to none.
    quantity: what was measured, with its unit, as a phrase: "loss after 63 updates over before".
    rule: what makes the verdict, a sentence; empty where nothing is judged (`measured`).
    paper: what the paper prints or says; ours: value, low and high of the 95 % interval where
    there is one. machine: whether the numbers belong to the machine that measured them.
    note: a qualification that the verdict must not be read without.
    """

    claim: str
    quantity: str
    rule: str = ""
    paper: float | str | None = None
    ours: float | str | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict = "measured"
    machine: bool = False
    note: str = ""

    def value(self) -> str:
        """What was found here, with its interval: "0.31 [0.23, 0.37]"."""
        if not isinstance(self.ours, float | int):
            return str(self.ours if self.ours is not None else "")
        if self.low is None:
            return number(self.ours)
        return str(Interval(self.ours, self.low, self.high))


def row(claim: str, quantity: str, found: Interval | float | str | None, **rest: object) -> Row:
    """A row from an interval, a number or a word."""
    if isinstance(found, Interval):
        found, low, high = (float(f"{x:.4g}") for x in found)
        rest |= {"low": low, "high": high}
    elif isinstance(found, float):
        found = float(f"{found:.4g}")
    return Row(claim=claim, quantity=quantity, ours=found, **rest)


def graded(good: int, of: int) -> Verdict:
    """The verdict of a rule that asks for several things of which so many hold."""
    return "reproduced" if good == of else "partly" if good else "not reproduced"


def write(project: Project, chapter: str, rows: Sequence[Row]) -> list[Row]:
    """Write a chapter's rows to claims/<chapter>.json below the project's outputs; return them."""
    described = [r.model_dump(exclude_defaults=True) for r in rows]
    keys = _keys(rows)
    with replacing(project.outputs / "claims" / f"{chapter}.json") as temporary:
        text = json.dumps(dict(zip(keys, described, strict=True)), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n")
    return list(rows)


def read(folder: Path, chapter: str) -> list[Row]:
    """The rows that `write` wrote to a folder `claims`.

    Raises:
        InputError: the chapter has not been run.
    """
    file = folder / f"{chapter}.json"
    if not file.is_file():
        raise InputError(f"{file}: no such claims; run 'dvc repro {chapter}'")
    return [Row.model_validate(found) for found in json.loads(file.read_text()).values()]


def sentences(rows: Iterable[Row]) -> str:
    """Rows as Markdown, one paragraph each: the only place where results become prose."""
    return "\n\n".join(map(_sentence, rows))


def table(rows: Iterable[Row], links: dict[str, str] | None = None) -> str:
    """Rows as a Markdown table.

    Args:
        links: by claim, what is written in a last column.
    """
    lines = ["| claim | measured | paper | here [95 % interval] | verdict |" + " |" * bool(links)]
    lines.append("| --- | --- | --- | --- | --- |" + " --- |" * bool(links))
    for r in rows:
        paper = number(r.paper) if isinstance(r.paper, float | int) else (r.paper or "")
        verdict = r.verdict + (f": {r.note}" if r.note else "")
        cells = [r.claim, r.quantity, paper, r.value(), verdict]
        cells += [links.get(r.claim, "")] if links else []
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _sentence(r: Row) -> str:
    text = (
        f"**{r.claim}, {r.quantity}**: {r.value()}" if r.claim else f"**{r.quantity}**: {r.value()}"
    )
    if r.paper is not None:
        text += f" (paper: {number(r.paper) if isinstance(r.paper, float | int) else r.paper})"
    text += "."
    if r.rule:
        text += f" Rule: {r.rule} Verdict: **{r.verdict}**."
    return f"{text} {r.note}".rstrip()


def _keys(rows: Sequence[Row]) -> list[str]:
    keys = [f"{r.claim} {r.quantity}".strip() for r in rows]
    if len(set(keys)) < len(keys):
        raise ValueError(f"two rows of one claim and quantity among {keys}")
    return keys
