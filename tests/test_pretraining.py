"""Trainings of the baselines: what they minimise, resuming, and what is kept of them."""

from copy import deepcopy

import pytest
import torch
from conftest import SMOKE
from test_baselines import dense_swap
from torch import nn

from metastyle import baselines
from metastyle.baselines import _least_squares, training
from metastyle.core import images
from metastyle.baselines._autoencoder import AutoEncoder, Encoder, mirror_decoder
from metastyle.core.checkpoint import save_tensors
from metastyle.config import InputError
from metastyle.baselines._hypernetwork import STYLE_LAYERS
from metastyle.baselines import adain, avatarnet, shen, styleswap, wct
from metastyle.baselines.gatys import total_variation
from metastyle.config import read
from metastyle.baselines.training import Pretraining, draw, learning_rate, pretrain, restore, result

MODULES = {"wct": wct, "adain": adain, "shen": shen, "avatarnet": avatarnet}
MODULES["styleswap"] = styleswap
EACH = pytest.mark.parametrize("name", MODULES)


@pytest.fixture(scope="module")
def plan():
    return read(SMOKE, "pretrain", Pretraining).model_copy(update={"checkpoint_minutes": 0})


def settings(name):
    return read(SMOKE, f"methods.{name}", MODULES[name].Settings)


def train(name, plan, vgg, sets, run=None, **options):
    given = sets["photo/inner"][:4], sets["artwork/train"][:4]
    run = run or plan.runs[name]
    return pretrain(MODULES[name], settings(name), run, plan, vgg, *given, **options)


class Answer(nn.Module):
    """A decoder that answers with an image, whatever it is asked."""

    def __init__(self, image):
        super().__init__()
        self.image = image

    def forward(self, *asked):
        return self.image


@pytest.mark.parametrize("name", ["styleswap", "shen"])  # shen has parameters without moments
def test_a_killed_training_goes_on_to_the_same_weights(name, plan, vgg, sets, tmp_path):
    run = plan.runs[name].model_copy(update={"iterations": 4, "style_every": 3})
    whole = train(name, plan, vgg, sets, run)
    seen = []

    def kill(row):
        seen.append(row["iteration"])
        if row["iteration"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(name, plan, vgg, sets, run, cache=tmp_path, callback=kill)
    part = run.model_copy(update={"iterations": 3})
    train(name, plan, vgg, sets, part, cache=tmp_path, callback=kill)
    resumed = train(name, plan, vgg, sets, run, cache=tmp_path, callback=kill)
    assert seen == [1, 2, 3, 4]
    assert resumed.log.equals(whole.log) and resumed.log["iteration"].tolist() == [1, 2, 3, 4]
    expected = whole.network.state_dict()
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    with pytest.raises(InputError, match=r"state\.safetensors: has gone 4 iterations"):
        train(name, plan, vgg, sets, run.model_copy(update={"iterations": 3}), cache=tmp_path)
    other = run.model_copy(update={"learning_rate": 1e-5})
    train(name, plan, vgg, sets, other, cache=tmp_path, callback=lambda row: seen.append("new"))
    assert seen[4:] == ["new"] * 4


def test_the_result_is_a_mean_of_the_weights(plan, vgg, sets):
    def after(iterations, average):
        run = plan.runs["styleswap"].model_copy(update={"iterations": iterations})
        own = plan.model_copy(update={"average": average})
        return dict(train("styleswap", own, vgg, sets, run).network.named_parameters())

    one, two, three = (after(count, 0.0) for count in (1, 2, 3))
    found, third = after(2, 0.99), after(3, 0.6)
    for name in one:
        mean = (one[name] + two[name]) / 2
        torch.testing.assert_close(found[name], mean)
        torch.testing.assert_close(third[name], 0.6 * mean + 0.4 * three[name])
    assert not torch.equal(one["decoder.0.weight"], two["decoder.0.weight"])


def test_shens_statistics_are_standardised_over_paintings(plan, vgg, sets):
    network, _ = train("shen", plan, vgg, sets)
    raw = shen.new_network(settings("shen"), vgg)
    raw.load_state_dict(network.state_dict())
    style = shen.style_statistics(vgg, torch.rand(1, 3, 40, 40))
    assert network.mean.min() >= 0 and network.mean.max() > 1
    expected = raw((style - network.mean) / network.deviation)
    for name, value in network(style).items():
        torch.testing.assert_close(value, expected[name])


@EACH
def test_training_learns_and_leaves_vgg_alone(name, plan, vgg, sets):
    run = plan.runs[name].model_copy(update={"learning_rate": 3e-4})
    network = MODULES[name].new_network(settings(name), vgg)
    torch.manual_seed(0)
    contents, paintings = draw(1, run, plan, sets["photo/inner"][:4], sets["artwork/train"][:4])
    trained = [p for p in network.parameters() if p.requires_grad]
    frozen = [p.clone() for p in network.parameters() if not p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=run.learning_rate)
    losses = []
    for _ in range(8):
        terms = MODULES[name].training_terms(network, settings(name), vgg, contents, paintings)
        assert set(terms) == set(run.weights)
        loss = sum(run.weights[key] * term for key, term in terms.items())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    still = [p for p in network.parameters() if not p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(frozen, still, strict=True))


def test_terms_vanish_where_the_answer_is_the_wanted_one(vgg):
    torch.manual_seed(0)
    photos, paintings = torch.rand(2, 2, 3, 32, 32)

    levels = nn.ModuleList(
        AutoEncoder(Encoder("vgg16", level, vgg), Answer(photos)) for level in (2, 1)
    )
    terms = wct.training_terms(levels, None, vgg, photos, paintings)
    assert terms["pixels"] == 0 and terms["features"] < 1e-10
    levels[0].decoder = Answer(photos + 0.1)
    terms = wct.training_terms(levels, None, vgg, photos, paintings)
    assert terms["pixels"].item() == pytest.approx(0.01)
    deep = [levels[0].encoder(x)[1] for x in (photos + 0.1, photos)]
    expected = (deep[0] - deep[1]).square().mean().item()
    assert terms["features"].item() == pytest.approx(expected, rel=1e-4) and expected > 1e-3

    network = AutoEncoder(Encoder("vgg16", 4, vgg), Answer(photos))
    terms = avatarnet.training_terms(network, None, vgg, photos, paintings)
    assert terms["pixels"] == 0 and terms["features"] < 1e-10
    assert terms["variation"] == total_variation(photos)

    # AdaIN: the painting as the answer has the painting's moments, but not the content.
    network.decoder = Answer(paintings)
    terms = adain.training_terms(network, None, vgg, photos, paintings)
    assert terms["style"] < 1e-10 < terms["content"]
    assert terms["pixels"].item() == pytest.approx((paintings - photos).square().mean().item())
    # A photo that is its own style asks for itself.
    network.decoder = Answer(photos)
    terms = adain.training_terms(network, None, vgg, photos, photos)
    assert terms["style"] < 1e-10 and terms["content"] < 1e-6

    # Style-Swap: a photo swapped with itself is itself.
    network = AutoEncoder(Encoder("vgg16", 3, vgg), Answer(torch.cat([photos] * 3)))
    swap = styleswap.Settings(encoder="vgg16", patch=3, style_size=48)
    terms = styleswap.training_terms(network, swap, vgg, photos, photos)
    assert terms["latent"] < 1e-8
    mixed = styleswap.training_terms(network, swap, vgg, photos, paintings)
    plain, styles = (network.encoder(x)[-1] for x in (photos, paintings))
    swapped = [dense_swap(*pair, 3) for pair in zip(plain.split(1), styles.split(1), strict=True)]
    answered = torch.cat([plain] * 3) - torch.cat([plain, styles, *swapped])
    assert mixed["latent"].item() == pytest.approx(answered.square().mean().item(), rel=1e-4)


def test_adains_style_term_is_the_moments_by_hand(vgg):
    torch.manual_seed(0)
    photos, paintings = torch.rand(2, 2, 3, 32, 32)
    network = AutoEncoder(Encoder("vgg16", 4, vgg), Answer(photos))
    found = adain.training_terms(network, None, vgg, photos, paintings)["style"].item()
    expected = 0.0
    for a, b in zip(network.encoder(photos), network.encoder(paintings), strict=True):
        a, b = a.double().flatten(2), b.double().flatten(2)
        expected += ((a.mean(2) - b.mean(2)) ** 2).mean().item()
        sigma = [(x.var(2, correction=0) + 1e-5).sqrt() for x in (a, b)]
        expected += ((sigma[0] - sigma[1]) ** 2).mean().item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_shens_loss_is_that_of_the_generated_network(vgg):
    torch.manual_seed(0)
    photos, painting = torch.rand(2, 3, 32, 32), torch.rand(1, 3, 40, 40)
    options = settings("shen")
    hyper = shen.new_network(options, vgg)
    terms = shen.training_terms(hyper, options, vgg, photos, painting)
    with torch.no_grad():
        network = hyper.network(shen.style_statistics(vgg, painting))
        found, wanted = (vgg(x, STYLE_LAYERS) for x in (network(photos), photos))
        style = vgg(painting, STYLE_LAYERS)
    content = (found["relu3_3"] - wanted["relu3_3"]).square().mean().item()
    by_hand = 0.0
    for layer in STYLE_LAYERS:
        own, other = found[layer].flatten(2), style[layer].flatten(2)
        by_hand += (own.mean(2) - other.mean(2)).square().mean().item()
        own, other = (x.var(2, correction=0).add(1e-5).sqrt() for x in (own, other))
        by_hand += (own - other).square().mean().item()
    assert terms["content"].item() == pytest.approx(content, rel=1e-3)
    assert terms["style"].item() == pytest.approx(by_hand, rel=1e-3)


def test_batches_are_a_function_of_the_iteration_and_styles_stay(plan, sets):
    run = plan.runs["shen"].model_copy(update={"style_every": 3})
    files = sets["photo/inner"][:4], sets["artwork/train"][:4]
    drawn = [draw(iteration, run, plan, *files) for iteration in (1, 2, 3, 4, 1)]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[4], strict=True))
    photos = torch.stack([contents for contents, _ in drawn[:4]])
    assert len(photos.flatten(1).unique(dim=0)) == 4
    styles = [paintings for _, paintings in drawn]
    assert torch.equal(styles[0], styles[2]) and not torch.equal(styles[2], styles[3])
    none = run.model_copy(update={"paintings": 0})
    assert len(draw(1, none, plan, *files)[1]) == 0


def test_the_rate_rises_and_decays(plan):
    run = plan.runs["wct"].model_copy(update={"learning_rate": 6.0, "warmup": 2, "decay": 0.5})
    assert [learning_rate(k, run) for k in (1, 2, 4)] == pytest.approx([2, 3, 2])
    run = run.model_copy(update={"warmup": 0, "decay": 0})
    assert [learning_rate(k, run) for k in (1, 1000)] == [6, 6]


def test_vgg19_without_weights_trains_nothing(plan, vgg, sets):
    blind = settings("adain").model_copy(update={"encoder": "vgg19"})
    with pytest.raises(InputError, match=r"adain: an encoder `vgg19` needs its weights"):
        pretrain(adain, blind, plan.runs["adain"], plan, vgg, sets["photo/inner"], [])


def test_fewer_paintings_than_are_normalised_over_will_do(plan, vgg, sets):
    many = plan.model_copy(update={"normalised_over": 5, "fitted_over": 5})
    train("shen", many, vgg, sets)  # from four


def test_a_term_without_a_weight_is_refused(plan, vgg, sets):
    run = plan.runs["styleswap"].model_copy(update={"weights": {"latent": 1.0}})
    with pytest.raises(ValueError, match=r"weights of \['latent'\] for terms .*'variation'"):
        train("styleswap", plan, vgg, sets, run)


@pytest.mark.parametrize("name", ["wct", "avatarnet"])
def test_what_is_kept_reconstructs_as_what_was_trained(name, plan, vgg, sets, tmp_path):
    module, path = MODULES[name], tmp_path / "network.safetensors"
    # Filters fitted to two photos are of no use, and so uneven that rounding hurts.
    random = plan.model_copy(update={"fitted_over": None})
    network, _ = train(name, random, vgg, sets)
    tensors = result(module, network, settings(name), vgg, [], levels=127)
    assert all(t.dtype == torch.float32 for key, t in tensors.items() if "unit" in key)
    save_tensors(path, tensors, {})
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert path.stat().st_size < 1.02 * trained + 50_000  # a byte each
    photo = images.load_square(sets["photo/validation"][0], 50)
    expected = module.reconstruct(network, photo)
    found = module.reconstruct(restore(module, settings(name), path, vgg), photo)
    assert expected.keys() == found.keys()
    for key, image in found.items():
        error = (image - expected[key]).square().mean().sqrt()
        assert image.shape == photo.shape and error < 0.1 * expected[key].std(), key


def test_generated_networks_are_found_by_their_style(vgg, sets, tmp_path):
    options, path = settings("shen"), tmp_path / "network.safetensors"
    hyper = shen.new_network(options, vgg)
    files = sets["artwork/held_out"][:2]
    styles = [images.load(file, options.style_size) for file in files]
    save_tensors(path, result(shen, hyper, options, vgg, styles, levels=127), {})
    resources = methods.Resources(vgg, None, [], None, None)
    method = methods.load("shen", SMOKE, resources, weights=path)
    assert method.parameters == methods.load("shen", SMOKE, resources).parameters
    photo = images.load_square(sets["photo/validation"][0], 48)
    for file, style in zip(files, styles, strict=True):
        expected = hyper.network(shen.style_statistics(vgg, style))(photo)
        for same in (style, images.load(file, 2 * options.style_size)):
            output = method.stylise(method.prepare(same), photo)
            torch.testing.assert_close(output, expected, rtol=0, atol=2e-2)
    with pytest.raises(InputError, match=r"network\.safetensors: .* 2 styles and not of this"):
        method.prepare(images.load(sets["artwork/held_out"][2], options.style_size))


def test_every_held_out_style_is_told_apart(vgg, sets):
    options = settings("shen")
    known = [
        shen.style_statistics(vgg, images.load(file, options.style_size))
        for file in sets["artwork/held_out"]
    ]
    for k, one in enumerate(known):
        for other in known[:k]:
            assert (one - other).norm() > 2 * shen.ALIKE * one.norm()


def test_pretraining_names_are_methods(plan):
    for name, run in plan.runs.items():
        assert set(run.weights) and hasattr(MODULES[name], "training_terms")
    assert pretraining.columns(plan.runs["adain"]) == [
        "iteration", "loss", "content", "style", "pixels",
    ]  # fmt: skip


def test_least_squares_finds_a_convolution_and_its_bias():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, 12, 12, generator=generator)
    true = torch.nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect")
    found = deepcopy(true)
    torch.nn.init.zeros_(found.weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_squares, "RIDGES", (1e-8, 10.0))
        least_squares.fit(found, inputs, true(inputs).detach())
    torch.testing.assert_close(found.weight, true.weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.bias, true.bias, rtol=0, atol=1e-4)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_fitted_decoder_shows_photos_it_has_not_seen(blocks, vgg, sets):
    seen = images.load_squares(sets["photo/inner"][:16], 64)
    network = AutoEncoder(Encoder("vgg16", blocks, vgg), mirror_decoder(blocks), seen)
    photo = images.load_square(sets["photo/validation"][0], 64)

    def error():
        with torch.no_grad():
            return (network.decoder(network.encoder(photo)[-1]) - photo).square().mean()

    before = error()
    least_squares.start(network, seen)
    assert error() < 0.2 * photo.var() < before
