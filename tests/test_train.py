"""The outer loop: its schedules, its steps, a kill that leaves no trace, and the stored run."""

import copy
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, SMOKE
from safetensors.torch import save

from metastyle.config import Project
from metastyle.core import checkpoint
from metastyle.core.checkpoint import load_tensors, save_network
from metastyle.core.losses import load_loss
from metastyle.core.network import new_network, parameter_names
from metastyle.meta import train
from metastyle.meta.loader import Images, MetaTraining
from metastyle.meta.replay import replay

# Processes are forks of one that has imported torch but not used it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["metastyle.meta.train"])


def few_images() -> Images:
    photos = sorted((ROOT / "data/photos").iterdir())
    return Images(photos[:3], photos[3:6], sorted((ROOT / "data/artworks").iterdir())[:3])


@pytest.fixture(scope="module")
def settings():
    return MetaTraining.read(SMOKE, "meta_train")


@pytest.fixture(scope="module")
def images():
    return few_images()


def test_schedules(settings):
    s = settings.changed(learning_rate=1.0, warmup=10, decay=0.1, style_warmup=100)
    assert train.learning_rate(5, s) == pytest.approx(0.5 / 1.5)
    assert train.learning_rate(20, s) == pytest.approx(1 / 3)
    assert [train.style_share(i, s) for i in (25, 100, 300)] == [0.25, 1, 1]
    assert train.style_share(1, settings) == 1
    exact = settings.changed(exact_iterations=2)
    assert [train.order(i, exact) for i in (1, 2, 3)] == ["second", "second", "first"]
    assert train.order(9, settings.changed(exact_iterations=None)) == "second"


def test_state_is_keyed_by_what_determines_it(settings, images, loss):
    base = train.key(settings, images, loss)
    assert train.key(settings.changed(checkpoint_minutes=9.0), images, loss) == base
    other = copy.deepcopy(loss)
    other.vgg.bias1_1[0] += 1
    for changed in (
        (settings.changed(seed=9), images, loss),
        (settings, images, loss.changed(style_weight=9.0)),
        (settings, images._replace(inner=images.inner[1:]), loss),
        (settings, images, other),
    ):
        assert train.key(*changed) != base


def test_settings_reach_the_mathematics(settings, images, loss, monkeypatch):
    """What Algorithm 1 is told, and Adam's step on a gradient that is known."""
    s = settings.changed(
        iterations=2, exact_iterations=1, inner_steps=2, inner_learning_rate=0.5,
        inner_parameters="instance_norm", styles_per_iteration=3, warmup=4, style_warmup=8,
        average_last=0, clip_norm=None,
    )  # fmt: skip
    told = []

    def constant(theta, tasks, function, **options):
        told.append((tasks, options))
        report = function(dict(theta), tasks[0].style, tasks[0].query)[1]
        return {name: torch.ones_like(p) for name, p in theta.items()}, [report]

    monkeypatch.setattr(train, "meta_gradient", constant)
    found = train.meta_train(s, images, loss)

    start = dict(new_network(s.seed).named_parameters())
    norms = parameter_names("instance_norm")
    for (tasks, options), order in zip(told, ("second", "first"), strict=True):
        assert options == {"delta": 0.5, "order": order, "inner": norms}
        assert [len(task.supports) for task in tasks] == [2, 2, 2]
    # On a constant gradient Adam's step is the learning rate.
    moved = sum(train.learning_rate(i, s) for i in (1, 2))
    for name, p in found.network.named_parameters():
        torch.testing.assert_close(p.cpu(), start[name] - moved, rtol=0, atol=1e-6)
    # The style weight of the loss is the ramp's, an eighth and two eighths.
    for share, row in zip((1 / 8, 2 / 8), found.log.itertuples(), strict=True):
        style = share * loss.settings.style_weight * row.style
        assert row.loss == pytest.approx(row.content + style, rel=1e-4)
    size = sum(p.numel() for p in start.values())
    assert found.log["gradient_norm"].tolist() == pytest.approx([size**0.5] * 2, rel=1e-5)


def write_half_and_die(tensors, path, metadata):
    Path(path).write_bytes(save(tensors, metadata)[:1000])
    os.kill(os.getpid(), signal.SIGKILL)


def train_here(folder: Path, out: Path, kill_at: int, moment: str) -> None:
    """A run of four iterations, its files below `out`; after iteration `kill_at`, or half way
    through saving it, the process kills itself."""
    project = Project(SMOKE)
    settings = MetaTraining.read(project, "meta_train").changed(
        iterations=4, checkpoint_minutes=0.0, average_last=3, snapshots=[0, 2, 3, 4],
        last_iterations=2, last_size=48,
    )  # fmt: skip
    began = None
    for state in train.training(settings, few_images(), load_loss(project), folder=folder):
        done = len(state.log)
        began = done if began is None else began
        if moment == "after" and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if moment == "saving" and done == kill_at - 1:
            checkpoint.save_file = write_half_and_die
    found = train.result(state)
    save_network(out / "network.safetensors", dict(found.network.named_parameters()), {})
    for iteration, snapshot in found.snapshots.items():
        save_network(out / f"{iteration}.safetensors", snapshot, {})
    found.log.to_csv(out / "log.csv")
    (out / "began.txt").write_text(str(began))


def exit_code(folder: Path, out: Path, kill_at: int = 0, moment: str = "never") -> int:
    process = PROCESSES.Process(target=train_here, args=(folder, out, kill_at, moment))
    process.start()
    process.join()
    return process.exitcode


def test_killed_and_resumed_runs_end_bit_for_bit_the_same(tmp_path):
    whole = tmp_path / "whole"
    assert exit_code(tmp_path / "state", whole) == 0
    results = sorted(file.name for file in whole.iterdir() if file.name != "began.txt")
    assert results == [
        *(f"{i}.safetensors" for i in (0, 2, 3, 4)), "log.csv", "network.safetensors",
    ]  # fmt: skip
    for moment, kept in (("after", 3), ("saving", 2)):
        folder, out = tmp_path / f"state {moment}", tmp_path / moment
        assert exit_code(folder, out, 3, moment) == -signal.SIGKILL
        assert not out.exists()
        assert exit_code(folder, out) == 0
        assert (out / "began.txt").read_text() == str(kept)  # it went on
        for name in results:
            assert (whole / name).read_bytes() == (out / name).read_bytes(), (moment, name)

    # What comes out is the mean of the last three iterations, the first of them before the kill.
    last = [load_tensors(whole / f"{i}.safetensors")[0] for i in (2, 3, 4)]
    for name, value in load_tensors(whole / "network.safetensors")[0].items():
        torch.testing.assert_close(value, sum(tensors[name] for tensors in last) / 3)


def test_the_code_still_computes_the_stored_run():
    """The first iterations of the reference run, as `metastyle replay` does them."""
    table = replay(Project(ROOT / "params.yaml"), 5)
    assert table.index.tolist() == [*range(1, 6)]
    assert table["difference"].abs().max() < 1e-3


def test_another_run_is_not_the_stored_one(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    data = {name: str(ROOT / "data" / name) for name in ("photos", "artworks")}
    values = {
        "extends": str(ROOT / "params.yaml"),
        "paths": {"inputs": str(ROOT / "results")},
        "data": data | {"vgg": str(ROOT / "data/vgg16.safetensors")},
        "perceptual": {"content_weight": 1.1},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    table = replay(Project(tmp_path / "params.yaml"), 1)
    assert table["difference"].abs().max() > 1e-2
