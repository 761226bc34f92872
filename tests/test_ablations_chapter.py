"""The verdict on C9 and the choices from losses that are given, and a chapter whose trials have
not been run."""

import pandas as pd
import pytest
from conftest import ROOT

from metastyle.evaluation import claims
from metastyle.studies import ablations_chapter
from metastyle.studies.ablations import Ablations
from metastyle.studies.ablations_chapter import Trials

LOSSES = {"base": 10.0, "joint": 11.0, "first-order": 12.0, "random": 20.0}


def losses(loss: float, early: float) -> pd.DataFrame:
    """Of two seeds and three artworks after 0, 10, 25 and 200 updates of Adam and 0 and 1 of SGD;
    `early`: after 10."""
    steps = [("Adam", 0, 99.0), ("Adam", 10, early), ("Adam", 25, loss), ("Adam", 200, loss)]
    rows = [
        {"seed": seed, "artwork": k, "rule": rule, "update": update, "loss": (k + 1) * found,
         "content": 1.0, "style": 1.0}
        for seed in range(2) for k in range(3)
        for rule, update, found in [*steps, ("SGD", 0, 99.0), ("SGD", 1, loss)]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def trials(early: dict | None = None, **others: float) -> Trials:
    plan, early = Ablations.read(ROOT / "params.yaml", "ablations"), early or {}
    found = LOSSES | others
    curves = {name: losses(loss, early.get(name, loss)) for name, loss in found.items()}
    end = {"seed": 0, "artwork": 0, "update": 200, "kurtosis": 4.0, "stray": 0.1, "idle": 0.2}
    ends = {name: pd.DataFrame([end]) for name in found}
    return Trials(plan, {}, curves, ends, {}, [])


@pytest.mark.parametrize(
    ("early", "verdict", "good"),
    [({}, "reproduced", "4 of 4"), ({"joint": 9.0}, "partly", "3 of 4")],
)
def test_the_exact_training_must_be_ahead_of_all_rivals_by_both_rules(early, verdict, good):
    first, *others = ablations_chapter.judge(trials(early))
    assert (first.claim, first.verdict, first.ours) == ("C9", verdict, good)
    assert first.note.endswith("by SGD 1 of 1.")
    decided = [row.ours for row in others if row.claim == "C9"]
    assert decided == pytest.approx([0.9091, 0.8333, 0.5] * 2)


def test_nowhere_ahead_is_not_reproduced_and_a_missing_trial_not_judged():
    same = trials()
    same.losses["random"] = same.losses["base"]
    assert ablations_chapter.judge(same)[0].verdict == "not reproduced"
    del same.losses["joint"]
    row = ablations_chapter.judge(same)[0]
    assert row.verdict == "not judged" and row.ours == "not run: joint"


def test_another_setting_is_chosen_only_if_it_is_surely_better():
    given = {"ramped": 9.0, "clipped": 8.0, "three-steps": 10.5, "two-photos": 10.0}
    rows = {row.quantity: row.ours for row in ablations_chapter.judge(trials(**given))}
    assert rows["how the first iterations are passed"] == "`clipped`"
    assert rows["inner steps"] == rows["styles and photos of an iteration"] == "`base`"
    assert rows["the gradient"] == "`base`"
    assert "inner parameters" not in rows  # not run


@pytest.mark.parametrize(("loss", "kurtosis", "found"), [
    (9.8, 9.0, "kept"), (9.0, 9.0, "left out"), (9.8, 3.0, "left out"),
])  # fmt: skip
def test_the_penalty_on_spikes_must_lower_them_and_cost_little(loss, kurtosis, found):
    given = trials(spikes=loss)
    given.ends["spikes"] = given.ends["spikes"].assign(kurtosis=kurtosis, stray=0.2)
    assert ablations_chapter.judge(given)[-1].ours == found


def test_ratios_are_those_of_the_compared_trials():
    table = ablations_chapter.ratios(trials())
    assert table.index.tolist() == ["joint / base", "first-order / base", "random / base"]
    assert table.loc["random / base", "200 of Adam"] == "2 [2, 2]"
    adam, sgd = ablations_chapter.figures(trials())
    assert len(adam.axes[0].lines) == len(sgd.axes[0].lines) == 3


def test_without_results_there_is_nothing_but_the_questions(project, tmp_path, sets, monkeypatch):
    monkeypatch.setattr(project, "inputs", tmp_path)
    monkeypatch.setattr(ablations_chapter.splits, "read", lambda project: sets)
    found = ablations_chapter.read(project)
    assert ablations_chapter.questions(found)["run"].tolist() == [False] * 3
    for table in (ablations_chapter.summary(found), ablations_chapter.ratios(found)):
        assert table.empty
    drawn = (ablations_chapter.figures, ablations_chapter.pictures, ablations_chapter.course)
    assert [draw(found) for draw in drawn] == [[], [], []]
    assert ablations_chapter.against_delta(found) is None
    assert "not judged" in claims.sentences(ablations_chapter.judge(found))
