"""Chapter 6, Table 1: parameters and speed of every method beside the paper's (claims C1, C2)."""

from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from metastyle import plots
from metastyle.config import Project
from metastyle.evaluation import claims
from metastyle.evaluation.statistics import Interval
from metastyle.evaluation.timing import Timing
from metastyle.studies import table1
from metastyle.studies._published import CACHED, ENCODED, STYLES
from metastyle.studies.table1 import Run

COUNT_RULE = (
    "Reproduced if MetaStyle's network has as many parameters as Johnson's, and their number "
    "rounds to the one printed."
)
SPEED_RULE = (
    "Reproduced if each of the following statements on single methods is, partly if some are."
)
ALIKE_RULE = "Reproduced if the medians lie within a factor of {alike:g}."
FACTOR_RULE = (
    "Reproduced if at least {least:g} in every cell (an image size, style encoded or cached), "
    "quartile over opposite quartile; partly if in some; undecided if in none, but within the "
    "range of some."
)
SAME, OTHERWISE = "as in the paper", ("reversed", "undecided")
EIGEN = {"wct": 4, "avatarnet": 2}  # eigendecompositions of 512 x 512, content and style


def check_parameters(project: Project) -> None:
    """Print the parameters of every method's networks, counted from shapes, beside the paper's."""
    for name, method in table1.shapes(project).items():
        count, printed = method.parameters, method.printed.parameters
        if count is None:
            print(f"{name:10} {'N/A':>12}  paper: {printed}")
            continue
        other = f"  differs: rounds to {count / 1e6:.2f}M" * (not as_printed(count, printed))
        print(f"{name:10} {count:12,}  paper: {printed}{other}")


def as_printed(parameters: int, printed: str) -> bool:
    """Whether a count, in millions and rounded as the paper does, is what the paper prints."""
    return f"{parameters / 1e6:.2f}M" == printed


def shown(run: Run) -> pd.DataFrame:
    """`Run.table` for the eye: a column per method, rows by image size; median [quartiles].

    × marks a time extrapolated from `updates_timed`, ≠ a count other than the one printed.
    """
    columns = {}
    for _, rows in run.table.groupby(level="name", sort=False):
        one = rows.iloc[0]
        count, printed = one["parameters"], one["paper parameters"]
        number = "N/A" if pd.isna(count) else f"{count:,}" + " ≠" * (not as_printed(count, printed))
        column = {("", "parameters"): number, ("", "paper"): printed, ("", "styles"): one["styles"]}
        for (_, size, style), row in rows.iterrows():
            time, ratio, work = (*table1.timings(row), row["operation ratio"])
            found = {
                f"{style} (s)": f"{time}{' ×' * row['extrapolated']}",
                f"{style}, GMAC": f"{row['GMAC']:,.1f}",
                f"{style}, GFLOP/s (of ceiling)": f"{row['GFLOP/s']:.0f} ({row['share']:.0%})",
                f"{style}, time / Johnson": f"{ratio}",
                f"{style}, operations / Johnson": f"{work:,.2f}",
                f"{style}, operations a second / Johnson": f"{work / ratio.median:.2f}",
            }
            if not pd.isna(row["paper ratio"]):
                found[f"{style}, paper's time / operations"] = f"{row['paper ratio'] / work:.2f}"
                found["paper (s)"] = f"{row['paper seconds']:.4f}"
                found["paper, time / Johnson"] = f"{row['paper ratio']:,.2f}"
            column |= {(f"{size} px", key): value for key, value in found.items()}
        if "peak GiB" in rows:
            heading = f"{run.settings.memory_size} px", "peak memory (GiB)"
            column[heading] = f"{one['peak GiB']:.2f}"
        columns[one["method"]] = column
    return pd.DataFrame(columns)


def conditions(run: Run) -> pd.DataFrame:
    """What the table's numbers depend on, and what eigendecompositions take of the times."""
    s, repeats = run.settings, run.table["repeats"]
    found = {
        "repeats of a cell": f"{repeats.min()} to {repeats.max()}",
        "updates timed of an iterative method": f"{s.updates_timed} of {s.updates}",
        "ceiling before and after (GFLOP/s)": "{:.0f}, {:.0f}".format(*run.ceilings),
        "eigendecomposition of 512 x 512 (s)": f"{run.eigen:.2g}",
    }
    for name, count in EIGEN.items():
        share = count * run.eigen / run.table.at[(name, s.sizes[0], ENCODED), "seconds"]
        found[f"{count} of them, {name}, {s.sizes[0]} px, {ENCODED}"] = f"{share:.0%}"
    found |= {f"settings of {name}": changes for name, changes in s.published.items()}
    return pd.DataFrame({"": found})


def against_parameters(run: Run) -> Figure:
    """Time over Johnson's against parameters, style encoded, a panel per image size."""
    panels = {
        f"{size} px, {ENCODED}": {name: run.ratio(name, size, ENCODED) for name in run.methods}
        for size in run.settings.sizes
    }
    return plots.against_parameters(panels, {n: m.parameters for n, m in run.methods.items()})


def against_size(run: Run) -> Figure:
    """Seconds against image size, style cached."""
    return plots.timings(run.curve)


def order(faster: Timing, slower: Timing, alike: float) -> str:
    """How the times of a pair compare that the paper puts in this order; undecided unless the
    quartiles lie apart and the medians by more than the factor `alike`."""

    def below(a: Timing, b: Timing) -> bool:
        return a.high < b.low and alike * a.median < b.median

    if below(faster, slower):
        return SAME
    return OTHERWISE[0] if below(slower, faster) else OTHERWISE[1]


def pairs(run: Run) -> pd.DataFrame:
    """Every pair of methods that the paper puts in an order; in `paper` by which factor."""
    rows = []
    for size in run.settings.sizes:
        paper = {n: m.printed.seconds.get(size) for n, m in run.methods.items()}
        for style, a, b in product(STYLES, paper, paper):
            if paper[a] and paper[a] < paper[b]:
                here = order(
                    run.ratio(a, size, style), run.ratio(b, size, style), run.settings.alike
                )
                rows.append([size, style, a, b, round(paper[b] / paper[a], 2), here])
    return pd.DataFrame(rows, columns=["px", "time", "faster", "slower", "paper", "here"])


def exceptions(run: Run) -> pd.DataFrame:
    """The `pairs` that are not in the paper's order here."""
    return pairs(run)[lambda found: found["here"] != SAME]


def factors(run: Run) -> pd.DataFrame:
    """Times of other methods over MetaStyle's, with its style cached, against the least that the
    paper's words ask for. Both as ratios to Johnson's, so that drift cancels; `here` is an
    Interval of the ratio of medians, and of quartile over opposite quartile."""
    rows = []
    for (name, least), size, style in product(
        run.settings.claims.items(), run.settings.sizes, STYLES
    ):
        time = run.ratio(name, size, style).over(run.ratio("metastyle", size, CACHED))
        row = {"name": name, "px": size, "time": style, "at least": least}
        row |= {"here": Interval(*time[:3]), "verdict": at_least(time, least)}
        row["paper"] = _printed_ratio(run, name, "metastyle", size)
        row["operations"] = round(run.table.at[(name, size, style), "operation ratio"], 2)
        rows.append(row)
    return pd.DataFrame(rows)


def _printed_ratio(run: Run, name: str, other: str, size: int) -> float | None:
    times = [run.methods[n].printed.seconds.get(size) for n in (name, other)]
    return float(f"{times[0] / times[1]:.4g}") if all(times) else None


def at_least(ratio: Timing, least: float) -> str:
    """Whether a ratio of times is at least so large, the range of its quartiles considered."""
    if ratio.low >= least:
        return "holds"
    return "does not hold" if ratio.high < least else "undecided"


def judge(run: Run) -> list[claims.Row]:
    """C1 and C2 by the rules above; ranges are quartiles of the repeats."""
    single = [*_as_fast_as_johnson(run), *_faster_than_others(run)]
    judged = [row.verdict == "reproduced" for row in single if row.rule]
    good, of = sum(judged), len(judged)
    speed = claims.row(
        "C2", "statements on MetaStyle's speed that hold", f"{good} of {of}", rule=SPEED_RULE,
        verdict=claims.graded(good, of), machine=True,
    )  # fmt: skip
    return [*_counts(run), speed, *single, *_orders(run)]


def _counts(run: Run) -> list[claims.Row]:
    counted = {name: m for name, m in run.methods.items() if m.parameters is not None}
    other = [m for m in counted.values() if not as_printed(m.parameters, m.printed.parameters)]
    note = " ".join(f"{m.label}: {m.parameters:,}, printed {m.printed.parameters}." for m in other)
    ours, found = counted["metastyle"], f"{len(counted) - len(other)} of {len(counted)}"
    good = ours.parameters == counted["johnson"].parameters and ours not in other
    return [
        claims.row("C1", "parameters of MetaStyle's network", ours.parameters, rule=COUNT_RULE,
                   paper=ours.printed.parameters, verdict=claims.graded(good, 1)),
        claims.row("C1", "methods whose number of parameters rounds to the one printed", found,
                   note=note),
    ]  # fmt: skip


def _as_fast_as_johnson(run: Run) -> list[claims.Row]:
    rows, alike = [], run.settings.alike
    for size in run.settings.sizes:
        ratio = run.ratio("metastyle", size, CACHED)
        good = max(ratio.median, 1 / ratio.median) <= alike
        rows.append(claims.row(
            "C2", f"MetaStyle's time over Johnson's, {size} px, median [quartiles]",
            Interval(*ratio[:3]), rule=ALIKE_RULE.format(alike=alike),
            paper=_printed_ratio(run, "metastyle", "johnson", size),
            verdict=claims.graded(good, 1), machine=True,
        ))  # fmt: skip
    return rows


def _faster_than_others(run: Run) -> list[claims.Row]:
    rows = []
    for name, cells in factors(run).groupby("name", sort=False):
        label, first, held = run.methods[name].label, cells.iloc[0], cells["verdict"]
        good = int((held == "holds").sum())
        unclear = not good and bool((held == "undecided").any())
        where = f"over MetaStyle's, {first['px']} px, {first['time']}"
        rows.append(claims.row(
            "C2", f"time of {label} {where}, median [quartiles]", first["here"],
            rule=FACTOR_RULE.format(least=first["at least"]), machine=True,
            paper=_printed_ratio(run, name, "metastyle", first["px"]),
            verdict="undecided" if unclear else claims.graded(good, len(cells)),
            note=f"It holds in {good} of {len(cells)} cells.",
        ))  # fmt: skip
        rows.append(claims.row("C2", f"multiply-adds of {label} {where}", first["operations"]))
    return rows


def _orders(run: Run) -> list[claims.Row]:
    rows = []
    for (size, style), here in pairs(run).groupby(["px", "time"], sort=False)["here"]:
        quantity = f"pairs of methods in the paper's order, {size} px, {style}"
        note = "Reversed: {}; undecided: {}.".format(*((here == k).sum() for k in OTHERWISE))
        found = f"{(here == SAME).sum()} of {len(here)}"
        rows.append(claims.row("C2", quantity, found, machine=True, note=note))
    return rows
