"""Figure 6: what the runs from all starts share, and where they begin."""

import pandas as pd
import pytest
import torch

from metastyle.adaptation.adapt import Adaptation, adapt, evaluate
from metastyle.baselines import Context
from metastyle.config import InputError
from metastyle.core import crops, images
from metastyle.core.network import new_network
from metastyle.studies import starts


@pytest.fixture(scope="module")
def plan(project):
    short = {"updates": 2, "run_on": {"scratch": 3}, "evaluate_at": [0, 2, 3], "photos": 2}
    return starts.Starts.read(project, "starts").changed(
        **short, compare_at=[2], render_at=[0, 3], rate_artworks=1
    )


@pytest.fixture(scope="module")
def context(project, sets, loss):
    adaptation = Adaptation.read(project, "adapt")
    return Context(loss, adaptation, sets.photos.inner, sets.photos.validation, new_network(5))


def test_starts_differ_in_length_and_rate_alone(context, plan):
    def values(name, seed=1, **options):
        return starts.recipe(name, seed, context.adaptation, plan, **options).model_dump()

    base = values("metastyle")
    assert (base["seed"], base["learning_rate"]) == (1, plan.learning_rate)
    assert values("painting") == values("autoencoder") == base
    assert values("scratch") == base | {"updates": 3}
    assert values("scratch-best", rate=0.5) == base | {"learning_rate": 0.5}


def test_nothing_of_the_default_recipe_but_paintings_and_crops_counts(context, plan):
    other = context.adaptation.changed(
        updates=77, learning_rate=0.1, warmup=3, schedule="cosine", contents_per_batch=4,
        sizes=[64], parameters="instance_norm", precision="bfloat16",
    )  # fmt: skip
    for name in ("metastyle", "scratch"):
        assert starts.recipe(name, 0, other, plan) == starts.recipe(
            name, 0, context.adaptation, plan
        )


def test_a_run_that_goes_on_begins_like_one_that_stops(sets, context, plan, tmp_path, monkeypatch):
    artwork, photos = sets.artworks.validation[0], sets.photos.validation[: plan.photos]
    start, loss = new_network(0), context.loss
    short, long = (
        starts.recipe(name, 0, context.adaptation, plan) for name in ("painting", "scratch")
    )
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path))
    on = starts.learn(start, artwork, photos, context, long, plan)
    off, renders = starts.learning_curve(start, artwork, photos, context, short, plan)
    assert on["update"].unique().tolist() == [0, 2, 3]
    pd.testing.assert_frame_equal(on[on["update"] <= 2], off)
    assert list(renders) == [0]
    side = plan.photo_size
    assert renders[0].shape == (1, 3, side, side)

    style = images.load(artwork, short.style_size)
    target = loss.style(style)
    unseen = images.load_squares(photos, side)
    made = adapt(start, style, context.photos, loss, short)
    means = off.groupby("update")[["loss", "content", "style"]].mean()
    for update, network in ((0, start), (2, made)):
        expected = evaluate(network, unseen, target, loss)
        for name in means:
            assert means.loc[update, name] == pytest.approx(expected[name], rel=1e-5)

    monkeypatch.setattr(starts.adapt, "adapt_steps", None)  # what is kept is not computed again
    kept = starts.learn(start, artwork, photos, context, long, plan)
    pd.testing.assert_frame_equal(kept, on)


def test_where_each_start_begins(sets, context, plan, tmp_path, monkeypatch):
    monkeypatch.setenv("METASTYLE_CACHE", str(tmp_path))

    def weights(name, seed):
        network = starts.initial_network(name, seed, sets.artworks.train, context, plan)
        return torch.nn.utils.parameters_to_vector(network.parameters()).detach()

    names = ("metastyle", "scratch", "painting", "autoencoder")
    made = {name: weights(name, 0) for name in names}
    own = torch.nn.utils.parameters_to_vector(context.start.parameters())
    assert torch.equal(made["metastyle"], own)
    assert torch.equal(made["scratch"], weights("scratch-best", 0))
    assert not torch.equal(made["scratch"], weights("scratch", 1))
    for name in ("painting", "autoencoder"):  # a few steps of Adam away from the random network
        moved = (made[name] - made["scratch"]).abs().max()
        updates = getattr(plan, name)
        assert 0 < moved <= 1.1 * updates.updates * updates.learning_rate
    assert not torch.equal(made["painting"], made["autoencoder"])

    monkeypatch.setattr(starts.adapt, "adapt", None)
    assert torch.equal(weights("painting", 0), made["painting"])


def test_an_autoencoders_first_step_goes_down_the_gradient_of_the_pixel_error(context, plan):
    settings = context.adaptation.by(plan.autoencoder).changed(updates=1, seed=3)
    start = new_network(0)
    trained = starts.autoencode(start, context.photos, settings)
    seed, count, size = crops.derive_seed(3, "adapt", 1), settings.contents_per_batch, 32
    assert settings.sizes == [size]
    batch = crops.batch(context.photos, count, size, settings.photos, seed)
    (start(batch) - batch).square().mean().backward()  # by the module, not by `transform`
    last = "layers.22.weight"
    before, after = start.get_parameter(last), trained.get_parameter(last)
    steep = before.grad.abs() > 1e-5
    assert steep.float().mean() > 0.9
    step = -settings.learning_rate * before.grad.sign()
    torch.testing.assert_close((after - before)[steep], step[steep], rtol=0.01, atol=1e-6)


def test_the_best_rate_is_not_that_of_one_painting_with_a_large_gram_norm():
    table = pd.DataFrame(
        [[0.1, "small", 1.0], [0.1, "large", 120.0], [0.2, "small", 2.0], [0.2, "large", 100.0]],
        columns=["rate", "artwork", "loss"],
    )
    assert starts.best_rate(table) == 0.1


def test_rates_are_tried_on_the_same_updates_from_the_same_start(sets, context, plan):
    plan = plan.changed(rates=[1e-3, 1e-9], updates=1, photos=1, evaluate_at=[0, 1], compare_at=[1])
    table = starts.try_rates(sets.artworks.validation, context, plan)
    artwork, photo = sets.artworks.validation[0], context.validation[:1]
    none, start = context.adaptation.changed(updates=0), new_network(plan.seeds[0])
    still = starts.learn(start, artwork, photo, context, none, plan)
    moved, unmoved = table["loss"]
    assert unmoved == pytest.approx(still["loss"].item(), rel=1e-4)
    assert moved != pytest.approx(unmoved, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "constant learning rate"),
        ({"sizes": [32, 48]}, "one size"),
        ({"evaluate_at": [0, 3]}, "needs the last update"),
        ({"compare_at": [1]}, "compare_at must be among evaluate_at"),
        ({"compare_at": [3]}, "not beyond `updates`"),
        ({"names": ["meta"]}, r"names\.0.*'metastyle'"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(plan, changes, message):
    with pytest.raises(InputError, match=message):
        plan.changed(**changes)
