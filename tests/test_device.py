"""One setting says where a process computes, and nothing else asks."""

import threading

import pytest
import torch
from conftest import ROOT

from metastyle.config import InputError, Project
from metastyle.core import device
from metastyle.core.checkpoint import load_network, save_network
from metastyle.core.device import Compute
from metastyle.core.gradients import each
from metastyle.core.network import new_network


@pytest.fixture(autouse=True)
def as_before():
    yield
    device.use(Compute(device="cpu"))  # as conftest


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_the_setting_decides_and_auto_takes_what_there_is(gpu, monkeypatch):
    for setting, kind in (("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")):
        device.use(Compute(device=setting))
        assert (device.chosen().type, device.on_gpu()) == (kind, kind == "cuda")
    device.use(Compute())
    monkeypatch.setenv("LOCAL_RANK", "3")  # of torchrun
    assert device.chosen() == torch.device("cuda", 3)
    assert device.captures()
    device.use(Compute(capture=False))
    assert not device.captures()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.chosen() == torch.device("cpu")
    assert not device.captures()


def test_a_gpu_asked_for_in_vain_is_an_error_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^compute.device: no CUDA device here; use auto or cpu$"):
        device.use(Compute(device="cuda"))


def test_a_project_says_where_its_networks_go(tmp_path, gpu, monkeypatch):
    (tmp_path / "dvc.yaml").touch()
    params = tmp_path / "params.yaml"
    params.write_text("paths: {inputs: a, outputs: b}\ncompute: {device: cpu, capture: false}\n")
    device.use(Project(params))
    save_network(tmp_path / "n.safetensors", dict(new_network(0).named_parameters()), {})
    loaded = load_network(tmp_path / "n.safetensors")
    assert next(loaded.parameters()).device.type == "cpu"


def test_no_thread_pool_drives_a_gpu(gpu):
    device.use(Compute(device="cuda"))
    assert set(each(lambda _: threading.get_ident(), range(4))) == {threading.get_ident()}


def test_nothing_else_in_the_library_asks():
    for file in sorted((ROOT / "metastyle").rglob("*.py")):
        if file.stem != "device":
            assert "cuda.is_available" not in file.read_text(), file
