"""Table 1 beside the paper's: what is shown, and the rules of C1 and C2 on made-up times."""

import pytest
from conftest import SMOKE

from metastyle.baselines import Method, Printed
from metastyle.evaluation.timing import Timing, summary
from metastyle.studies import table1, table1_chapter
from metastyle.studies._published import CACHED, ENCODED, Operations
from metastyle.studies.table1 import Run, Table1, Time


def around(median: float) -> Timing:
    return summary([0.9 * median, median, 1.1 * median])


def made_up(ratios: dict[str, float], printed: dict[str, float]) -> Run:
    """A run with these times over Johnson's, encoded and cached, at 256 px."""
    s = Table1.read(SMOKE, "table1").changed(sizes=[256], claims={"slow": 10})
    methods = {
        name: Method(
            name, None if name == "slow" else 1_680_000, "any", 9 if name == "slow" else 1,
            None, None, None, Printed("1.68M" if name != "odd" else "1.67M", {256: printed[name]}),
        )
        for name in ratios
    }  # fmt: skip
    cells = {(name, 256): ratio for name, ratio in ratios.items()}
    counted = {cell: Operations(10, 50, 1) for cell in cells}
    times = {
        c: dict.fromkeys((ENCODED, CACHED), Time(around(r), around(r))) for c, r in cells.items()
    }
    table = table1.tabulate(times, counted, methods, s, 200.0)
    return Run(s, methods, table, {}, (200.0, 190.0), 0.1)


PRINTED = {"johnson": 0.004, "metastyle": 0.005, "slow": 0.4, "odd": 0.006}


def test_table_for_the_eye():
    run = made_up({"johnson": 1.0, "metastyle": 1.0, "slow": 2000.0, "odd": 3.0}, PRINTED)
    shown = table1_chapter.shown(run)
    assert shown.loc[("256 px", f"{CACHED} (s)"), "slow"] == "2,000 [1,900, 2,100] ×"
    assert shown.loc[("256 px", "paper, time / Johnson"), "slow"] == "100.00"
    assert shown.loc[("", "parameters")].tolist() == ["1,680,000"] * 2 + ["N/A", "1,680,000 ≠"]
    rate = shown.loc[("256 px", f"{ENCODED}, operations a second / Johnson"), "odd"]
    assert rate == "0.33"


@pytest.mark.parametrize(
    ("slow", "expected"), [(20.0, "reproduced"), (10.2, "undecided"), (8.0, "not reproduced")]
)
def test_claims_of_made_up_times(slow, expected):
    run = made_up({"johnson": 1.0, "metastyle": 1.0, "slow": slow, "odd": 0.5}, PRINTED)
    rows = table1_chapter.judge(run)
    count, printed, speed, johnson, factor, work, *orders = rows
    assert count.verdict == "reproduced" and count.ours == 1_680_000
    assert printed.ours == "2 of 3" and "odd: 1,680,000, printed 1.67M." in printed.note
    assert johnson.verdict == "reproduced" and johnson.paper == 1.25
    assert factor.verdict == expected and factor.ours == slow and factor.paper == 80
    assert speed.ours == ("2 of 2" if expected == "reproduced" else "1 of 2")
    assert work.ours == 14.32 and not work.machine  # 10 + 50 + 799 over 10 + 50
    assert [row.ours for row in orders] == ["3 of 6", "3 of 6"]
    assert orders[0].note == "Reversed: 2; undecided: 1."
    assert len(table1_chapter.exceptions(run)) == 6
    assert all(row.machine for row in (speed, johnson, factor, *orders))


def test_a_pair_is_decided_beyond_its_quartiles_and_a_factor():
    order, same = table1_chapter.order, table1_chapter.SAME
    assert order(around(1.0), around(5.0), 1.0) == same
    assert order(around(5.0), around(1.0), 1.0) == "reversed"
    assert order(around(5.0), around(5.1), 1.0) == "undecided"
    apart = Timing(1.08, 1.07, 1.09, 9), Timing(1.0, 0.99, 1.01, 9)
    assert order(*apart, 1.0) == "reversed"
    assert order(*apart, 1.1) == "undecided"


@pytest.mark.parametrize(
    ("median", "expected"), [(12, "holds"), (10.2, "undecided"), (9, "does not hold")]
)
def test_a_factor_is_decided_beyond_its_range(median, expected):
    ratio = Timing(median, 0.95 * median, 1.05 * median, 3)
    assert table1_chapter.at_least(ratio, 10) == expected


def test_counts_are_compared_as_printed():
    assert table1_chapter.as_printed(1_679_235, "1.68M")
    assert not table1_chapter.as_printed(34_239_311, "34.23M")
