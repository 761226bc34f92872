"""Chapter 7: claims by the rule, whichever starts were run."""

import numpy as np
import pandas as pd
import pytest

from metastyle.studies import starts_chapter
from metastyle.studies.starts import Starts

TAUS = {"metastyle": 5, "scratch": 10, "scratch-best": 10, "painting": 5, "autoencoder": 20}


@pytest.fixture
def run(project, monkeypatch, tmp_path):
    """What `read` makes of exponential curves, by the starts that were run."""

    def made(*names):
        for name in names:
            rows = [
                {"arm": name, "artwork": f"{k}.jpg", "artist": f"{k}", "seed": seed,
                 "learning_rate": 3e-4, "update": u, "photo": photo,
                 "loss": (k + 1) * np.exp(-u / TAUS[name]), "content": 1.0, "style": 0.1}
                for k in range(3) for seed in (0, 1) for u in (0, 10, 12) for photo in (0, 1)
            ]  # fmt: skip
            (tmp_path / "starts" / name).mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(tmp_path / "starts" / name / "losses.csv", index=False)
        settings = Starts.read(project, "starts").changed(names=list(names))
        monkeypatch.setattr(Starts, "read", lambda *_: settings)
        monkeypatch.setattr(project, "inputs", tmp_path)
        return starts_chapter.read(project)

    return made


def verdicts(rows):
    return {row.claim: row.verdict for row in rows if row.rule}


def test_each_claim_has_its_verdict(run):
    rows = starts_chapter.judge(run(*TAUS))
    assert verdicts(rows) == {
        "C4": "reproduced", "Fair to Johnson": "reproduced", "Any trained start": "not reproduced"
    }  # fmt: skip
    found = {row.quantity: row for row in rows}
    assert len(found) == len(rows)
    ratio = found["loss from scratch over MetaStyle's after 10 updates"]
    assert ratio.ours == ratio.low == ratio.high == pytest.approx(np.e, rel=1e-3)
    needed = found["updates from scratch to MetaStyle's loss after 10"]
    assert needed.ours == 12
    assert needed.note == "6 of 6 runs do not get there; 12 stands for more."
    rate = found["learning rate that is best for Johnson's network on validation artworks"]
    assert rate.ours == 3e-4
    told = {row.note for row in rows if row.rule}
    assert told == {"3 artworks by 3 artists, 2 photos, seeds: 2."}


def test_a_claim_whose_starts_were_not_all_run_is_not_judged(run):
    rows = starts_chapter.judge(run("metastyle", "scratch", "painting"))
    assert verdicts(rows) == {
        "C4": "reproduced", "Fair to Johnson": "not judged", "Any trained start": "not judged"
    }  # fmt: skip
    (trained,) = (row for row in rows if row.claim == "Any trained start")
    assert trained.note == "Not run: autoencoder."


def test_the_reference_has_a_ratio_of_1_and_starts_their_crops(run, project):
    made = run("metastyle", "painting")
    (axis,) = starts_chapter.relative_figure(made).axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert lines["metastyle (0.0003)"].tolist() == [1, 1, 1]
    seen = starts_chapter.crops_seen(project, made)["crops"]
    updates = made.settings.painting
    assert seen["painting"] == updates.updates * updates.contents_per_batch
    # Of smoke's three iterations of two styles with one photo each, the first has no inner step.
    assert seen["metastyle"] == 2 + 4 + 4
