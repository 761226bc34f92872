"""The outer loop: its schedules, its steps, a kill that leaves no trace, and the stored run."""

import copy
import multiprocessing
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE
from safetensors.torch import save

from metastyle.config import Project
from metastyle.core import checkpoint
from metastyle.core.checkpoint import load_tensors, save_network
from metastyle.core.losses import REPORT, load_loss
from metastyle.core.network import new_network, parameter_names
from metastyle.meta import step, train
from metastyle.meta.bilevel import Outcome
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
        (settings, images, loss, new_network(0)),
        (settings.first(2), images, loss),
    ):
        assert train.key(*changed) != base


def test_settings_reach_the_mathematics(settings, images, loss, monkeypatch):
    """What Algorithm 1 is told, and Adam's step on a gradient that is known."""
    phase = {"iterations": 1, "size": 32, "inner_steps": 2, "inner_learning_rate": 0.5}
    s = settings.changed(
        phases=[phase | {"inner_clip": 3.0}, phase | {"order": "first", "inner_steps": 1}],
        inner_parameters="instance_norm", styles_per_iteration=3, warmup=4, style_warmup=8,
        average_last=0, clip_norm=None, cosines_every=0,
    )  # fmt: skip
    loss, told = loss.changed(range_weight=0.0, spike_weight=0.0), []

    def constant(theta, tasks, function, **options):
        told.append((tasks, options))
        report = function(dict(theta), tasks[0].style, tasks[0].query)[1]
        changes = ((2, 1), (4, 5)), ((1, 3), (1, 2)), ((4, 7), (8, 13))
        changes = [
            [tuple(torch.tensor(float(v)) for v in pair) for pair in change] for change in changes
        ]
        outcomes = [Outcome(report, *change) for change in changes]
        return {name: torch.ones_like(p) for name, p in theta.items()}, outcomes

    monkeypatch.setattr(step, "meta_gradient", constant)
    begun = new_network(77)
    found = train.meta_train(s, images, loss, start=begun)

    start = dict(begun.named_parameters())
    norms = parameter_names("instance_norm")
    orders, clips = ("second", "first"), (3.0, None)
    for (tasks, options), order, clip, steps in zip(told, orders, clips, (2, 1), strict=True):
        expected = {"delta": 0.5, "order": order, "inner": norms, "clip": clip, "probe": True}
        assert options == expected
        assert [len(task.supports) for task in tasks] == [steps] * 3
    # On a constant gradient Adam's step is the learning rate.
    moved = sum(train.learning_rate(i, s) for i in (1, 2))
    for name, p in found.network.named_parameters():
        torch.testing.assert_close(p.cpu(), start[name] - moved, rtol=0, atol=1e-6)
    # The style weight of the loss is the ramp's, an eighth and two eighths.
    for share, row in zip((1 / 8, 2 / 8), found.log.itertuples(), strict=True):
        style = share * loss.settings.style_weight * row.style
        assert row.loss == pytest.approx(row.content + style, rel=1e-4)
    # What inner steps change is a share of what was before, a mean over the styles.
    assert found.log.columns.tolist() == train.COLUMNS
    assert found.log["support_change"].tolist() == [0.75, 0.75]  # of -1/2, 2 and 3/4
    assert found.log["query_change"].tolist() == [0.625, 0.625]  # of 1/4, 1 and 5/8
    assert found.log["inner_learning_rate"].tolist() == [0.5, 0.5]
    assert found.log[["joint", "first_order", "second_order_share"]].isna().all(axis=None)
    size = sum(p.numel() for p in start.values())
    assert found.log["gradient_norm"].tolist() == pytest.approx([size**0.5] * 2, rel=1e-5)


def test_what_is_logged_of_each_phase(settings, images, loss):
    phase = {"iterations": 1, "size": 32, "inner_steps": 0, "inner_learning_rate": 1e-5}
    stepped = phase | {"inner_steps": 1, "iterations": 2}
    s = settings.changed(phases=[phase, stepped], cosines_every=1, snapshots=[], warmup=0)
    log = train.meta_train(s, images, loss).log
    assert log["iteration"].tolist() == [1, 2, 3]
    whole = ["iteration", *REPORT, "gradient_norm", "learning_rate", "inner_learning_rate"]
    assert log[whole].notna().all(axis=None) and (log["gradient_norm"] > 0).all()
    # Joint training has no inner step, so nothing to compare.
    others = [name for name in train.COLUMNS if name not in whole]
    assert log[others].isna().all(axis=1).tolist() == [True, False, False]
    assert log[others][1:].notna().all(axis=None)
    assert log["joint"][1:].between(-1, 1).all() and (log["second_order_share"][1:] > 0).all()
    some = train.meta_train(s.changed(cosines_every=3), images, loss).log
    assert some["joint"].isna().tolist() == [True, True, False]
    # To compare directions changes nothing else.
    assert some[whole].equals(log[whole])


def test_a_run_goes_on_from_a_given_start(settings, images, loss):
    s = settings.first(1).changed(snapshots=[0], average_last=0)
    start = new_network(5)
    given, random = (train.meta_train(s, images, loss, start=n) for n in (start, None))
    for name, p in start.named_parameters():
        assert torch.equal(given.snapshots[0][name], p.detach())
    assert given.log["loss"][0] != random.log["loss"][0]
    drawn = train.meta_train(s, images, loss, start=new_network(s.seed))
    assert drawn.log["loss"][0] == random.log["loss"][0]


def write_half_and_die(tensors, path, metadata):
    Path(path).write_bytes(save(tensors, metadata)[:1000])
    os.kill(os.getpid(), signal.SIGKILL)


def train_here(folder: Path, out: Path, kill_at: int, moment: str) -> None:
    """A run of four iterations, its files below `out`; after iteration `kill_at`, or half way
    through saving it, the process kills itself."""
    project = Project(SMOKE)
    phase = {"iterations": 2, "size": 32, "inner_steps": 0, "inner_learning_rate": 1e-5}
    settings = MetaTraining.read(project, "meta_train").changed(
        checkpoint_minutes=0.0, average_last=3, snapshots=[0, 2, 3, 4], cosines_every=4,
        phases=[phase, phase | {"size": 48, "inner_steps": 1}],
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

    # Values that were not measured are in the log of a run that was killed as in that of one
    # that was not; files alike to the byte say so.
    log = pd.read_csv(whole / "log.csv")
    assert log["joint"].isna().tolist() == [True, True, True, False]

    # What comes out is the mean of the last three iterations, the first of them before the kill.
    last = [load_tensors(whole / f"{i}.safetensors")[0] for i in (2, 3, 4)]
    for name, value in load_tensors(whole / "network.safetensors")[0].items():
        torch.testing.assert_close(value, sum(tensors[name] for tensors in last) / 3)


STORED = pytest.mark.skipif(
    not (ROOT / "results/meta_train/log.csv").is_file(), reason="no results: its run is pending"
)


@STORED
def test_the_code_still_computes_the_stored_run():
    """The first iterations of the reference run, as `metastyle replay` does them."""
    table = replay(Project(ROOT / "params.yaml"), 5)
    assert table.index.tolist() == [*range(1, 6)]
    assert table["difference"].abs().max() < 1e-3


@STORED
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
