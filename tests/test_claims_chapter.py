"""Chapter 14 and README's table: one row per claim, from files of claims alone."""

import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from metastyle.adaptation.adapt import Adaptation
from metastyle.config import InputError, Project
from metastyle.evaluation.claims import Row, row, write
from metastyle.meta.loader import MetaTraining
from metastyle.studies import claims


@pytest.fixture
def small(tmp_path):
    """A project of claims alone: those of two chapters."""
    (tmp_path / "dvc.yaml").touch()
    params = {"paths": {"inputs": "results", "outputs": "results"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    project = Project(tmp_path / "params.yaml")
    write(project, "pixels", [
        row("C7", "steps", 12.0),
        row("C7", "loss over loss", 0.9, rule="Above 1.", paper=1.5, verdict="not reproduced"),
    ])  # fmt: skip
    write(project, "adapt", [
        row("C3", "loss", 0.4, rule="None.", verdict="not judged"),
        row("C3", "seconds", 31.0, rule="Below 30.", verdict="partly", machine=True),
    ])  # fmt: skip
    write(project, "gallery", [row("hatching", "levels of 255", 1.2)])
    return project


def readme(*lines):
    return "\n".join(["# Title", claims.BEGIN, *lines, claims.END, "More."])


def test_one_row_per_claim_and_what_has_not_run_waits(small):
    lines = claims.table(claims.collect(small), "rendered/").splitlines()[2:]
    assert [line.split()[1] for line in lines] == [f"C{k}" for k in range(1, 10)]
    assert all("waits for its run" in lines[k] for k in (0, 1, 3, 4, 5, 7, 8))
    assert "| loss over loss | 1.5 | 0.9 | not reproduced | [8 pixels]" in lines[6]
    assert "| seconds † | " in lines[2] and "| partly |" in lines[2]  # the one that was judged
    for line in lines:
        assert (ROOT / "notebooks" / line.split("(rendered/")[1].split(")")[0]).is_file()


def test_every_row_is_written_in_the_order_of_the_claims(small):
    found = claims.run(small)
    table = pd.read_csv(small.outputs / "claims.csv")
    assert table["claim"].tolist() == ["C3", "C3", "C7", "C7", "hatching"]
    assert table["chapter"].tolist() == ["adapt", "adapt", "pixels", "pixels", "gallery"]
    shown = claims.everything(found).data
    assert shown.count("waits for its run") == len(claims.NOTEBOOKS) - len(found)
    assert "| hatching | levels of 255 |" in shown and "Rule: Above 1." in shown


def test_readme_is_held_to_the_claims_but_not_to_this_machines_times(small):
    found = claims.collect(small)
    text = claims.with_table(readme(), claims.table(found))
    assert text.startswith("# Title\n") and text.endswith(f"{claims.END}\nMore.")
    assert claims.is_current(text, claims.table(found))
    slower = {"ours": 99.0, "verdict": "not reproduced"}
    found["adapt"][1] = found["adapt"][1].changed(**slower)
    assert claims.is_current(text, claims.table(found))
    found["pixels"][1] = found["pixels"][1].changed(ours=1.1)
    assert not claims.is_current(text, claims.table(found))
    with pytest.raises(InputError, match=r"README\.md: needs the lines"):
        claims.with_table("no comments", "")


def test_the_command_tells_and_writes(small, monkeypatch):
    file = small.root / "README.md"
    file.write_text(readme("old"))
    monkeypatch.setattr(sys, "argv", ["claims"])
    with pytest.raises(SystemExit, match="--write"):
        claims.main(small.root)
    monkeypatch.setattr(sys, "argv", ["claims", "--write"])
    claims.main(small.root)
    assert "| C7 the style-neutral" in file.read_text() and "old" not in file.read_text()
    monkeypatch.setattr(sys, "argv", ["claims"])
    claims.main(small.root)


@pytest.mark.skipif(not (ROOT / "results/claims").is_dir(), reason="no results: a run is pending")
def test_readme_has_the_claims_of_the_results():
    text = (ROOT / "README.md").read_text()
    new = claims.table(claims.collect(Project(ROOT / "params.yaml")), "rendered/")
    assert claims.is_current(text, new)


def test_what_the_settings_multiply_to(project):
    phases = [
        {"iterations": 4, "size": 16, "inner_steps": 0},
        {"iterations": 3, "size": 16, "inner_steps": 1},
        {"iterations": 1, "size": 32, "inner_steps": 2, "order": "first"},
    ]
    meta = MetaTraining.read(project, "meta_train").changed(
        phases=phases, styles_per_iteration=3, contents_per_batch=2
    )
    adapt = Adaptation.read(project, "adapt").changed(
        updates=4, sizes=[16, 32], contents_per_batch=2
    )
    found = claims._amounts(meta, adapt)
    assert found["iterations of meta-training"] == 8
    assert found["of them with an inner step"] == 4
    assert found["of those with the exact meta-gradient"] == 3
    assert found["crops of photos in all"] == 6 * (4 + 3 * 2 + 3)
    assert found["pixels of these crops"] == 6 * (10 * 16**2 + 3 * 32**2)
    assert found["pixels of those crops"] == 2 * (2 * 16**2 + 2 * 32**2)


def test_departures_are_those_of_the_papers_file(project):
    table = claims.departures(project)
    assert table.loc["meta_train.styles_per_iteration"].tolist() == ["4", "2"]
    assert table.loc["meta_train.photos.scale", "paper"] == "[0.5, 1.0]"
    assert table.loc["perceptual.spike_weight"].tolist() == ["0.0", "0.5"]
    told = "iterations 1 to 100,000: T = 1, δ = 0.0001, second order, 256 px"
    assert table.loc["meta_train.phases", "paper"] == told
    assert not any(name in table.index for name in claims.NO_METHOD)
    assert (table["paper"] != table["here"]).all()


def test_a_row_that_waits_is_no_verdict():
    waiting = claims.deciding({}, "C1")
    assert isinstance(waiting, Row) and waiting.verdict == "not judged" and not waiting.rule
