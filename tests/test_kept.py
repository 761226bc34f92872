"""What is kept comes back unchanged, and only where everything that decides it is the same."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from metastyle.core.cache import fingerprint, kept_table
from metastyle.core.network import new_network


def test_a_table_comes_back_to_the_last_bit_without_being_computed_again(tmp_path):
    losses = np.exp(np.random.default_rng(0).normal(0, 30, 1000))
    table = pd.DataFrame({"name": "a", "loss": losses, "update": range(1000)})
    calls = []

    def compute():
        calls.append(1)
        return table

    for _ in range(2):
        pd.testing.assert_frame_equal(kept_table(tmp_path, ["x", 1], compute), table)
    assert len(calls) == 1
    kept_table(tmp_path, ["x", 2], compute)
    assert len(calls) == 2


def test_a_computation_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        kept_table(tmp_path, [], lambda: 1 / 0)
    assert not list(tmp_path.rglob("*.csv"))


def test_the_fingerprint_sees_values_files_and_networks(tmp_path, perceptual):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"1")
    network = new_network(0)
    moved = new_network(0)
    with torch.no_grad():
        next(moved.parameters())[0, 0, 0, 0] += 1e-6
    different = [
        [], [1], ["1"], [1, 2], [[1, 2]], [one], [two], [perceptual],
        [perceptual.model_copy(update={"style_weight": 1.0})],
        [network], [moved], [torch.zeros(2)], [torch.zeros(1, 2)],
    ]  # fmt: skip
    assert len({fingerprint(*values) for values in different}) == len(different)
    assert fingerprint(new_network(0)) == fingerprint(network)
    before = fingerprint(one)
    one.write_bytes(b"2")
    assert fingerprint(one) != before


def test_the_fingerprint_sees_the_code_in_use_alone(tmp_path, monkeypatch):
    source = tmp_path / "extra.py"
    source.write_text("one = 1\n")
    without = fingerprint()
    for name, counts in (("metastyle.extra", True), ("metastyler", False)):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, SimpleNamespace(__file__=str(source)))
            assert (fingerprint() != without) == counts
