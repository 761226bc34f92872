"""Replayed steps, with a stand-in for the GPU: the order of calls, and plain ones' numbers."""

import copy
import logging
from types import SimpleNamespace

import pytest
import small_training
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metastyle.adaptation.adapt import Adaptation, training_steps
from metastyle.core import capture, convolutions
from metastyle.core.capture import Replayed
from metastyle.core.crops import Augmentation
from metastyle.core.gradients import in_this_thread
from metastyle.core.losses import PerceptualLoss
from metastyle.core.network import new_network
from metastyle.meta.loader import Contents, Phase
from metastyle.meta.step import Step
from metastyle.meta.train import new_state


class Recorder:
    """What a capture promises: the call is recorded, not run, and a replay runs it again on the
    inputs where they were."""

    def __init__(self, broken: bool = False) -> None:
        self.broken, self.did = broken, []

    def aside(self, call):
        self.did.append("aside")
        return call()

    def capture(self, call):
        self.did.append("capture")
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing\nat line 7")
        result = torch.empty(0)

        def replay():
            self.did.append("replay")
            result.data = call()

        return replay, result


def added(graphs):
    """A function with a memory, and that memory."""
    total = torch.zeros(2)

    def add(key, x, rate):
        total.add_(x.sum() * rate)
        return total * key

    return Replayed(add, graphs), total


def calls(replayed):
    rows = [(1, 3, 0.1), (1, 3, 0.2), (1, 3, 0.3), (1, 3, 0.4), (1, 4, 0.5), (2, 4, 0.6)]
    rows += [(2, 4, 0.7), (2, 4, 0.8), (1, 3, 0.9)]
    found = []
    for key, size, rate in rows:
        x = torch.full((size,), 2.0)
        found.append(replayed(key, x, torch.tensor(rate)).clone())
        x.fill_(9)  # a graph has its own place for it
    return torch.stack(found)


def test_each_call_counts_once_and_other_shapes_or_keys_begin_anew():
    plain, total = added(None)
    expected = calls(plain)
    recorder = Recorder()
    replayed, again = added(recorder)
    assert torch.equal(calls(replayed), expected) and torch.equal(total, again)
    warm = ["aside"] * capture.WARM
    first = [*warm, "capture", "replay", "replay"]
    assert recorder.did == [*first, "aside", *warm, "capture", "replay", "aside"]


def test_a_failing_capture_is_told_once_and_goes_on(caplog):
    plain, _ = added(None)
    replayed, _ = added(recorder := Recorder(broken=True))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(calls(replayed), calls(plain))
    assert recorder.did == ["aside"] * capture.WARM + ["capture"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "steps are not replayed as CUDA graphs, which costs time: "
        "operation not permitted when stream is capturing"
    )


def float64_tensor(value, on):
    return torch.full((), value, dtype=torch.float64)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Numbers come in tensors and steps are replayed, on the CPU; the recorders made."""
    made = []
    monkeypatch.setattr(capture, "scalar", float64_tensor)
    monkeypatch.setattr(capture, "graphs", lambda: made.append(Recorder()) or made[-1])
    return made


def test_a_replayed_training_is_the_plain_one(tmp_path, on_a_gpu, monkeypatch):
    replayed = small_training.train(tmp_path)
    (recorder,) = on_a_gpu
    # Two halves: one per phase, one for all.
    assert recorder.did.count("capture") == 3 + 1
    assert recorder.did.count("replay") == (20 - 3 * capture.WARM) + (20 - capture.WARM)
    monkeypatch.undo()
    plain = small_training.train(tmp_path)
    for name, expected in plain.theta.items():
        torch.testing.assert_close(replayed.theta[name], expected, rtol=1e-12, atol=1e-14)
    logs = [torch.tensor(state.log, dtype=torch.float64) for state in (replayed, plain)]
    torch.testing.assert_close(*logs, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_a_replayed_adaptation_is_the_plain_one(tmp_path, on_a_gpu, monkeypatch):
    settings = Adaptation(
        updates=8, learning_rate=1e-3, warmup=2, schedule="cosine", contents_per_batch=1,
        sizes=[16, 20], parameters="all", seed=0, style_size=16, photos=Augmentation(),
    )  # fmt: skip
    photos = small_training.small_images(tmp_path).inner

    def end():
        network = new_network(0)
        loss = small_training.SmallLoss(network)
        target = torch.eye(3)
        for step in training_steps(network, loss.of_parameters, target, photos, settings):
            last = step.network
        return dict(last.named_parameters())

    replayed = end()
    (recorder,) = on_a_gpu
    assert recorder.did == [*["aside"] * capture.WARM, "capture", "replay", "replay"] * 2
    monkeypatch.undo()
    for name, expected in end().items():
        torch.testing.assert_close(replayed[name], expected, rtol=1e-5, atol=1e-7)


def test_on_a_processor_numbers_stay_numbers_and_nothing_is_replayed():
    assert capture.scalar(0.25, torch.device("cpu")) == 0.25
    assert capture.graphs() is None
    optimiser = capture.adam([torch.zeros(2, requires_grad=True)], 0.5)
    assert optimiser.defaults["lr"] == 0.5 and not optimiser.defaults["capturable"]
    capture.set_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] == 0.25
    optimiser.param_groups[0]["lr"] = place = torch.tensor(0.5)
    capture.set_rate(optimiser, torch.tensor(0.125))
    assert optimiser.param_groups[0]["lr"] is place and place == 0.125


class NoQuestions(TorchDispatchMode):
    """Refuses what a capture would: asking for a value, and bringing one from the CPU."""

    refused = ("_local_scalar_dense", "lift_fresh", "nonzero", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.refused, f"{name} cannot be captured"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("inner_steps", "clip"), [(0, None), (1, None), (1, 0.1)])
def test_a_step_asks_for_no_value_and_brings_none(loss, inner_steps, clip, monkeypatch):
    """The real loss and network in bfloat16, by the kernels for CUDA; without Adam's step, which
    PyTorch vouches for (`capturable`)."""
    monkeypatch.setattr(convolutions, "suits", lambda _: "cuda")
    monkeypatch.setattr(capture, "scalar", lambda value, on: torch.full((), value))
    s = small_training.settings(styles_per_iteration=2)
    cpu = PerceptualLoss(copy.deepcopy(loss.vgg).cpu(), loss.settings)
    computed = cpu.to_precision("bfloat16", whole=True)
    state = new_state(s, torch.device("cpu"), new_network(0))
    rates = SimpleNamespace(param_groups=[{"lr": torch.tensor(0.0)}], step=lambda: None)
    step = Step(state.theta, rates, s, cpu, computed)
    photos = torch.rand(2, 3, 16, 16)
    given = [Contents(photos[:1], [photos] * inner_steps, photos)] * 2
    inner = {"inner_steps": inner_steps, "inner_learning_rate": 1e-4, "inner_clip": clip}
    phase = Phase(iterations=1, size=16, **inner)
    with in_this_thread():
        step.update(step.gradient(given, phase, 0.5), 0.1)  # warm
        flat = [t for c in given for t in (c.painting, *c.supports, c.query)]
        numbers = torch.tensor(1e-4), torch.tensor(0.5), torch.tensor(0.1)
        with NoQuestions():
            whole = step._styles((inner_steps, "second", clip), *numbers[:2], *flat)
            step._clip_and_step(None, whole, numbers[2])
        assert rates.param_groups[0]["lr"] == numbers[2]
        with pytest.raises(AssertionError, match="_local_scalar_dense"), NoQuestions():
            whole[0].item()
