"""What a call costs: operations counted, memory of a process that does nothing else."""

import pytest
import torch

from metastyle.core import gradients
from metastyle.core.network import new_network
from metastyle.evaluation import operations


def test_operations_are_the_papers_multiply_adds():
    network = new_network(0)
    side = 64
    with torch.no_grad():
        counted = operations.operations(lambda: network(torch.rand(1, 3, side, side)))
    # 10.08 GMAC at 256 px, a multiplication and an addition each, in proportion to the pixels.
    assert counted == pytest.approx(2 * 10.08 * (side / 256) ** 2, rel=1e-3)


def test_operations_of_every_image_are_counted():
    a = torch.rand(40, 30)

    def step():
        gradients.each(lambda image: a @ image, [torch.rand(30, 20) for _ in range(5)])

    assert operations.operations(step) == pytest.approx(5 * 2 * 40 * 30 * 20 / 1e9)


def test_the_better_ceiling_of_a_format_counts():
    rates = {"matrix product float32": 3.0, "convolution float32": 5.0, "convolution bfloat16": 9.0}
    assert operations.ceiling(rates) == 5.0
    assert operations.ceiling(rates, "bfloat16") == 9.0


def test_a_peak_is_of_what_was_held_since():
    try:
        before = operations.forget_peak()
    except OSError:
        pytest.skip("this system tells no peak")
    torch.zeros(2**26).fill_(1.0)  # 0.25 GiB
    assert 0.2 < operations.peak() - before < 0.4


def test_a_failed_child_tells_why():
    with pytest.raises(RuntimeError, match="no_such_module"):
        operations.in_child("no_such_module")
