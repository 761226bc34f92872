"""Stage `meta_train`: where a run begins, and the files that it leaves."""

import json

import pandas as pd
import pytest
import torch
import yaml
from conftest import SMOKE
from safetensors.torch import save_file

from metastyle.config import InputError, Project
from metastyle.core.checkpoint import load_network, save_network
from metastyle.core.network import new_network
from metastyle.meta.loader import MetaTraining
from metastyle.meta.train import COLUMNS, Result
from metastyle.studies import meta_train


def project_that_starts_with(folder, start):
    (folder / "dvc.yaml").touch()
    values = {"extends": str(SMOKE), "meta_train": {"start": start}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return Project(folder / "params.yaml")


def start_of(project):
    return meta_train.start_of(project, MetaTraining.read(project, "meta_train"))


def test_a_run_begins_with_the_network_that_is_named(tmp_path):
    network = new_network(3)
    file = tmp_path / "data" / "start.safetensors"
    save_network(file, dict(network.named_parameters()), {})
    found = start_of(project_that_starts_with(tmp_path, "data/start.safetensors"))
    for ours, wanted in zip(found.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours.cpu(), wanted)
    assert start_of(project_that_starts_with(tmp_path, None)) is None


def test_a_start_that_is_no_network_is_named(tmp_path):
    project = project_that_starts_with(tmp_path, "start.safetensors")
    with pytest.raises(InputError, match=r"start\.safetensors: no such network file"):
        start_of(project)
    old = {"metastyle": json.dumps({"format": "1"})}
    save_file({"w": torch.zeros(1)}, tmp_path / "start.safetensors", old)
    with pytest.raises(InputError, match=r"other VGG-16 weights \(format 1\)"):
        start_of(project)


def test_what_a_run_leaves(tmp_path, loss):
    settings = MetaTraining.read(SMOKE, "meta_train").changed(start="data/one", average_last=2)
    log = pd.DataFrame([[k, *[float(k)] * (len(COLUMNS) - 1)] for k in (1, 2, 3)], columns=COLUMNS)
    log["joint"] = float("nan")
    networks = new_network(0), new_network(1)
    first = dict(networks[0].named_parameters())
    found = Result(
        networks[1], log, {0: first}, seconds=3600.0, machines=[{"accelerator": "none", "first": 1}]
    )
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "000007.safetensors").touch()  # of an earlier run
    meta_train.write(tmp_path, found, settings, loss)
    assert [file.name for file in (tmp_path / "snapshots").iterdir()] == ["000000.safetensors"]
    assert load_network(tmp_path / "network.safetensors").state_dict().keys() == first.keys()
    again = pd.read_csv(tmp_path / "log.csv")
    assert again.columns.tolist() == COLUMNS and again["joint"].isna().all()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["loss"] == metrics["spikes"] == metrics["support_change"] == 2.5
    told = json.loads((tmp_path / "run.json").read_text())
    assert told == {"hours": 1.0, "machines": found.machines}


def test_several_processes_leave_a_finished_state_where_the_stage_looks(monkeypatch, tmp_path):
    project, told = project_that_starts_with(tmp_path, None), {}
    settings = MetaTraining.read(project, "meta_train").changed(processes=3)
    monkeypatch.setattr(meta_train.MetaTraining, "read", lambda *_: settings)
    monkeypatch.setattr(meta_train, "load_loss", lambda _: "loss")
    monkeypatch.setattr(meta_train.splits, "read", lambda _: None)
    monkeypatch.setattr(meta_train, "training_images", lambda _: "images")
    monkeypatch.setattr(meta_train, "key", lambda *given: "-".join(map(str, given[1:])))
    monkeypatch.setattr(meta_train, "write", lambda *_: None)
    monkeypatch.setattr(meta_train, "train", lambda *given: given)
    monkeypatch.setattr(
        meta_train.distributed, "launch", lambda *given: told.update(enumerate(given))
    )
    assert meta_train.run(project) == (settings, "images", "loss", None)
    state = meta_train.cache_folder() / "images-loss-None" / "state.safetensors"
    assert told == {0: project.params, 1: state, 2: 3}
