"""Table 1: operations at the published shapes, and the arithmetic of its times."""

import json
from functools import partial

import pandas as pd
import pytest
import torch
from conftest import ROOT

from metastyle.baselines import Method, Printed, registry
from metastyle.config import Project, load
from metastyle.evaluation.timing import Timing, summary
from metastyle.studies import _published, table1
from metastyle.studies._published import CACHED, ENCODED, Operations
from metastyle.studies.table1 import Table1, Time

PARAMS = ROOT / "params.yaml"
COUNTS = {  # GMAC at 256 and 512 px by hand, without norms, element-wise work and decompositions
    ("johnson", CACHED): (10.08, 40.32),
    ("metastyle", CACHED): (10.08, 40.32),
    ("shen", CACHED): (10.08, 40.32),
    ("shen", ENCODED): (18.45 + 10.08, 73.15 + 40.32),
    ("adain", CACHED): (31.63, 126.53),
    ("adain", ENCODED): (47.45, 189.80),
    ("wct", ENCODED): (157.23, 627.19),
    ("avatarnet", ENCODED): (127.77, 357.96),
    ("styleswap", ENCODED): (62.17, 693.21),
}


@pytest.fixture(scope="module")
def settings():
    return Table1.read(PARAMS, "table1")


@pytest.fixture(scope="module")
def counted(settings):
    project = Project(PARAMS)
    build, shapes = table1.builder(project), table1.builder(project, "meta")
    cells = [(name, size) for name in registry.names(project) for size in settings.sizes]
    cells += [(name, size) for name in settings.feed_forward for size in settings.more_sizes]
    return _published.count(build, shapes, cells)


@pytest.mark.parametrize(("name", "style"), COUNTS)
def test_operations_are_those_counted_by_hand(name, style, counted):
    for size, expected in zip((256, 512), COUNTS[name, style], strict=True):
        if name == "avatarnet":  # by hand at every pixel; here where a patch of 5 fits
            places = [(side - 4) ** 2 for side in (size // 8, 448 // 8)]
            saved = (size // 8) ** 2 * (448 // 8) ** 2 - places[0] * places[1]
            expected -= saved * 512 * 25 / 1e9
        assert counted[name, size].image(style, 1) == pytest.approx(expected, rel=0.01)


def test_gatys_update_is_vgg19_there_and_back(counted):
    for size, by_hand in ((256, 50.76), (512, 203.04)):
        # By hand a Gram matrix has two products on the way back; `kernels.gram` needs one.
        maps = [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16)]
        gram = sum(channels**2 * (size / factor) ** 2 for channels, factor in maps) / 1e9
        update = counted["gatys", size].update
        assert update == pytest.approx(by_hand - gram, rel=0.01)
        content = counted["gatys", size].first - update  # forward to relu4_2, once
        assert 0.3 < content / update < 0.4


def test_run_fits_six_minutes_on_two_cores(counted, settings):
    two_cores = 2 * 80 * 0.65  # GFLOP/s of two cores at two thirds of what they can do
    assert table1.planned(counted, settings, two_cores) < 6 * 60 - 45


def test_plan_follows_the_rule_of_the_clock(settings):
    s = settings.changed(sizes=[64], repeats=(3, 10), seconds_per_cell=4.0)
    s = s.changed(memory_size=64)
    for seconds, expected in ((0.1, 10 * 0.1), (1.0, 4 + 1), (5.0, 3 * 5)):
        beside = {("johnson", 64): Operations(0, 0, 0)}
        o = beside | {("x", 64): Operations(0.25 * seconds, 0.75 * seconds, 0)}
        warm_up = seconds if seconds <= 4 else 0
        assert table1.planned(o, s, 2.0) == pytest.approx(expected + warm_up + seconds)


def method(label="m", *, updates=1, calls=None, seconds=None) -> Method:
    calls = [] if calls is None else calls

    def stylise(state, content, **part):
        calls.append(part)
        return content

    return Method(
        label, 1_680_000, "any", updates, lambda s: s, lambda s: calls.append("ready"), stylise,
        Printed("1.68M", seconds or {}),
    )  # fmt: skip


def test_an_iterative_time_does_not_multiply_what_happens_once(settings, monkeypatch):
    s = settings.changed(updates=800, updates_timed=3)
    once, update, encode = 5.0, 2.0, 7.0
    row = {"encode": encode, "first": once + update, "few": once + 3 * update}
    rows = [row | {"beside": beside} for beside in (1.0, 2.0, 4.0)]
    monkeypatch.setattr(table1, "time_in_turns", lambda calls, **_: pd.DataFrame(rows))
    image = torch.zeros(1, 3, 16, 16)
    found = table1.time_method(method(updates=200), image, image, s, lambda: None)
    assert found[CACHED].seconds.median == pytest.approx(once + 800 * update)
    assert found[ENCODED].seconds.median == pytest.approx(encode + once + 800 * update)
    assert found[CACHED].ratio.median == pytest.approx((once + 800 * update) / 2)


def test_every_repeat_encodes_then_stylises_beside_johnson(settings):
    s = settings.changed(repeats=(2, 2), updates_timed=3)
    image = torch.zeros(1, 3, 16, 16)
    calls = []
    johnson = partial(calls.append, "johnson")
    table1.time_method(method(updates=9, calls=calls), image, image, s, johnson)
    assert calls == ["ready", {"updates": 1}, {"updates": 3}, "johnson"] * 3  # with the warm-up
    calls.clear()
    assert table1.time_method(method(calls=calls), image, image, s)[CACHED].ratio is None
    assert calls == ["ready", {}] * 3


def around(median: float) -> Timing:
    return summary([0.9 * median, median, 1.1 * median])


def time(seconds: float, ratio: float) -> Time:
    return Time(around(seconds), around(ratio))


def test_table_of_made_up_times(settings):
    rows = {
        "johnson": method("J", seconds={256: 0.004}),
        "slow": method("S", seconds={256: 0.4}, updates=9),
    }
    times = {
        ("johnson", 256): {ENCODED: time(1.0, 1.0), CACHED: time(1.0, 1.0)},
        ("slow", 256): {ENCODED: time(30.0, 28.0), CACHED: time(20.0, 19.0)},
    }
    counted = {("johnson", 256): Operations(0, 50, 0), ("slow", 256): Operations(100, 200, 1)}
    s = settings.changed(updates=201)
    found = table1.tabulate(times, counted, rows, s, 200.0)
    assert found["GMAC"].tolist() == [50, 50, 500, 400]
    assert found["GFLOP/s"].tolist() == pytest.approx([100, 100, 1000 / 30, 40])
    assert found["share"].iloc[0] == 0.5
    slow = found.loc["slow", 256, CACHED]
    assert slow["ratio"] == 19 and slow["paper ratio"] == pytest.approx(100)
    assert slow["operation ratio"] == 8 and slow["extrapolated"]
    assert slow["ratio low"] == pytest.approx(19 * 0.95)


def test_memory_of_a_method_holds_its_weights(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "data").symlink_to(ROOT / "data")
    values = load(PARAMS)
    values["methods"] = {name: values["methods"][name] for name in ("johnson", "wct")}
    values["table1"]["memory_size"] = 48
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    peaks = table1.memory(Project(tmp_path / "params.yaml"))
    weights = 34.2e6 * 4 / 2**30
    assert weights < peaks["wct"] < weights + 0.2
    assert 0 < peaks["johnson"] < 0.1
