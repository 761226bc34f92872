"""Claim C5 as a rule: is a method near two others, and above the rest?"""

from collections.abc import Collection, Mapping

from pydantic import PositiveFloat

from metastyle.intervals import Interval
from metastyle.params import Section

JUDGED = ("sliced", "cfsd", "ssim")  # of style, of structure, and of structure without VGG


class Verdict(Section):
    """Section `verdict`.

    near: differences up to so much of the distance between the anchors count as near.
    """

    near: PositiveFloat


def gain(measure: str, difference: Interval) -> tuple[float, float]:
    """Bounds of how much better the first of two methods is: of SSIM more is, else less."""
    d = difference
    return (d.low, d.high) if measure == "ssim" else (-d.high, -d.low)


def standing(
    differences: Mapping[str, Interval], anchors: Mapping[str, float], settings: Verdict
) -> str:
    """How a method stands to another, here to MetaStyle, in the measures of `JUDGED`.

    Args:
        differences: of each measure, method minus the other.
        anchors: of each measure, how far the untouched photo and the painting are apart.

    Returns:
        "near": all intervals lie within `settings.near` of the anchors' distance.
        "above": else, better in a measure (0 is outside the interval), worse in none; "below":
        worse in one, better in none; "another trade-off": better in one, worse in another;
        "undecided": neither better nor worse in any.
    """
    gains = {k: gain(k, differences[k]) for k in JUDGED}
    margins = {k: settings.near * anchors[k] for k in JUDGED}
    if all(-margins[k] <= low and high <= margins[k] for k, (low, high) in gains.items()):
        return "near"
    better = any(low > 0 for low, _ in gains.values())
    worse = any(high < 0 for _, high in gains.values())
    if better and worse:
        return "another trade-off"
    return "above" if better else "below" if worse else "undecided"


def claim(standings: Mapping[str, str], peers: Collection[str]) -> dict[str, str]:
    """C5, that MetaStyle's quality is near its peers' and above all the others'.

    Args:
        standings: of the methods that may be judged, by `standing`, seen from MetaStyle.
        peers: Gatys and Johnson.

    Returns:
        "near" its peers (or above them) and "above" the others: "yes", "no", or "undecided",
        where no standing speaks against it and one is undecided, or there is none; "verdict":
        in words.
    """
    others = standings.keys() - set(peers)
    found = {
        "near": _all([standings[k] for k in standings if k in peers], {"near", "below"}),
        "above": _all([standings[k] for k in others], {"below"}),
    }
    parts = list(found.values())
    words = {2: "reproduced", 1: "reproduced in part"}
    verdict = words.get(
        parts.count("yes"), "undecided" if "undecided" in parts else "not reproduced"
    )
    return {**found, "verdict": verdict}


def _all(standings: list[str], good: Collection[str]) -> str:
    against = {s for s in standings if s not in good}
    if against - {"undecided"}:
        return "no"
    return "yes" if standings and not against else "undecided"
