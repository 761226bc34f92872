"""What chapter 2 reads off a log and off validation curves."""

import numpy as np
import pandas as pd
import pytest
from conftest import SMOKE

from metastyle.core.losses import Perceptual
from metastyle.core.network import new_network
from metastyle.meta.loader import MetaTraining
from metastyle.meta.train import COLUMNS
from metastyle.studies import meta_train_chapter as chapter


@pytest.fixture
def run():
    training = MetaTraining.read(SMOKE, "meta_train").changed(
        style_warmup=2, average_last=3, phases=[
            {"iterations": 8, "size": 32, "inner_steps": 0},
            {"iterations": 4, "size": 48, "inner_steps": 1, "inner_learning_rate": 0.1},
        ],
    )  # fmt: skip
    log = pd.DataFrame(0.5, index=range(12), columns=COLUMNS)
    log["iteration"] = range(1, 13)
    log["content"] = log["iteration"] * 1.0
    log["support_change"] = log["query_change"] = [np.nan] * 8 + [-0.3, -0.2, -0.1, 0.1]
    log[["joint", "first_order", "second_order_share"]] = np.nan
    log.loc[9, ["joint", "first_order", "second_order_share"]] = 0.9, 0.99, 0.2
    values = {  # loss at 0 and 2 updates, of each network and for two paintings
        ("snapshot", 0): [(80, 40), (80, 40)],
        ("snapshot", 5): [(60, 20), (60, 30)],
        ("snapshot", 10): [(40, 10), (50, 10)],
        ("result", 10): [(40, 10), (50, 40)],
    }
    rows = [
        (*name, k, update, loss, f"painting {k}")
        for name, paintings in values.items()
        for k, losses in enumerate(paintings)
        for update, loss in zip((0, 2), losses, strict=True)
    ]
    names = ["network", "iteration", "artwork", "update", "loss", "painting"]
    validation = pd.DataFrame(rows, columns=names)
    settings = chapter.MetaTrainChapter.read(SMOKE, "meta_train_chapter")
    perceptual = Perceptual.read(SMOKE, "perceptual")
    return chapter.Run(None, settings, training, perceptual, None, log, validation, {})


def test_phases_have_their_first_and_last_iterations(run):
    table = chapter.phases(run)
    assert table[["first", "last"]].to_numpy().tolist() == [[1, 8], [9, 12]]
    assert table["size"].tolist() == [32, 48]


def test_medians_are_of_a_phase_s_iterations_at_full_weight(run):
    table = chapter.medians(run)
    assert table.columns.tolist() == [
        (f"phase {k}", f"{end} 3") for k in (1, 2) for end in ("first", "last")
    ]
    assert table.loc["content"].tolist() == [4, 7, 10, 11]  # of 3, 4, 5; 6, 7, 8; 9, 10, 11 ...
    changes = table.loc["support_change"].tolist()
    assert np.isnan(changes[:2]).all() and changes[2:] == [-0.2, -0.1]


def test_curves_have_a_line_where_a_phase_ends(run):
    figures = [
        (chapter.curves(run, "loss", "idle"), ["loss", "idle"]),
        (chapter.directions(run), ["joint", "first order", "second order share"]),
    ]
    for figure, titles in figures:
        assert [axis.get_title() for axis in figure.axes] == titles
        for axis in figure.axes:
            places = [[*line.get_xdata()] for line in axis.lines]
            assert [x[0] for x in places if len(x) == 2 and x[0] == x[1]] == [8, 2]
    (measured,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert (measured.get_xdata()[0], measured.get_ydata()[0]) == (10, 0.9)


def test_rows_are_of_each_phase(run):
    rows = {row.quantity: row.ours for row in chapter.judge(run)}
    change = "what the inner steps change of their own batch's loss, a share of it, median"
    assert rows[f"{change}, phase 2"] == pytest.approx(-0.15)
    assert f"{change}, phase 1" not in rows
    assert rows["iterations of 4 in which they raise it, phase 2"] == 1
    assert rows["cosine of the exact gradient and joint training's, median, phase 2"] == 0.9
    assert "cosine of the exact gradient and joint training's, median, phase 1" not in rows
    assert rows["outer loss, median of the first 3 iterations of phase 1"] == 0.5


def test_rows_compare_networks_painting_by_painting(run):
    rows = {row.quantity: row.ours for row in chapter.judge(run)}
    after = "evaluation loss after 2 updates"
    assert rows[f"{after}, result over iteration 0"] == pytest.approx(0.5)
    assert rows[f"{after}, result over iteration 10"] == pytest.approx(2)
    assert rows[f"{after}, iteration 10 over iteration 5"] == pytest.approx(6**-0.5, rel=1e-3)
    early = "evaluation loss, result after 0 updates over iteration 0 after 2"
    assert rows[early] == pytest.approx((40 * 50 / 40**2) ** 0.5, rel=1e-3)
    table = chapter.validation_ratios(run)
    assert table.columns.tolist() == [0, 5, 10, "result"]
    assert table.loc["painting 1"].tolist() == ["1.00", "0.75", "0.25", "1.00"]


def told(run, capsys):
    networks = {"0 iterations": new_network(0), "result": new_network(1)}
    chapter.check(run._replace(networks=networks))
    return [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()]


def test_the_check_knows_where_values_may_be_missing(run, capsys):
    assert told(run, capsys) == ["True"] * 4
    for column, place, line in (("loss", 3, 1), ("support_change", 9, 2)):
        broken = run._replace(log=run.log.copy())
        broken.log.loc[place, column] = np.nan
        found = told(broken, capsys)
        assert found.pop(line) == "False" and found == ["True"] * 3
    assert told(run._replace(log=run.log.head(11)), capsys) == ["False", "True", "False", "True"]
