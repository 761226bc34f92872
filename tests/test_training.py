"""The outer loop: its batches, its schedule, and a kill that leaves no trace."""

import copy
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE

from metastyle.core import crops
from metastyle.meta import train
from metastyle.studies.model_card import card, fingerprint
from metastyle.core.checkpoint import load_tensors
from metastyle.config import InputError
from metastyle.config import load, read
from metastyle.meta.replay import replay
from metastyle.meta.train import (
    Images,
    MetaTraining,
    crop_size,
    draw_tasks,
    key,
    learning_rate,
    perceptual_at,
)
from metastyle.core.network import new_network, parameter_names


@pytest.fixture(scope="module")
def settings():
    return read(SMOKE, "meta_train", MetaTraining)


@pytest.fixture(scope="module")
def images(sets):
    return Images(sets["photo/inner"], sets["photo/outer"], sets["artwork/train"])


def test_tasks_draw_support_from_inner_and_query_from_outer(
    settings, images, vgg, perceptual, monkeypatch
):
    many = settings.model_copy(update={"styles_per_iteration": 3, "inner_steps": 2})
    seen = {}

    def spy(files, *args):
        made = crops(files, *args)
        seen[made.data_ptr()] = files
        return made

    crops = batches.crops
    monkeypatch.setattr(batches, "crops", spy)
    tasks = draw_tasks(1, images, many, vgg, perceptual)
    assert len(tasks) == 3
    supports = [support for task in tasks for support in task.supports]
    assert [len(task.supports) for task in tasks] == [2, 2, 2]
    for support in supports:
        assert set(seen[support.data_ptr()]) <= set(images.inner)
    for task in tasks:
        assert set(seen[task.query.data_ptr()]) <= set(images.outer)
    # A fresh batch for every step and style.
    assert len({support.numpy().tobytes() for support in supports}) == len(supports)


def test_batches_depend_on_seed_and_iteration_alone(settings, images, vgg, perceptual):
    first, again, later = (draw_tasks(i, images, settings, vgg, perceptual)[0] for i in (5, 5, 6))
    assert torch.equal(first.query, again.query)
    assert not torch.equal(first.query, later.query)
    state = torch.random.get_rng_state()
    draw_tasks(7, images, settings, vgg, perceptual)
    assert torch.equal(state, torch.random.get_rng_state())


def test_too_few_images_for_a_batch(images):
    with pytest.raises(InputError, match="batch of 4 needs as many images, 1 given"):
        batches.draw(images.inner[:1], 4, 0)


def test_schedules(settings, perceptual):
    s = settings.model_copy(update={"learning_rate": 1.0, "warmup": 10, "decay": 0.1})
    assert learning_rate(5, s) == pytest.approx(0.5 / 1.5)
    assert learning_rate(20, s) == pytest.approx(1 / 3)
    ramp = settings.model_copy(update={"style_warmup": 100})
    assert perceptual_at(25, ramp, perceptual).style_weight == perceptual.style_weight / 4
    assert perceptual_at(300, ramp, perceptual) == perceptual


def test_state_is_keyed_by_what_determines_it(settings, perceptual, images, vgg):
    base = key(settings, perceptual, images, vgg)
    seldom = settings.model_copy(update={"checkpoint_minutes": 9.0})
    assert key(seldom, perceptual, images, vgg) == base
    other_vgg = copy.deepcopy(vgg)
    other_vgg.bias1_1[0] += 1
    for changed in (
        (settings.model_copy(update={"seed": 9}), perceptual, images, vgg),
        (settings, perceptual.model_copy(update={"style_weight": 9.0}), images, vgg),
        (settings, perceptual, images._replace(inner=images.inner[1:]), vgg),
        (settings, perceptual, images, other_vgg),
    ):
        assert key(*changed) != base


def test_settings_reach_the_mathematics(settings, perceptual, images, vgg, monkeypatch):
    """What Algorithm 1 is told, and Adam's step on a gradient that is known."""
    s = settings.model_copy(
        update={"iterations": 2, "exact_iterations": 1, "inner_steps": 2,
                "inner_learning_rate": 0.5, "inner_parameters": "instance_norm",
                "styles_per_iteration": 3, "warmup": 4, "style_warmup": 8,
                "average_last": 0, "clip_norm": None}
    )  # fmt: skip
    told = []

    def constant(theta, tasks, loss, **options):
        told.append((tasks, loss, options))
        report = loss(dict(theta), tasks[0].style, tasks[0].query)[1]
        return {name: torch.ones_like(p) for name, p in theta.items()}, [report]

    monkeypatch.setattr(training, "meta_gradient", constant)
    trained, log, _, _ = training.meta_train(s, perceptual, images, vgg)

    start = dict(new_network(s.seed).named_parameters())
    norms = parameter_names(new_network(0), "instance_norm")
    for (tasks, _, options), order in zip(told, ("second", "first"), strict=True):
        assert options == {"delta": 0.5, "order": order, "inner": norms}
        assert [len(task.supports) for task in tasks] == [2, 2, 2]
    # On a constant gradient Adam's step is the learning rate.
    moved = sum(learning_rate(i, s) for i in (1, 2))
    for name, p in trained.named_parameters():
        torch.testing.assert_close(p.cpu(), start[name] - moved, rtol=0, atol=1e-6)
    # The style weight of the loss is the ramp's, an eighth and two eighths.
    for share, row in zip((1 / 8, 2 / 8), log.itertuples(), strict=True):
        style = share * perceptual.style_weight * row.style
        assert row.loss == pytest.approx(row.content + style, rel=1e-4)
    size = sum(p.numel() for p in start.values())
    assert log["gradient_norm"].tolist() == pytest.approx([size**0.5] * 2, rel=1e-5)


def run(*arguments) -> subprocess.CompletedProcess:
    script = ROOT / "tests" / "train_process.py"
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(("moment", "lost"), [("after", 0), ("saving", 1)])
def test_killed_and_resumed_run_ends_bit_for_bit_the_same(tmp_path: Path, moment, lost):
    whole = run(tmp_path / "state-a", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = run(tmp_path / "state-b", tmp_path / "resumed", 3, moment)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "resumed").exists()
    resumed = run(tmp_path / "state-b", tmp_path / "resumed")
    assert resumed.returncode == 0, resumed.stderr
    # It did go on, not start over.
    assert resumed.stdout.split("\n")[0] == f"iteration {4 - lost}"
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == [*(f"{i}.safetensors" for i in (0, 2, 3, 4)), "log.csv", "network.safetensors"]
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "resumed" / name
        ).read_bytes(), name

    # What comes out is the mean of the last three iterations, the first of them before the kill.
    last = [load_tensors(tmp_path / "resumed" / f"{i}.safetensors")[0] for i in (2, 3, 4)]
    for name, value in load_tensors(tmp_path / "resumed" / "network.safetensors")[0].items():
        torch.testing.assert_close(value, sum(tensors[name] for tensors in last) / 3)


def test_crops_grow_for_the_last_iterations(settings, images, vgg, perceptual):
    s = settings.model_copy(update={"iterations": 5, "last_iterations": 2, "last_size": 48})
    assert [crop_size(i, s) for i in range(1, 6)] == [32, 32, 32, 48, 48]
    task = draw_tasks(4, images, s, vgg, perceptual)[0]
    assert task.query.shape[2:] == task.supports[0].shape[2:] == (48, 48)
    alike = settings.model_copy(update={"iterations": 5, "last_iterations": 0})
    assert crop_size(5, alike) == settings.size


def test_card_counts_what_the_network_saw(settings, images, perceptual):
    network = new_network(0)
    parameters = dict(network.named_parameters())
    log = pd.DataFrame({"loss": [3.0, 1.0, 2.0]})
    sources = pd.DataFrame({"file": [f"x/{images.inner[0].name}"], "licence_class": ["CC0"]})
    few = Images(images.inner[:3], images.outer[:1], images.artworks[:2])
    made = card(
        parameters, log, settings, perceptual, few, sources, seconds=5400, machine="a machine"
    )
    for part in ("1,679,235", "1.5 h on a machine", "| 4: 3 not in the list of sources, 1 CC0 |"):
        assert part in made
    hashed = fingerprint(parameters)
    assert hashed[:16] in made
    assert hashed != fingerprint(dict(new_network(1).named_parameters()))


def test_the_code_still_computes_the_stored_run():
    """The first iterations of the reference run, as `metastyle replay` does them."""
    table = replay(ROOT / "params.yaml", 20)
    assert table.index.tolist() == [*range(1, 21)]
    assert table["difference"].abs().max() < 1e-2


def test_another_run_is_told_from_the_stored_one(tmp_path):
    values = load(ROOT / "params.yaml")
    values["perceptual"]["content_weight"] = 1.1
    values["paths"]["inputs"] = str(ROOT / "results")
    values["data"] |= {k: str(ROOT / values["data"][k]) for k in ("photos", "artworks", "vgg")}
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert replay(tmp_path / "params.yaml", 3)["difference"].abs().max() > 1e-2
