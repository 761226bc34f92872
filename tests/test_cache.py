"""What is kept comes back unchanged, and only where everything that decides it is the same."""

import numpy as np
import pandas as pd
import pytest
import torch

from metastyle.core import cache
from metastyle.core.network import new_network

LOSSES = "metastyle.core.losses"


def key(*decides):
    return cache.key(*decides, by=[LOSSES])


def test_a_table_comes_back_to_the_last_bit_without_being_computed_again(tmp_path):
    losses = np.exp(np.random.default_rng(0).normal(0, 30, 1000))
    table = pd.DataFrame({"name": "a", "loss": losses, "update": range(1000)})
    calls = []

    def compute():
        calls.append(1)
        return table

    for file, times in ((tmp_path / "a" / "1.csv", 1), (tmp_path / "a" / "2.csv", 2), (None, 4)):
        for _ in range(2):
            pd.testing.assert_frame_equal(cache.kept_table(file, compute), table)
        assert len(calls) == times


def test_tensors_come_back_to_the_last_bit_without_being_computed_again(tmp_path):
    made = {"image": torch.randn(1, 3, 5, 4).transpose(2, 3), "losses": torch.randn(3).double()}
    calls = []

    def compute():
        calls.append(1)
        return made

    for file, times in ((tmp_path / "1.safetensors", 1), (None, 3)):
        for _ in range(2):
            found = cache.kept_tensors(file, compute)
            assert found.keys() == made.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in made.items())
            assert found["losses"].dtype == torch.float64
        assert len(calls) == times


def test_a_computation_that_fails_leaves_nothing(tmp_path):
    for keep, suffix in ((cache.kept_table, "csv"), (cache.kept_tensors, "safetensors")):
        with pytest.raises(ZeroDivisionError):
            keep(tmp_path / f"kept.{suffix}", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_the_key_changes_with_values_files_and_networks(tmp_path, loss):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"1")
    network, moved = new_network(0), new_network(0)
    with torch.no_grad():
        next(moved.parameters())[0, 0, 0, 0] += 1e-6
    different = [
        [], [1], ["1"], [1, 2], [[1, 2]], [None], [one], [two], [loss.settings],
        [loss.settings.changed(style_weight=1.0)], [network], [moved],
        [torch.zeros(2)], [torch.zeros(1, 2)], [torch.zeros(2).double()],
    ]  # fmt: skip
    assert len({key(*values) for values in different}) == len(different)
    assert key(new_network(0)) == key(network)
    before = key(one)
    one.write_bytes(b"2")
    assert key(one) != before


def test_the_key_changes_with_the_code_and_with_versions(monkeypatch):
    before = key(1)
    assert cache.key(1, by=["metastyle.core.images"]) != before
    with pytest.raises(ValueError, match=r"metastyle\.nothing"):
        cache.key(1, by=["metastyle.nothing"])
    with monkeypatch.context() as patch:
        patch.setattr(cache.code, "digest", lambda *modules: "other code")
        assert key(1) != before
    with monkeypatch.context() as patch:
        patch.setattr(cache, "version", lambda package: "0")
        assert key(1) != before
    assert key(1) == before


def test_a_training_goes_on_from_its_state_to_the_last_bit(tmp_path):
    def start():
        parameters = {
            name: torch.ones(3, requires_grad=True) for name in ("seen", "sometimes", "never")
        }
        return parameters, torch.optim.Adam(parameters.values(), lr=0.1)

    def train(parameters, optimiser, steps):
        for step in steps:
            optimiser.zero_grad()
            seen = parameters["seen"] + (parameters["sometimes"] if step > 2 else 0)
            (seen * torch.arange(3.0) + step).square().sum().backward()
            optimiser.step()

    whole = start()
    train(*whole, range(6))
    first = start()
    train(*first, range(3))
    parts = {"run": {"log": torch.rand(2, 3).double()}, "average": {"seen": torch.rand(3)}}
    cache.save_state(tmp_path / "state.safetensors", *first, parts)
    resumed = start()
    found = cache.load_state(tmp_path / "state.safetensors", *resumed)
    assert found.keys() == parts.keys()
    for group, tensors in parts.items():
        assert all(torch.equal(found[group][name], tensor) for name, tensor in tensors.items())
    train(*resumed, range(3, 6))
    for name, parameter in whole[0].items():
        assert torch.equal(parameter, resumed[0][name]), name
