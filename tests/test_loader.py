"""What an iteration of the meta-training draws."""

import pytest
import torch
from conftest import ROOT, SMOKE

from metastyle.config import InputError
from metastyle.core import crops
from metastyle.meta.loader import Images, MetaTraining, crop_size, draw_crops, draw_tasks


@pytest.fixture(scope="module")
def settings():
    return MetaTraining.read(SMOKE, "meta_train")


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
    many = settings.changed(styles_per_iteration=3, inner_steps=2)
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
    first, again, later = (draw_crops(i, images, settings)[0] for i in (5, 5, 6))
    other = draw_crops(5, images, settings.changed(seed=1))[0]
    assert torch.equal(first.query, again.query)
    assert torch.equal(first.painting, again.painting)
    assert not torch.equal(first.query, later.query)
    assert not torch.equal(first.query, other.query)
    assert torch.equal(state, torch.random.get_rng_state())


def test_too_few_images_for_a_batch(images):
    with pytest.raises(InputError, match="batch of 4 needs as many images, 1 given"):
        crops.draw(images.inner[:1], 4, 0)


def test_crops_grow_for_the_last_iterations(settings, images):
    grown = settings.changed(iterations=5, last_iterations=2, last_size=48)
    assert [crop_size(i, grown) for i in range(1, 6)] == [32, 32, 32, 48, 48]
    drawn = draw_crops(4, images, grown)[0]
    shapes = {tuple(batch.shape[2:]) for batch in (drawn.painting, drawn.query, *drawn.supports)}
    assert shapes == {(48, 48)}
    assert crop_size(5, settings.changed(iterations=5, last_iterations=0)) == settings.size
