"""What chapter 3 says of given curves and given seconds."""

import pandas as pd
import pytest
import torch
from conftest import SMOKE

from metastyle.evaluation.timing import Timing
from metastyle.studies import adapt_chapter, frontier
from metastyle.studies.adapt_chapter import AdaptChapter, Run
from metastyle.studies.frontier import START, Kind
from metastyle.studies.recipes import PAPER, Recipes


def timing(seconds):
    return Timing(seconds, seconds, seconds, 1)


@pytest.fixture
def run(project):
    """Updates of one second, five of the default and twenty of the paper's recipe; the default
    halves the loss of three paintings, by two artists."""
    base = Recipes.read(SMOKE, "recipes").adapt
    default, paper = base.changed(updates=5), base.changed(updates=20)
    rows = [
        {"artwork": k, "update": u, "loss": scale / (1 + u / 5), "content": 1.0 + u / 10,
         "style": scale, "saturated": u / 1000}
        for k, scale in enumerate([100.0, 10.0, 30.0]) for u in (0, 5)
    ]  # fmt: skip
    held = [(k, u, loss) for k, at in enumerate([(80.0, 40.0), (8.0, 4.0)])
            for u, loss in zip((10, 20), at, strict=True)]  # fmt: skip
    losses = pd.DataFrame(
        [(PAPER, 0, 10, 3.0), (PAPER, 0, 20, 2.0), ("quick", 0, 5, 3.0)],
        columns=["recipe", "artwork", "update", "loss"],
    )
    known = {PAPER: paper, "quick": default}
    one = Kind(base.sizes[0], base.contents_per_batch, base.parameters, base.precision)
    seconds = {START: timing(1.0), one: timing(1.0)}
    seconds |= {f"convolution, {p}": timing(1.0) for p in ("float32", "bfloat16")}
    settings = AdaptChapter(seconds=8, turns=1, budget=0, largest=None)
    paintings = pd.DataFrame({"title": ["A - 1900", "B", "C"], "artist": ["x", "x", "y"]})
    return Run(
        project, settings, default, paintings, torch.rand(1, 3, 32, 32), pd.DataFrame(rows), known,
        losses, pd.DataFrame(held, columns=["artwork", "update", "loss"]), seconds, 10.0,
        frontier.points(losses, known, seconds),
    )  # fmt: skip


def rows_of(run):
    return {row.quantity: row for row in adapt_chapter.judge(run)}


def test_ratios_are_of_the_last_evaluation_to_the_first(run):
    table = adapt_chapter.changes(run)
    assert table["loss"].tolist() == [0.5] * 3 and table["content"].tolist() == [1.5] * 3
    row = rows_of(run)["loss after 5 updates over before, held-out artworks"]
    assert (row.ours, row.low, row.high, row.verdict) == (0.5, 0.5, 0.5, "not judged")


def test_held_out_artworks_compare_the_default_with_the_papers_end(run):
    table = adapt_chapter.on_held_out(run)
    assert table["title"].tolist() == ["A - 1900", "B"]
    assert table["ratio"].tolist() == [50 / 40, 5 / 4]
    rows = rows_of(run)
    halfway = "loss after 10 updates of the paper's recipe over that after 20, 2 held-out artworks"
    assert rows[halfway].ours == 2
    worse = rows["loss of the default over that of the paper's recipe, 2 held-out artworks"]
    assert worse.ours == 1.25 and "is worse than" in worse.note


@pytest.mark.parametrize(
    ("image", "verdict"), [(30.0, "reproduced"), (10.0, "partly"), (5.0, "not reproduced")]
)
def test_the_verdict_on_the_cost_needs_both_recipes(run, image, verdict):
    rows = rows_of(run._replace(image=image))
    one = "over one optimised image of 32 px"
    row = rows[f"seconds of an adaptation by the paper's recipe {one}"]
    assert (row.verdict, row.rule) == (verdict, adapt_chapter.COST)
    assert row.ours == pytest.approx(21 / image, abs=1e-3)
    default = rows[f"seconds of an adaptation by the default recipe {one}"]
    assert default.ours == pytest.approx(6 / image, abs=1e-3) and default.verdict == "measured"


def test_the_default_is_compared_with_what_the_rule_chooses(run):
    assert adapt_chapter.differences(run).empty  # `quick` is the default
    dear = run._replace(settings=run.settings.changed(seconds=100))
    differ = adapt_chapter.differences(dear)
    assert differ.loc["updates"].tolist() == [5, 20]
    none = run._replace(settings=run.settings.changed(seconds=0.1))
    assert adapt_chapter.differences(none).empty
    assert not any("the rule chooses" in quantity for quantity in rows_of(none))
