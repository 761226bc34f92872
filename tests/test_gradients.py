"""Images side by side: one core each, in order, and no trace left in the caller's thread."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ROOT

from metastyle.core import gradients


def test_each_item_has_one_core_of_its_own_and_a_single_item_has_all():
    before = torch.get_num_threads()

    def cores(item):
        (torch.rand(300, 300) @ torch.rand(300, 300)).sum()  # torch's own set-up of a thread
        return item, torch.get_num_threads(), threading.get_ident()

    done = gradients.each(cores, range(20))
    assert [item for item, _, _ in done] == list(range(20))
    assert {count for _, count, _ in done} == {1}
    assert threading.get_ident() not in {thread for _, _, thread in done}
    assert gradients.each(cores, [7]) == [(7, before, threading.get_ident())]
    for thread, inside in gradients.each(  # an `each` in an item stays in the item's thread
        lambda item: (threading.get_ident(), gradients.each(cores, range(item))), [2, 3]
    ):
        assert {(count, where) for _, count, where in inside} == {(1, thread)}
    with gradients.in_this_thread():
        assert {thread for _, _, thread in gradients.each(cores, range(3))} == {
            threading.get_ident()
        }
    assert torch.get_num_threads() == before


def test_gradient_of_a_batch_is_the_mean_over_its_images():
    generator = torch.Generator().manual_seed(0)
    w = {"a": torch.rand(3, generator=generator), "b": torch.rand(3, generator=generator)}
    batch = torch.rand(5, 3, generator=generator)

    def loss(p, style, x):
        value = (p["a"] * x).sum(1).square().mean() * style
        return value, value.detach()

    gradient, report = gradients.mean_gradient(loss, w, 2.0, batch, ["a", "b"])
    expected = 4 * ((batch @ w["a"])[:, None] * batch).mean(0)
    torch.testing.assert_close(gradient["a"], expected)
    assert torch.equal(gradient["b"], torch.zeros(3))  # a parameter that the loss does not use
    torch.testing.assert_close(report, 2 * (batch @ w["a"]).square().mean())


@pytest.mark.skipif(torch.get_num_threads() > 1, reason="these tests have several cores already")
def test_with_two_cores():
    files = ["tests/test_gradients.py", "tests/test_bilevel.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *files],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 skipped" in done.stdout
