"""The clock: calls take turns, a stopwatch stands while it is paused."""

import pytest

from metastyle.evaluation.timing import Stopwatch, Timing, summary, time_in_turns


def test_calls_take_turns_and_the_warm_up_does_not_count():
    order = []
    table = time_in_turns({k: (lambda k=k: order.append(k)) for k in "ab"}, repeats=2)
    assert order == ["a", "b"] * 3
    assert list(table.columns) == ["a", "b"] and len(table) == 2


def test_turns_end_with_the_budget_and_a_long_first_one_counts(monkeypatch):
    clock = {"now": 0.0}
    module = "metastyle.evaluation.timing.time.perf_counter"
    monkeypatch.setattr(module, lambda: clock["now"])

    def turns(seconds, **options):
        clock["now"] = 0.0

        def call():
            clock["now"] += seconds

        found = time_in_turns({"a": call}, **options)
        assert (found["a"] - seconds).abs().max() < 1e-9
        return len(found), round(clock["now"] / seconds)

    assert turns(1.0, repeats=9, least=3, budget=4.5) == (5, 6)
    assert turns(2.0, repeats=9, least=3, budget=1.0) == (3, 3)
    assert turns(0.1, repeats=4, least=3, budget=9.0) == (4, 5)


def test_stopwatch_stands_while_paused():
    watch = Stopwatch()
    assert watch.pause() == 0
    watch.resume()
    seconds = watch.pause()
    assert 0 < seconds == watch.pause() == watch.seconds


def test_a_ratio_has_the_range_of_opposite_quartiles():
    ratio = summary([9.0, 10.0, 11.0]).over(Timing(2.0, 1.0, 4.0, 9))
    assert ratio == pytest.approx((5.0, 9.5 / 4, 10.5, 3))
    assert str(Timing(2596.26, 2212.7, 0.16249, 3)) == "2,596 [2,213, 0.162]"
