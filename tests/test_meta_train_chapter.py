"""What chapter 2 reads off a log and off validation curves."""

import pandas as pd
import pytest
from conftest import SMOKE

from metastyle.core.losses import Perceptual
from metastyle.meta.loader import MetaTraining
from metastyle.studies import meta_train_chapter as chapter


@pytest.fixture(scope="module")
def run():
    training = MetaTraining.read(SMOKE, "meta_train").changed(
        style_warmup=2, average_last=3, last_iterations=2, styles_per_iteration=2,
        inner_learning_rate=0.1,
    )  # fmt: skip
    log = pd.DataFrame({"iteration": range(1, 13), "loss": 20.0, "gradient_norm": 4.0})
    log["content"] = log["iteration"] * 1.0
    log[["style", "saturated"]] = 0.5
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


def test_medians_are_of_full_weight_and_of_one_size(run):
    content = chapter.medians(run).loc["content"]
    assert content.index.tolist()[:2] == ["first 3", "last 3"]
    assert content.tolist()[:2] == [4, 9]  # of 3, 4, 5 and of 8, 9, 10
    assert content["largest"] == 12


def test_an_inner_step_takes_delta_times_the_squared_norm_per_style(run):
    share = chapter.inner_share(run)
    assert len(share) == 10
    assert share.tolist() == pytest.approx([0.1 * 2**2 / 20] * 10)


def test_rows_compare_networks_painting_by_painting(run):
    rows = {row.quantity: row.ours for row in chapter.judge(run)}
    assert rows["iterations of 10 in which an inner step takes more than the loss"] == 0
    after = "evaluation loss after 2 updates"
    assert rows[f"{after}, result over iteration 0"] == pytest.approx(0.5)
    assert rows[f"{after}, result over iteration 10"] == pytest.approx(2)
    assert rows[f"{after}, iteration 10 over iteration 5"] == pytest.approx(6**-0.5, rel=1e-3)
    early = "evaluation loss, result after 0 updates over iteration 0 after 2"
    assert rows[early] == pytest.approx((40 * 50 / 40**2) ** 0.5, rel=1e-3)
    table = chapter.validation_ratios(run)
    assert table.columns.tolist() == [0, 5, 10, "result"]
    assert table.loc["painting 1"].tolist() == ["1.00", "0.75", "0.25", "1.00"]
