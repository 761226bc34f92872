"""Figure 6: what the arms share, what they start from, and what is read off their curves."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import SMOKE

from metastyle.core import crops, images
from metastyle.studies import starts
from metastyle.adaptation.adapt import Adaptation, adapt, evaluate
from metastyle.studies.starts_chapter import catch_up, censored_median, first_reach, ratios, verdict
from metastyle.config import InputError
from metastyle.evaluation.statistics import Interval
from metastyle.core.losses import style_target
from metastyle.config import load, read
from metastyle.core.network import new_network


@pytest.fixture(scope="module")
def plan():
    plan = read(SMOKE, "learning", learning.Learning)
    short = {"updates": 2, "run_on": {"scratch": 3}, "evaluate_at": [0, 2, 3], "photos": 2}
    return plan.model_copy(update=short)


@pytest.fixture(scope="module")
def common(sets, vgg, perceptual):
    adaptation = read(SMOKE, "adapt", Adaptation)
    return learning.Common(vgg, perceptual, adaptation, sets["photo/inner"])


def test_arms_differ_in_length_and_rate_alone(common, plan):
    def values(arm, seed=1, **options):
        return learning.recipe(arm, seed, common.adaptation, plan, **options).model_dump()

    base = values("metastyle")
    assert (base["seed"], base["learning_rate"]) == (1, plan.learning_rate)
    assert values("painting") == values("autoencoder") == base
    assert values("scratch") == base | {"updates": 3}
    assert values("scratch-best", rate=0.5) == base | {"learning_rate": 0.5}


def test_a_run_that_goes_on_begins_like_one_that_stops(sets, common, plan, tmp_path, monkeypatch):
    artwork, photos = sets["artwork/validation"][0], sets["photo/validation"][: plan.photos]
    start = new_network(0)
    short, long = (
        learning.recipe(arm, 0, common.adaptation, plan) for arm in ("painting", "scratch")
    )
    on = learning.learn(start, artwork, photos, common, long, plan, cache=tmp_path)
    off = learning.learn(start, artwork, photos, common, short, plan)
    assert on["update"].unique().tolist() == [0, 2, 3]
    pd.testing.assert_frame_equal(on[on["update"] <= 2], off)

    style = images.load(artwork, short.style_size)
    target = style_target(common.features, style, common.perceptual)
    held_out = images.load_squares(photos, plan.photo_size)
    made = adapt(start, style, common.photos, common.features, common.perceptual, short).network
    means = off.groupby("update")[["loss", "content", "style"]].mean()
    for update, network in ((0, start), (2, made)):
        expected = evaluate(network, held_out, target, common.features, common.perceptual)
        for name in means:
            assert means.loc[update, name] == pytest.approx(expected[name], rel=1e-5)

    monkeypatch.setattr(learning, "adapt", None)  # what is kept is not computed again
    kept = learning.learn(start, artwork, photos, common, long, plan, cache=tmp_path)
    pd.testing.assert_frame_equal(kept, on)


def test_where_each_arm_starts(sets, common, plan, tmp_path, monkeypatch):
    neutral, artworks = new_network(5), sets["artwork/train"]

    def weights(arm, seed):
        network = learning.start(arm, seed, neutral, artworks, common, plan, cache=tmp_path)
        return torch.nn.utils.parameters_to_vector(network.parameters()).detach()

    arms = ("metastyle", "scratch", "painting", "autoencoder")
    made = {arm: weights(arm, 0) for arm in arms}
    own = torch.nn.utils.parameters_to_vector(neutral.parameters())
    assert torch.equal(made["metastyle"], own)
    assert torch.equal(made["scratch"], weights("scratch-best", 0))
    assert not torch.equal(made["scratch"], weights("scratch", 1))
    for arm in ("painting", "autoencoder"):  # a few steps of Adam away from the random network
        moved = (made[arm] - made["scratch"]).abs().max()
        updates = getattr(plan, arm)
        assert 0 < moved <= 1.1 * updates.updates * updates.learning_rate
    assert not torch.equal(made["painting"], made["autoencoder"])

    monkeypatch.setattr(learning, "adapt", None)
    assert torch.equal(weights("painting", 0), made["painting"])


def test_an_autoencoders_first_step_goes_down_the_gradient_of_the_pixel_error(sets, common, plan):
    settings = common.adaptation.by(plan.autoencoder).model_copy(update={"updates": 1, "seed": 3})
    start = new_network(0)
    trained = learning.autoencode(start, common.photos, settings)
    seed = batches.derive_seed(3, "adapt", 1)
    crops = batches.batch(
        common.photos, settings.contents_per_batch, settings.sizes[0], settings.photos, seed
    )
    (start(crops) - crops).square().mean().backward()  # by the module, not by `transform`
    last = "layers.22.weight"
    before, after = start.get_parameter(last), trained.get_parameter(last)
    steep = before.grad.abs() > 1e-5
    assert steep.float().mean() > 0.9
    step = -settings.learning_rate * before.grad.sign()
    torch.testing.assert_close((after - before)[steep], step[steep], rtol=0.01, atol=1e-6)


def test_the_best_rate_is_not_one_loud_paintings():
    table = pd.DataFrame(
        [[0.1, "quiet", 1.0], [0.1, "loud", 120.0], [0.2, "quiet", 2.0], [0.2, "loud", 100.0]],
        columns=["rate", "artwork", "loss"],
    )
    assert learning.best_rate(table) == 0.1


def test_rates_are_tried_on_the_same_updates_from_the_same_start(sets, common, plan):
    plan = plan.model_copy(update={"rates": [1e-3, 1e-9], "updates": 1, "photos": 1})
    photos, artworks = sets["photo/validation"], sets["artwork/validation"]
    table = learning.try_rates(artworks, photos, common, plan, cache=None)
    still = learning.learn(
        new_network(plan.seeds[0]), artworks[0], photos[:1], common,
        common.adaptation.model_copy(update={"updates": 0}), plan,
    )  # fmt: skip
    moved, unmoved = table["loss"]
    assert unmoved == pytest.approx(still["loss"].item(), rel=1e-4)
    assert moved != pytest.approx(unmoved, rel=1e-3)


def exponential(taus, loudness=(1.0, 30.0), updates=(0, 10, 50, 100, 200)):
    """Curves that fall by a factor e every tau updates; paintings differ in loudness."""
    rows = [
        {"arm": arm, "artwork": f"{k}", "artist": f"{k}", "seed": seed, "update": u,
         "loss": loud * np.exp(-u / tau)}
        for arm, tau in taus.items()
        for k, loud in enumerate(loudness) for seed in (0, 1) for u in updates
    ]  # fmt: skip
    return pd.DataFrame(rows)


RUN = ["artwork", "artist", "seed"]


def test_first_reach_is_exact_on_exponentials():
    updates = np.array([0, 10, 50, 100])
    losses = 7 * np.exp(-updates / 20)
    for wanted in (0.0, 3.0, 10.0, 77.0, 100.0):
        assert first_reach(updates, losses, 7 * np.exp(-wanted / 20)) == pytest.approx(wanted)
    assert first_reach(updates, losses, 7 * np.exp(-101 / 20)) == float("inf")
    assert first_reach(updates, losses, 8.0) == 0
    up_again = [8.0, 2.0, 16.0, 1.0]
    assert first_reach(updates, up_again, 4.0) == pytest.approx(5.0)  # the first time


def test_catching_up_knows_how_much_slower_an_arm_is():
    curves = exponential({"metastyle": 30, "slow": 75})
    caught = catch_up(curves, "metastyle", [10, 50, 100], run=RUN)
    assert len(caught) == 3 * 4 and set(caught["arm"]) == {"slow"}
    for count, expected in ((10, 25.0), (50, 125.0), (100, float("inf"))):
        reached = caught.loc[caught["count"] == count, "reached"]
        assert reached.tolist() == pytest.approx([expected] * 4)


def test_a_median_beyond_the_end_is_told_as_the_end():
    def median(*reached):
        rows = pd.DataFrame({"reached": reached, "artist": range(len(reached))})
        return censored_median(rows, 200, ["artist"])

    never = float("inf")
    assert median(10, never, 30, never, 20).value == 30
    assert median(10, never, 30, never, never).value == 200
    assert median(never, never, never) == Interval(200, 200, 200)
    assert median(10, never, 30, never, 20).high == 200


def test_ratios_do_not_see_how_loud_a_painting_is():
    curves = exponential({"metastyle": 50, "scratch": 100}, loudness=(1.0, 30.0, 1e-3))
    table = ratios(curves, "metastyle", [50, 100], run=RUN, over=["artist", "seed"])
    assert table.index.tolist() == ["scratch"] and table.columns.tolist() == [50, 100]
    for count in (50, 100):
        assert table.at["scratch", count] == pytest.approx([np.exp(count / 100)] * 3)


def test_ratios_pair_the_same_run():
    curves = exponential({"metastyle": 50, "scratch": 50})
    shuffled = curves.sample(frac=1, random_state=0)
    table = ratios(shuffled, "metastyle", [100], run=RUN, over=["artist"])
    assert table.at["scratch", 100] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("lows", "rivals", "expected"),
    [
        ({"a": [1.1, 1.2]}, ["a"], "reproduced"),
        ({"a": [1.1, 1.0]}, ["a"], "partly (at 10)"),
        ({"a": [0.9, 0.8]}, ["a"], "not reproduced"),
        ({"a": [1.1, 1.2], "b": [1.1, 0.9]}, ["a", "b"], "partly (at 10)"),
        ({"a": [1.1, 0.9], "b": [0.9, 1.1]}, ["a", "b"], "not reproduced"),
        ({"a": [1.1, 1.2], "b": [0.1, 0.1]}, ["a"], "reproduced"),
    ],
)
def test_the_verdict_follows_the_rule_written_down(lows, rivals, expected):
    table = pd.DataFrame(index=list(lows), columns=[10, 50], dtype=object)
    for arm, values in lows.items():
        for count, low in zip((10, 50), values, strict=True):
            table.at[arm, count] = Interval(2.0, low, 3.0)
    assert verdict(table, rivals) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "constant learning rate"),
        ({"sizes": [32, 48]}, "one size"),
        ({"compare_at": [11]}, "compare_at must be among evaluate_at"),
        ({"compare_at": [12]}, "not beyond `updates`"),
        ({"arms": ["meta"]}, r"learning\.arms\.0.*'metastyle'"),
    ],
)
def test_a_race_that_cannot_be_compared_is_refused(tmp_path, changes, message):
    values = load(SMOKE)
    values["learning"] |= changes
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=message):
        read(path, "learning", learning.Learning)
