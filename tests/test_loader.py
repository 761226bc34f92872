"""What an iteration of the meta-training draws, by whom and from which files."""

import logging

import pytest
import torch
from conftest import ROOT, SMOKE

from metastyle.config import InputError
from metastyle.core import crops
from metastyle.core import images as image_files
from metastyle.core.crops import Cut
from metastyle.meta.loader import (
    Images,
    MetaTraining,
    contents,
    crops_seen,
    draw_crops,
    draw_tasks,
    iterations,
    phase_at,
)

PHASES = [
    {"iterations": 2, "size": 32, "inner_steps": 0},
    {"iterations": 3, "size": 48, "inner_steps": 2, "inner_learning_rate": 1.0, "inner_warmup": 2},
]


@pytest.fixture(scope="module")
def settings():
    whole = MetaTraining.read(SMOKE, "meta_train")
    return whole.changed(phases=PHASES, styles_per_iteration=3)


@pytest.fixture
def images(monkeypatch):
    crops.forget_decoded()
    photos = sorted((ROOT / "data/photos").iterdir())
    yield Images(photos[:6], photos[6:12], sorted((ROOT / "data/artworks").iterdir())[:5])
    crops.forget_decoded()


def flat(drawn) -> list[torch.Tensor]:
    return [t for d in drawn for cut in (d.painting, *d.supports, d.query) for t in cut]


def assert_same(one, other) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def test_support_is_from_inner_and_query_from_outer_photos(settings, images, loss, monkeypatch):
    seen, made = [], crops.cut_batch

    def spy(files, *rest):
        cut = made(files, *rest)
        seen.append((files, cut))
        return cut

    monkeypatch.setattr(crops, "cut_batch", spy)
    drawn = draw_crops(3, images, settings)
    of = {id(cut): files for files, cut in seen}
    for d in drawn:
        assert [of[id(cut)] for cut in d.supports] == [images.inner] * 2
        assert of[id(d.query)] == images.outer
    levels = [cut.levels.numpy().tobytes() for _, cut in seen]
    assert len(set(levels)) == len(levels) == 9  # a fresh one for every step and style
    tasks = draw_tasks(3, images, settings, loss)
    assert [len(task.supports) for task in tasks] == [2, 2, 2]
    on = loss.device
    assert torch.equal(tasks[1].query, drawn[1].query.on(on, settings.photos))


def test_draws_depend_on_seed_and_iteration_alone(settings, images):
    state = torch.random.get_rng_state()
    first, again, later = (draw_crops(i, images, settings) for i in (4, 4, 5))
    other = draw_crops(4, images, settings.changed(seed=1))
    assert_same([first], [again])
    assert not torch.equal(first[0].query.levels, later[0].query.levels)
    assert not torch.equal(first[0].query.shares, other[0].query.shares)
    assert torch.equal(state, torch.random.get_rng_state())
    assert {cut.levels.dtype for d in first for cut in (d.painting, d.query)} == {torch.uint8}
    some = draw_crops(4, images, settings, [2, 0])  # a process draws its own styles
    assert_same([some], [[first[2], first[0]]])


def test_phases_decide_sizes_steps_and_delta(settings, images):
    assert [phase_at(i, settings).size for i in range(1, 6)] == [32, 32, 48, 48, 48]
    assert [phase_at(i, settings).inner_learning_rate for i in (3, 4, 5)] == [0.5, 1, 1]
    for iteration, steps, size in ((2, 0, 32), (3, 2, 48)):
        for made in contents(
            draw_crops(iteration, images, settings), settings, torch.device("cpu")
        ):
            assert len(made.supports) == steps
            for batch in (made.painting, made.query, *made.supports):
                assert batch.shape[1:] == (3, size, size) and batch.dtype == torch.float32
                assert batch.min() >= 0 and batch.max() <= 1
    with pytest.raises(ValueError, match="iteration 6 of a run of 5"):
        phase_at(6, settings)
    clipped = in_phases(settings, (1, 32, 0), (1, 48, 1, {"inner_clip": 2.0, "order": "first"}))
    found = [phase_at(iteration, clipped) for iteration in (1, 2)]
    assert [(phase.inner_clip, phase.order) for phase in found] == [
        (None, "second"), (2.0, "first"),
    ]  # fmt: skip


def in_phases(settings, *phases):
    """The settings with phases of so many iterations, size, inner steps and what else is given."""
    names = ("iterations", "size", "inner_steps")
    given = [dict(zip(names, phase, strict=False)) | (phase[3:] or ({},))[0] for phase in phases]
    return settings.changed(phases=given)


def test_the_first_iterations_are_those_of_the_whole_run(settings):
    s = in_phases(settings, (3, 32, 0), (5, 48, 1), (2, 64, 1))
    whole = [3, 5, 2]
    for iterations_, expected in ((2, [2]), (3, [3]), (5, [3, 2]), (10, whole), (99, whole)):
        first = s.first(iterations_)
        assert [phase.iterations for phase in first.phases] == expected
        for iteration in range(1, min(iterations_, 10) + 1):
            found, wanted = (phase_at(iteration, run) for run in (first, s))
            assert found.changed(iterations=1) == wanted.changed(iterations=1)
    assert s.first(0).iterations == 0


def test_crops_seen_are_those_that_are_drawn(settings, images):
    s = in_phases(settings.changed(contents_per_batch=2), (2, 32, 0), (1, 48, 1), (1, 64, 2))
    batches = [
        cut.levels
        for iteration in range(1, 5)
        for drawn in draw_crops(iteration, images, s)
        for cut in (*drawn.supports, drawn.query)
    ]
    pixels = sum(len(batch) * batch.shape[-1] ** 2 for batch in batches)
    assert crops_seen(s) == (sum(map(len, batches)), pixels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_any_number_of_workers_draws_the_same_and_a_run_goes_on_where_it_was(settings, images):
    expected = [draw_crops(i, images, settings) for i in range(1, 6)]
    state = torch.random.get_rng_state()
    for workers in (0, 1, 3):
        s = settings.changed(workers=workers)
        assert_same([*iterations(images, s)], expected)
        assert_same([*iterations(images, s, first=4)], expected[3:])  # after a kill
    assert torch.equal(state, torch.random.get_rng_state())
    half = [[style for k, style in enumerate(d) if k % 2] for d in expected]
    assert_same([*iterations(images, settings.changed(workers=1), styles=[1])], half)


@pytest.fixture
def with_broken(images, tmp_path):
    """Two of six inner photos and one of five paintings are no images."""
    names = {}
    for name in ("1.jpg", "2.png", "p.jpg"):
        names[name] = tmp_path / name
        names[name].write_bytes(b"no image at all")
    inner = [names["1.jpg"], *images.inner[:2], names["2.png"], *images.inner[2:4]]
    artworks = [*images.artworks[:2], names["p.jpg"], *images.artworks[2:4]]
    return Images(inner, images.outer, artworks)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_replaced_and_reported_once(settings, with_broken, workers, caplog):
    s = settings.changed(workers=workers, contents_per_batch=2)
    expected = [draw_crops(i, with_broken, s) for i in range(1, 6)]
    broken = set(crops.unreadable)
    assert {path.name for path in broken} == {"1.jpg", "2.png", "p.jpg"}
    crops.forget_decoded()
    crops._reported.clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert_same([*iterations(with_broken, s)], expected)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 3
    for path in broken:
        (text,) = [text for text in warned if str(path) in text]
        assert text.startswith("replaced by another: ") and "\n" not in text


def test_a_replacement_is_the_next_draw_of_its_place_and_moves_no_other(images, tmp_path):
    (broken := tmp_path / "x.jpg").write_bytes(b"")
    files = [broken, *images.inner]
    seed = next(s for s in range(99) if crops.draw(files, 3, s)[1] == broken)
    order = crops.draw(files, 7, seed)
    found = [*crops.readable(files, range(3), 3, seed)]
    wanted = [order[0], order[4], order[2]]
    assert all(torch.equal(a, image_files.decode(b)) for a, b in zip(found, wanted, strict=True))


def test_what_cannot_be_drawn_is_said_in_one_line(images, tmp_path):
    with pytest.raises(InputError, match="batch of 4 needs as many images, 1 given"):
        crops.draw(images.inner[:1], 4, 0)
    (broken := tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"x.jpg: .*; and no other image is left"):
        next(crops.readable([broken], [0], 1, 0))


def test_a_cut_keeps_its_colours_for_the_device(images):
    varied = crops.Augmentation(brightness=(0.5, 2), contrast=0.3, saturation=(0, 0.001), hue=0.1)
    cut = crops.cut_batch(images.inner, 2, 16, varied, 0)
    assert isinstance(cut, Cut) and cut.levels.dtype == torch.uint8 and cut.shares.shape == (2, 4)
    made = cut.on(torch.device("cpu"), varied)
    assert torch.allclose(made[:, 0], made[:, 2], atol=2e-3)  # nearly grey
    assert torch.equal(made, crops.batch(images.inner, 2, 16, varied, 0))
    at_once = crops.recolour(image_files.to_float(cut.levels), cut.shares, varied, at_once=True)
    torch.testing.assert_close(made, at_once, rtol=0, atol=2e-6)
    plain = crops.Augmentation()
    assert torch.equal(cut.on(torch.device("cpu"), plain), image_files.to_float(cut.levels))
