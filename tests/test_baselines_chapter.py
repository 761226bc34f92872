"""The claims of chapter 12, from measurements that are given."""

import pandas as pd
from conftest import SMOKE

from metastyle.evaluation.statistics import Interval
from metastyle.studies import baselines
from metastyle.studies.baselines import Baselines, Run


def measured(psnr: Interval, style: Interval) -> Run:
    floors = pd.DataFrame(
        {"psnr": [psnr], "ssim": [Interval(0.9, 0.8, 1.0)], "psnr_floor": [20.0]}, index=["wct1"]
    ).assign(ssim_floor=0.5, reached=psnr.value >= 20)
    limits = pd.DataFrame({"mean": [style], "limit": [0.5]}, index=["style"])
    limits["reached"] = style.value <= 0.5
    return Run(Baselines.read(SMOKE, "baselines"), [], [], pd.DataFrame(), floors, limits, 1)


def test_every_mean_is_a_row_beside_its_floor_or_limit():
    run = measured(Interval(30.0, 29.0, 31.0), Interval(0.3, 0.2, 0.4))
    first, psnr, ssim, style = baselines.judge(run)
    assert first.ours == "2 of 2" and first.note.endswith("Not so: none.")
    assert (psnr.ours, psnr.low, psnr.high) == (30.0, 29.0, 31.0)
    assert (psnr.note, ssim.note) == ("Floor 20: met.", "Floor 0.5: met.")
    assert style.note == "Limit 0.5: met."


def test_what_is_missed_or_near_is_named():
    run = measured(Interval(19.0, 18.0, 21.0), Interval(0.6, 0.55, 0.7))
    first, psnr, _, style = baselines.judge(run)
    assert first.ours == "0 of 2" and "Not so: wct1, shen." in first.note
    assert first.note.endswith("might differ for: wct1.")
    assert (psnr.note, style.note) == ("Floor 20: missed.", "Limit 0.5: missed.")
