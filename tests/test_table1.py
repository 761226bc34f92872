"""Table 1: operations at the published shapes, the arithmetic of its times, its verdicts."""

import json
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import ROOT

from metastyle import baselines
from metastyle.studies import table1
from metastyle.baselines import Method, Printed
from metastyle.config import load, read
from metastyle.studies.table1 import CACHED, ENCODED, Operations, Time
from metastyle.evaluation.timing import Table1, Timing, side_by_side, summary

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
    return read(PARAMS, "table1", Table1)


@pytest.fixture(scope="module")
def parts():
    return table1.parts(PARAMS)


@pytest.fixture(scope="module")
def counted(settings, parts):
    return {
        (name, size): table1.operations(name, PARAMS, settings, size, parts)
        for name in methods.names(PARAMS)
        for size in (256, 512)
    }


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
        # By hand a Gram matrix has two products on the way back; `operators.gram` needs one.
        maps = [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16)]
        gram = sum(channels**2 * (size / factor) ** 2 for channels, factor in maps) / 1e9
        update = counted["gatys", size].update
        assert update == pytest.approx(by_hand - gram, rel=0.01)
        content = counted["gatys", size].first - update  # forward to relu4_2, once
        assert 0.3 < content / update < 0.4


def test_run_fits_six_minutes_on_two_cores(counted, settings, parts):
    more = {
        (name, size): table1.operations(name, PARAMS, settings, size, parts)
        for name in ("johnson", "adain")
        for size in settings.more_sizes
    }
    assert set(settings.feed_forward) == {name for name, _ in more}
    two_cores = 2 * 80 * 0.65  # GFLOP/s of two cores at two thirds of what they can do
    assert table1.planned(counted | more, settings, two_cores) < 6 * 60 - 45


def test_plan_follows_the_rule_of_the_clock(settings):
    s = settings.model_copy(update={"sizes": [64], "repeats": (3, 10), "seconds_per_cell": 4.0})
    s = s.model_copy(update={"memory_size": 64})
    for seconds, expected in ((0.1, 10 * 0.1), (1.0, 4 + 1), (5.0, 3 * 5)):
        beside = {("johnson", 64): Operations(0, 0, 0)}
        o = beside | {("x", 64): Operations(0.25 * seconds, 0.75 * seconds, 0)}
        warm_up = seconds if seconds <= 4 else 0
        assert table1.planned(o, s, 2.0) == pytest.approx(expected + warm_up + seconds)


def test_turns_end_with_the_budget_and_a_long_first_one_counts(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("metastyle.timing.time.perf_counter", lambda: clock.now)

    def turns(seconds, **options):
        clock.now = 0.0

        def call():
            clock.now += seconds

        found = side_by_side({"a": call}, **options)
        assert (found["a"] - seconds).abs().max() < 1e-9
        return len(found), round(clock.now / seconds)

    assert turns(1.0, repeats=9, least=3, budget=4.5) == (5, 6)
    assert turns(2.0, repeats=9, least=3, budget=1.0) == (3, 3)
    assert turns(0.1, repeats=4, least=3, budget=9.0) == (4, 5)


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
    s = settings.model_copy(update={"updates": 800, "updates_timed": 3})
    once, update, encode = 5.0, 2.0, 7.0
    row = {"encode": encode, "first": once + update, "few": once + 3 * update}
    rows = [row | {"beside": beside} for beside in (1.0, 2.0, 4.0)]
    monkeypatch.setattr(table1, "side_by_side", lambda calls, **_: pd.DataFrame(rows))
    image = torch.zeros(1, 3, 16, 16)
    found = table1.measure(method(updates=200), image, image, s, lambda: None)
    assert found[CACHED].seconds.median == pytest.approx(once + 800 * update)
    assert found[ENCODED].seconds.median == pytest.approx(encode + once + 800 * update)
    assert found[CACHED].ratio.median == pytest.approx((once + 800 * update) / 2)


def test_every_repeat_encodes_then_stylises_beside_johnson(settings):
    s = settings.model_copy(update={"repeats": (2, 2), "updates_timed": 3})
    image = torch.zeros(1, 3, 16, 16)
    calls = []
    johnson = partial(calls.append, "johnson")
    table1.measure(method(updates=9, calls=calls), image, image, s, johnson)
    assert calls == ["ready", {"updates": 1}, {"updates": 3}, "johnson"] * 3  # with the warm-up
    calls.clear()
    assert table1.measure(method(calls=calls), image, image, s)[CACHED].ratio is None
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
    s = settings.model_copy(update={"updates": 201})
    found = table1.table(times, counted, rows, s, 200.0)
    assert found["GMAC"].tolist() == [50, 50, 500, 400]
    assert found["GFLOP/s"].tolist() == pytest.approx([100, 100, 1000 / 30, 40])
    assert found["share"].iloc[0] == 0.5
    slow = found.loc["slow", 256, CACHED]
    assert slow["ratio"] == 19 and slow["paper ratio"] == pytest.approx(100)
    assert slow["operation ratio"] == 8 and slow["extrapolated"]
    assert slow["ratio low"] == pytest.approx(19 * 0.95)
    shown = table1.printable(found)
    assert shown.loc[("256 px", f"{CACHED} (s)"), "S"] == "20 × [19, 21]"
    assert shown.loc[("", "parameters"), "J"] == "1,680,000"


def test_pairs_swap_only_when_they_are_told_apart():
    paper = {"a": 1.0, "b": 2.0, "c": 3.0}
    here = {"a": around(5.0), "b": around(1.0), "c": around(5.1)}
    assert table1.swapped(here, paper, 1.0) == ([("a", "b")], [("a", "c")])
    apart = {"a": Timing(1.08, 1.07, 1.09, 9), "b": Timing(1.0, 0.99, 1.01, 9)}
    two = {"a": 1.0, "b": 2.0}
    assert table1.swapped(apart, two, 1.0) == ([("a", "b")], [])
    assert table1.swapped(apart, two, 1.1) == ([], [("a", "b")])


@pytest.mark.parametrize(
    ("median", "expected"), [(12, "holds"), (10.2, "undecided"), (9, "does not hold")]
)
def test_a_factor_is_decided_beyond_its_range(median, expected):
    ratio = Timing(median, 0.95 * median, 1.05 * median, 3)
    assert table1.verdict(ratio, 10) == expected


def test_counts_are_compared_as_printed():
    assert table1.as_printed(1_679_235, "1.68M")
    assert not table1.as_printed(34_239_311, "34.23M")


def test_memory_of_a_method_holds_its_weights(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "data").symlink_to(ROOT / "data")
    values = load(PARAMS)
    values["methods"] = {name: values["methods"][name] for name in ("johnson", "wct")}
    values["table1"]["memory_size"] = 48
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    peaks = table1.memory(tmp_path / "params.yaml")
    weights = 34.2e6 * 4 / 2**30
    assert weights < peaks["wct"] < weights + 0.2
    assert 0 < peaks["johnson"] < 0.1
