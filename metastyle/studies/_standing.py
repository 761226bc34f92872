"""The rule for claim C5: how a method's images stand to another's, and what follows."""

from collections.abc import Collection, Mapping, Sequence

from metastyle.evaluation import claims
from metastyle.evaluation.statistics import Interval

PEERS = ["gatys", "johnson"]
JUDGED = ["sliced", "cfsd", "ssim"]  # of style, of structure, and of structure without VGG
INDEPENDENT = ["alexnet", "lpips"]  # of style and of content, by a network that no method uses
RULE = (
    "Seen from MetaStyle a method is near if in all three measures (sliced, cfsd, ssim) the 95 % "
    "interval of the difference lies within the share `comparison.near` of the distance between "
    "the anchors; else it is below if worse in one measure (0 is outside the interval) and better "
    "in none, above if the reverse; better in one and worse in another is another trade-off. A "
    "method that was trained below its floor, or on less than the share `comparison.trained` of "
    "the published pixels, is not judged."
)
BESIDE = (
    "C5's rule with two other measures, `alexnet` of style and `lpips` of content: beside the "
    "verdict, whose rule is older."
)
PARTS = {
    "near": ("quality near Gatys and Johnson", "Reproduced if both are near or below."),
    "above": ("quality above the others", "Reproduced if all that are judged are below."),
}


def gain(measure: str, difference: Interval) -> tuple[float, float]:
    """Bounds of how much better the first of two methods is: of SSIM more is, else less."""
    d = difference
    return (d.low, d.high) if measure == "ssim" else (-d.high, -d.low)


def standing(
    differences: Mapping[str, Interval],
    anchors: Mapping[str, float],
    near: float,
    judged: Sequence[str] = JUDGED,
) -> str:
    """How a method stands to another, here to MetaStyle, in the measures `judged`.

    Args:
        differences: of each measure, method minus the other.
        anchors: of each measure, how far the untouched photo and the painting are apart.
        near: share of that distance.

    Returns:
        "near", "above", "below" or "another trade-off", see `RULE`; "undecided": neither better
        nor worse in any.
    """
    gains = {k: gain(k, differences[k]) for k in judged}
    margins = {k: near * anchors[k] for k in judged}
    if all(-margins[k] <= low and high <= margins[k] for k, (low, high) in gains.items()):
        return "near"
    better = any(low > 0 for low, _ in gains.values())
    worse = any(high < 0 for _, high in gains.values())
    if better and worse:
        return "another trade-off"
    return "above" if better else "below" if worse else "undecided"


def claim(standings: Mapping[str, str]) -> dict[str, claims.Verdict]:
    """C5, that MetaStyle's quality is near its peers' and above all the others'.

    Args:
        standings: of the methods that may be judged, by `standing`, seen from MetaStyle.

    Returns:
        Verdicts on the parts "near" (its `PEERS`, or above them) and "above" (the others),
        undecided where no standing speaks against it and one is undecided, not judged where there
        is none; and on "both".
    """
    peers = {k: stands for k, stands in standings.items() if k in PEERS}
    others = [standings[k] for k in standings.keys() - peers.keys()]
    found = {"near": _all(peers.values(), {"near", "below"}), "above": _all(others, {"below"})}
    good = [*found.values()].count("reproduced")
    unclear = [v for v in ("not judged", "undecided") if v in found.values()]
    whole = "reproduced" if good == 2 else "partly" if good else [*unclear, "not reproduced"][0]
    return {**found, "both": whole}


def _all(standings: Collection[str], good: Collection[str]) -> claims.Verdict:
    if not standings:
        return "not judged"
    against = {s for s in standings if s not in good}
    if against - {"undecided"}:
        return "not reproduced"
    return "undecided" if against else "reproduced"
