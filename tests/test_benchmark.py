"""The measuring instruments: they count, compare and take turns as they say."""

import pytest
import torch
from conftest import SMOKE

from metastyle.core import crops, gradients, images
from metastyle.evaluation import timing
from metastyle.studies import speed
from metastyle.studies.speed import Benchmark
from metastyle.config import read
from metastyle.evaluation.timing import Stopwatch, side_by_side
from metastyle.core.network import new_network


def test_operations_are_the_papers_multiply_adds():
    network = new_network(0)
    side = 64
    with torch.no_grad():
        counted = benchmark.operations(lambda: network(torch.rand(1, 3, side, side)))
    # 10.08 GMAC at 256 px, a multiplication and an addition each, in proportion to the pixels.
    assert counted == pytest.approx(2 * 10.08 * (side / 256) ** 2, rel=1e-3)


def test_operations_of_every_image_are_counted():
    a = torch.rand(40, 30)

    def step():
        gradients.each(lambda image: a @ image, [torch.rand(30, 20) for _ in range(5)])

    assert benchmark.operations(step) == pytest.approx(5 * 2 * 40 * 30 * 20 / 1e9)


def test_calls_take_turns_and_the_warm_up_does_not_count():
    order = []
    table = side_by_side({k: (lambda k=k: order.append(k)) for k in "ab"}, repeats=2)
    assert order == ["a", "b"] * 3
    assert list(table.columns) == ["a", "b"] and len(table) == 2


def test_stopwatch_stands_while_paused():
    watch = Stopwatch()
    assert watch.pause() == 0
    watch.resume()
    seconds = watch.pause()
    assert 0 < seconds == watch.pause() == watch.seconds


def test_ways_give_the_gradients_they_are_named_for():
    scale = read(SMOKE, "benchmark", Benchmark).scales[0]
    ways, levers, draw = benchmark.prepare(SMOKE, scale)
    theta = dict(new_network(0).named_parameters())
    found = {name: way(theta) for name, way in ways.items()}
    assert set(found) == {"plain", "exact", "first order", "fast"} - (
        {"fast"} if not machine.has_bfloat16() else set()
    )
    # By their cosines the first order would pass too: what counts is the distance without it.
    hessian = benchmark.distance(found["first order"], found["plain"])
    for same in (found["exact"], *(lever(theta) for lever in levers.values())):
        assert benchmark.distance(same, found["plain"]) < 0.3 * hessian
    if "fast" in found:
        assert 0.999 < benchmark.cosine(found["first order"], found["fast"]) < 1 - 1e-9
    assert len(draw(2)) == scale.styles_per_iteration
    shares = benchmark.shares(lambda: ways["exact"](theta))
    assert sum(shares.values()) == pytest.approx(1) and shares["convolutions"] > 0.2


def test_input_is_timed_with_and_without_decoding(sets, monkeypatch):
    files, decoded, drawn = sets["photo/inner"], [], []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda file: decoded.append(file) or decode(file))
    batches.decoded.cache_clear()

    def draw(iteration):
        batches.decoded(files[iteration])
        drawn.append(len(decoded))

    seconds = benchmark.input_seconds(draw, 3)
    assert set(seconds) == {"decoded before", "decoded anew"}
    # The images are decoded once, then drawn without decoding, then decoded at each draw.
    assert drawn == [1, 2, 3, 4] + [4] * 4 + [5, 6, 7, 8]


def test_an_unknown_lever_is_named_with_those_there_are(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "quick", "reference", str(SMOKE)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "no way or lever quick here; give one of plain, exact" in capsys.readouterr().err


def test_memory_counts_what_a_step_takes_and_nothing_of_its_parent():
    mine = torch.zeros(2**28).fill_(1.0)  # 1 GiB
    used = benchmark.memory("exact", "reference", SMOKE)
    assert 0.1 < used["before"] < used["peak"] < 0.5 + used["before"]
    assert mine[-1] == 1
