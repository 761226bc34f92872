"""The verdict on C9 from losses that are given, and a chapter whose trials have not been run."""

import pandas as pd
import pytest
from conftest import ROOT

from metastyle.evaluation import claims
from metastyle.studies import ablations_chapter
from metastyle.studies.ablations import Ablations
from metastyle.studies.ablations_chapter import Trials

LOSSES = {"base": 10.0, "joint": 11.0, "first-order": 12.0, "random": 20.0}


def trials(**early: float) -> Trials:
    """Losses of trials on three artworks after 0, 10 and 20 updates; `early`: others after 10."""
    plan, curves = Ablations.read(ROOT / "params.yaml", "ablations"), {}
    for name, loss in LOSSES.items():
        rows = [
            {"artwork": k, "update": update, "loss": (k + 1) * found, "content": 1.0, "style": 1.0}
            for k in range(3)
            for update, found in ((0, 99.0), (10, early.get(name, loss)), (20, loss))
        ]
        curves[name] = pd.DataFrame(rows)
    return Trials(plan, {}, curves, [])


@pytest.mark.parametrize(
    ("early", "verdict", "good"),
    [({}, "reproduced", "2 of 2"), ({"joint": 9.0}, "partly", "1 of 2")],
)
def test_the_exact_training_must_be_ahead_of_all_rivals(early, verdict, good):
    first, *others = ablations_chapter.judge(trials(**early))
    assert (first.claim, first.verdict, first.ours) == ("C9", verdict, good)
    assert [row.ours for row in others] == pytest.approx([0.9091, 0.8333, 0.5])


def test_nowhere_ahead_is_not_reproduced_and_a_missing_trial_not_judged():
    same = trials()
    same.curves["random"] = same.curves["base"]
    assert ablations_chapter.judge(same)[0].verdict == "not reproduced"
    del same.curves["joint"]
    (row,) = ablations_chapter.judge(same)
    assert row.verdict == "not judged" and row.ours == "not run: joint"


def test_ratios_are_those_of_the_compared_trials():
    table = ablations_chapter.ratios(trials())
    assert table.index.tolist() == ["joint / base", "first-order / base", "random / base"]
    assert table.loc["random / base", "20 updates"] == "2 [2, 2]"
    (figure,) = ablations_chapter.figures(trials())
    assert len(figure.axes[0].lines) == 3


def test_without_results_there_is_nothing_but_the_questions(project, tmp_path, sets, monkeypatch):
    monkeypatch.setattr(project, "inputs", tmp_path)
    monkeypatch.setattr(ablations_chapter.splits, "read", lambda project: sets)
    found = ablations_chapter.read(project)
    assert ablations_chapter.questions(found)["run"].tolist() == [False, False]
    for table in (ablations_chapter.summary(found), ablations_chapter.ratios(found)):
        assert table.empty
    assert ablations_chapter.figures(found) == ablations_chapter.pictures(found) == []
    assert "not judged" in claims.sentences(ablations_chapter.judge(found))
