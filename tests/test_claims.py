"""Rows of results/claims: written and read, as sentences, as a table."""

import json

import pytest

from metastyle.config import InputError, Project
from metastyle.evaluation import claims
from metastyle.evaluation.claims import Row, graded, row
from metastyle.evaluation.statistics import Interval


@pytest.fixture
def rows():
    return [
        row("C1", "parameters", 1_679_235, rule="As many.", paper="1.68M", verdict="reproduced"),
        row("C4", "loss over the other's", Interval(0.31234, 0.2, 0.4), paper=0.5, note="Wide."),
        row("", "seconds of an update", 2.5, machine=True),
        row("C5", "standing", "near", verdict="not judged"),
    ]


def test_rows_come_back_as_they_were_written(rows, project, tmp_path):
    there = Project(project)
    there.outputs = tmp_path
    assert claims.write(there, "a", rows) == rows
    assert claims.read(tmp_path / "claims", "a") == rows
    stored = json.loads((tmp_path / "claims" / "a.json").read_text())
    # By claim and quantity, so that DVC compares a metric with itself; defaults are left out.
    assert [*stored][:2] == ["C1 parameters", "C4 loss over the other's"]
    assert stored["seconds of an update"] == {
        "claim": "", "quantity": "seconds of an update", "ours": 2.5, "machine": True
    }  # fmt: skip
    assert stored["C4 loss over the other's"]["ours"] == 0.3123  # four digits
    with pytest.raises(InputError, match=r"b\.json: no such claims"):
        claims.read(tmp_path / "claims", "b")


def test_two_rows_of_one_claim_and_quantity_are_refused(rows, project, tmp_path):
    there = Project(project)
    there.outputs = tmp_path
    with pytest.raises(ValueError, match="two rows of one claim and quantity"):
        claims.write(there, "a", [*rows, row("C1", "parameters", 2)])
    assert not (tmp_path / "claims").exists()


def test_sentences_tell_value_paper_rule_and_verdict(rows):
    first, second, third, last = claims.sentences(rows).split("\n\n")
    assert first == (
        "**C1, parameters**: 1,679,235 (paper: 1.68M). Rule: As many. Verdict: **reproduced**."
    )
    assert second == "**C4, loss over the other's**: 0.312 [0.2, 0.4] (paper: 0.5). Wide."
    assert third == "**seconds of an update**: 2.5."
    assert last == "**C5, standing**: near."


def test_a_table_has_a_line_per_row(rows):
    head, rule, first, second, *_ = claims.table(rows, {"C1": "[6](a)"}).split("\n")
    assert head.count("|") == rule.count("|") == first.count("|") == 7
    assert first == "| C1 | parameters | 1.68M | 1,679,235 | reproduced | [6](a) |"
    assert "| 0.5 | 0.312 [0.2, 0.4] | measured: Wide. |" in second
    assert "a\\|b" in claims.table([row("C1", "a|b", 1)])


def test_a_rule_of_several_things_is_graded():
    assert [graded(k, 2) for k in (0, 1, 2)] == ["not reproduced", "partly", "reproduced"]


def test_an_unknown_verdict_is_no_row():
    with pytest.raises(ValueError, match="verdict"):
        Row(claim="C1", quantity="a", verdict="borne out")
