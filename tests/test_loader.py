"""What an iteration of the meta-training draws."""

import pytest
import torch
from conftest import ROOT, SMOKE

from metastyle.config import InputError
from metastyle.core import crops
from metastyle.meta.loader import (
    Images,
    MetaTraining,
    crops_seen,
    draw_crops,
    draw_tasks,
    phase_at,
)


@pytest.fixture(scope="module")
def settings():
    return MetaTraining.read(SMOKE, "meta_train")


def in_phases(settings, *phases):
    """The settings with phases of so many iterations, size, inner steps and what else is given."""
    names = ("iterations", "size", "inner_steps")
    given = [dict(zip(names, phase, strict=False)) | (phase[3:] or ({},))[0] for phase in phases]
    return settings.changed(phases=given)


@pytest.fixture(scope="module")
def images():
    photos = sorted((ROOT / "data/photos").iterdir())
    return Images(photos[:6], photos[6:12], sorted((ROOT / "data/artworks").iterdir())[:4])


def test_support_is_from_inner_and_query_from_outer_photos(settings, images, loss, monkeypatch):
    seen, drawn = {}, crops.crops

    def spy(files, *rest):
        made = drawn(files, *rest)
        seen[made.numpy().tobytes()] = files
        return made

    monkeypatch.setattr(crops, "crops", spy)
    many = in_phases(settings.changed(styles_per_iteration=3), (1, 32, 2))
    tasks = draw_tasks(1, images, many, loss)
    assert [len(task.supports) for task in tasks] == [2, 2, 2]
    batches = [support.cpu().numpy().tobytes() for task in tasks for support in task.supports]
    for batch in batches:
        assert set(seen[batch]) <= set(images.inner)
    for task in tasks:
        assert set(seen[task.query.cpu().numpy().tobytes()]) <= set(images.outer)
    assert len(set(batches)) == len(batches)  # a fresh one for every step and style


def test_draws_depend_on_seed_and_iteration_alone(settings, images):
    state = torch.random.get_rng_state()
    first, again, later = (draw_crops(i, images, settings)[0] for i in (2, 2, 3))
    other = draw_crops(2, images, settings.changed(seed=1))[0]
    assert torch.equal(first.query, again.query)
    assert torch.equal(first.painting, again.painting)
    assert not torch.equal(first.query, later.query)
    assert not torch.equal(first.query, other.query)
    assert torch.equal(state, torch.random.get_rng_state())


def test_too_few_images_for_a_batch(images):
    with pytest.raises(InputError, match="batch of 4 needs as many images, 1 given"):
        crops.draw(images.inner[:1], 4, 0)


def test_each_iteration_has_its_phase_and_the_delta_of_it(settings):
    rising = {"inner_learning_rate": 0.4, "inner_warmup": 4, "inner_clip": 2.0}
    s = in_phases(settings, (2, 32, 0), (5, 48, 1, rising), (1, 64, 2, {"order": "first"}))
    assert s.iterations == 8
    found = [phase_at(iteration, s) for iteration in range(1, 9)]
    assert [phase.size for phase in found] == [32] * 2 + [48] * 5 + [64]
    assert [phase.inner_steps for phase in found] == [0] * 2 + [1] * 5 + [2]
    deltas = [phase.inner_learning_rate for phase in found]
    assert deltas == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0])
    assert [phase.order for phase in found] == ["second"] * 7 + ["first"]
    assert [phase.inner_clip for phase in found] == [None] * 2 + [2.0] * 5 + [None]
    with pytest.raises(ValueError, match="iteration 9 of a run of 8"):
        phase_at(9, s)


def test_a_phase_s_crops_have_its_size_and_number(settings, images):
    s = in_phases(settings.changed(contents_per_batch=2), (1, 32, 0), (1, 48, 3))
    for iteration, size, steps in ((1, 32, 0), (2, 48, 3)):
        drawn = draw_crops(iteration, images, s)[0]
        assert len(drawn.supports) == steps
        assert drawn.painting.shape == (1, 3, size, size)
        shapes = {tuple(batch.shape) for batch in (drawn.query, *drawn.supports)}
        assert shapes == {(2, 3, size, size)}


def test_the_first_iterations_are_those_of_the_whole_run(settings):
    s = in_phases(settings, (3, 32, 0), (5, 48, 1), (2, 64, 1))
    whole = [3, 5, 2]
    for iterations, expected in ((2, [2]), (3, [3]), (5, [3, 2]), (10, whole), (99, whole)):
        first = s.first(iterations)
        assert [phase.iterations for phase in first.phases] == expected
        for iteration in range(1, min(iterations, 10) + 1):
            found, wanted = (phase_at(iteration, run) for run in (first, s))
            assert found.changed(iterations=1) == wanted.changed(iterations=1)
    assert s.first(0).iterations == 0


def test_crops_seen_are_those_that_are_drawn(settings, images):
    s = in_phases(
        settings.changed(styles_per_iteration=3, contents_per_batch=2),
        (2, 32, 0), (1, 48, 1), (1, 64, 2),
    )  # fmt: skip
    batches = [
        batch
        for iteration in range(1, 5)
        for drawn in draw_crops(iteration, images, s)
        for batch in (*drawn.supports, drawn.query)
    ]
    pixels = sum(len(batch) * batch.shape[-1] ** 2 for batch in batches)
    assert crops_seen(s) == (sum(map(len, batches)), pixels)
