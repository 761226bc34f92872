"""`python -m metastyle.meta.train`: a training that travels."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import small_training
import torch
import yaml
from conftest import ROOT

from metastyle.config import Project
from metastyle.core import cache, device, images
from metastyle.core.checkpoint import load_info, load_network, load_tensors
from metastyle.meta import command, distributed, train

# What a machine that only trains need not have.
ABSENT = ["dvc", "papermill", "IPython", "av", "cv2", "skimage", "tqdm", "matplotlib", "nbformat"]
BARE = """
import runpy, sys
from importlib.machinery import ModuleSpec
class Absent:
    def find_spec(self, name, *_):
        return ModuleSpec(name, self) if name.partition(".")[0] in {absent} else None
    def create_module(self, spec):
        raise ModuleNotFoundError(spec.name)
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Absent())
sys.argv = {arguments}
runpy.run_module("metastyle.meta.train", run_name="__main__")
"""


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A small project: 17 images without a table of splits, and four iterations."""
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "dvc.yaml").touch()
    made = small_training.small_images(tmp_path / "all")
    for side, files in (("photos", [*made.inner, *made.outer]), ("artworks", made.artworks)):
        (tmp_path / side).mkdir()
        for file in files:
            file.rename(tmp_path / side / file.name)
    phases = [
        {"iterations": 2, "size": 16, "inner_steps": 0},
        {"iterations": 2, "size": 16, "inner_steps": 1, "inner_learning_rate": 1e-4},
    ]
    split = {"held_out": 1, "held_out_historical": 0, "validation": 1, "validation_historical": 0}
    values = {
        "extends": str(ROOT / "params" / "smoke.yaml"),
        "paths": {"inputs": "results", "outputs": "results"},
        "data": {
            "photos": "photos", "artworks": "artworks", "sources": str(ROOT / "data/sources.csv"),
            "vgg": str(ROOT / "data/vgg16.safetensors"), "artwork_split": split,
            "photo_split": {"held_out": 1, "validation": 1},
        },
        "meta_train": {"phases": phases, "snapshots": [0, 2], "average_last": 3},
    }  # fmt: skip
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_it_needs_few_packages_and_leaves_state_log_and_network(params, tmp_path):
    state = tmp_path / "out" / "run.safetensors"
    arguments = ["train", str(params), "--state", str(state)]
    script = BARE.format(absent=set(ABSENT), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 4 iterations in 0" in done.stdout and str(state) in done.stdout
    assert sorted(file.name for file in state.parent.iterdir()) == [
        "run-network.safetensors", "run.csv", "run.safetensors",
    ]  # fmt: skip
    log = pd.read_csv(state.with_suffix(".csv"))
    assert log.columns.tolist() == train.COLUMNS and log["iteration"].tolist() == [1, 2, 3, 4]
    (machine,) = load_info(state)["machines"]
    assert machine == {
        **device.described(), "precision": "float32", "processes": 1, "first": 1, "last": 4,
    }  # fmt: skip
    network = load_network(state.parent / "run-network.safetensors")
    average = load_tensors(state)[0]["average/layers.0.weight"]
    assert torch.equal(network.get_parameter("layers.0.weight").cpu(), average)


def run(params: Path, *options: str) -> None:
    command.main([str(params), *options])


def tensors(file: Path) -> dict[str, torch.Tensor]:
    found = load_tensors(file)[0]
    return {name: t.nan_to_num(-1) for name, t in found.items() if name != "run/seconds"}


def test_it_goes_on_from_another_machines_state_and_names_all(params, tmp_path, monkeypatch):
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    run(params, "--state", str(whole))
    run(params, "--state", str(pieces), "--minutes", "0")  # an iteration, and no more
    assert load_tensors(pieces)[0]["run/log"].shape[0] == 1
    there = {"processor": "?", "accelerator": "NVIDIA H100", "torch": "2.11.0"}
    monkeypatch.setattr(device, "described", lambda: there)
    run(params, "--state", str(pieces), "--minutes", "0")
    monkeypatch.undo()
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path / "cache"))
    run(params, "--state", str(pieces))
    ranges = [(m["accelerator"], m["first"], m["last"]) for m in load_info(pieces)["machines"]]
    here = device.accelerator()
    assert ranges == [(here, 1, 1), ("NVIDIA H100", 2, 2), (here, 3, 4)]
    one, other = tensors(whole), tensors(pieces)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_of_another_run_is_refused_in_one_line(params, tmp_path, capsys):
    state = tmp_path / "run.safetensors"
    run(params, "--state", str(state), "--minutes", "0")
    values = yaml.safe_load(params.read_text())
    values["meta_train"]["seed"] = 5
    values["perceptual"] = {"range_weight": 3.0}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(values))
    for file in (tmp_path / "artworks").iterdir():
        file.write_bytes(file.read_bytes() + b"another size")
    for option in ("--state", "--import-state"):
        with pytest.raises(SystemExit) as stopped:
            run(other, option, str(state))
        assert "\n" not in str(stopped.value)
        assert "another run, with other settings, loss, images; choose" in str(stopped.value)
    values["meta_train"] |= {"seed": 0, "workers": 2, "processes": 4, "checkpoint_minutes": 9.0}
    values["perceptual"] = {}
    other.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as stopped:  # how it is computed makes no other run
        run(other, "--state", str(state))
    assert "with other images; choose" in str(stopped.value)


def test_the_pipeline_goes_on_from_a_state_that_was_brought_in(params, tmp_path):
    half, whole = tmp_path / "half.safetensors", tmp_path / "whole.safetensors"
    run(params, "--state", str(half), "--minutes", "0")
    run(params, "--state", str(whole))
    found = command.read(Project(params))
    for file, done in ((half, 1), (whole, 4)):
        run(params, "--import-state", str(file))
        states = train.training(
            found.settings, found.images, found.loss, folder=cache.cache_folder()
        )
        assert len(next(states).log) == done
    with pytest.raises(SystemExit, match=r"has gone 1 iterations; .* 4 already"):
        run(params, "--import-state", str(half))
    with pytest.raises(SystemExit, match="no such network file"):
        run(params, "--import-state", str(tmp_path / "nothing.safetensors"))


@pytest.mark.pipeline
def test_several_processes_go_on_from_the_pipelines_state(params):
    found = command.read(Project(params))
    given = found.settings, found.images, found.loss
    states = train.training(*given, folder=cache.cache_folder())
    while len(next(states).log) < 1:
        pass
    file = cache.cache_folder() / train.key(*given) / "state.safetensors"
    train.save(file, next(states))
    states.close()
    distributed.launch(params, file, 2)
    state = next(train.training(*given, folder=cache.cache_folder()))
    assert len(state.log) == 4
    ranges = [(m["processes"], m["first"], m["last"]) for m in state.machines]
    assert ranges == [(1, 1, 2), (2, 3, 4)]


def test_processes_that_fail_are_an_error(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    with pytest.raises(RuntimeError, match="processes of the training failed"):
        distributed.launch(Path("params.yaml"), Path("state.safetensors"), 2)


def test_to_begin_no_image_is_decoded(params, tmp_path, monkeypatch):
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    monkeypatch.setattr(images, "decode", lambda path: pytest.fail(f"{path} was decoded"))
    found = command.read(Project(params))
    assert any(file.name == "broken.jpg" for group in found.images for file in group)
    assert json.dumps(found.about)
