"""What a replay may differ by, and where it says so."""

import json

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from metastyle import cli
from metastyle.config import Project
from metastyle.core import device
from metastyle.meta import replay
from metastyle.meta.replay import BFLOAT16, GPU, PROCESSOR, tolerance


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A project made of these machines in this precision, replayed here."""
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setattr(device, "accelerator", lambda: "none")

    def make(*machines: tuple[str, int], precision: str = "float32") -> Project:
        values = {
            "extends": str(ROOT / "params" / "smoke.yaml"), "paths": {"inputs": "results"},
            "meta_train": {"precision": precision},
        }  # fmt: skip
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        rows = [{"accelerator": name, "first": first} for name, first in machines]
        if machines:
            (tmp_path / "results" / "meta_train").mkdir(parents=True, exist_ok=True)
            file = tmp_path / "results" / "meta_train" / "run.json"
            file.write_text(json.dumps({"hours": 1, "machines": rows}))
        return Project(tmp_path / "params.yaml")

    return make


def test_the_tolerance_depends_on_who_made_the_first_iterations(given, monkeypatch):
    assert tolerance(given(), 20) == PROCESSOR
    assert tolerance(given(("none", 1), ("NVIDIA H100", 21)), 20) == PROCESSOR
    assert tolerance(given(("none", 1), ("NVIDIA H100", 20)), 20) == GPU
    assert tolerance(given(("none", 1), precision="bfloat16"), 20) == BFLOAT16
    assert PROCESSOR.value < GPU.value < BFLOAT16.value
    project = given(("none", 1))
    monkeypatch.setattr(device, "accelerator", lambda: "NVIDIA H200")
    assert tolerance(project, 20) == GPU


def test_the_command_names_it(given, monkeypatch, capsys):
    table = pd.DataFrame({"stored": [1.0], "replayed": [1.02], "difference": [0.02]})
    monkeypatch.setattr(replay, "replay", lambda project, iterations: table)
    project = given(("NVIDIA H100", 1))
    cli.main(["replay", "--params", str(project.params)])
    assert "tolerance: 0.03 (steps made on a GPU)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"differ by up to 0.02, more than 0.01"):
        cli.main(["replay", "--params", str(project.params), "--tolerance", "0.01"])
