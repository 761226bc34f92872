"""Trainings of the baselines: what they minimise, resuming, and what is kept of them."""

from copy import deepcopy

import pytest
import torch
from conftest import SMOKE
from test_baselines import dense_swap
from torch import nn

from metastyle.baselines import (
    Context,
    _least_squares,
    adain,
    avatarnet,
    registry,
    shen,
    styleswap,
    wct,
)
from metastyle.baselines._autoencoder import AutoEncoder, Encoder, mirror_decoder
from metastyle.baselines._hypernetwork import STYLE_LAYERS
from metastyle.baselines.gatys import total_variation
from metastyle.baselines.training import (
    Pretraining,
    columns,
    draw,
    learning_rate,
    log,
    pretrain,
    pretraining,
    restore,
    result,
)
from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.checkpoint import save_tensors

MODULES = {"wct": wct, "adain": adain, "shen": shen, "avatarnet": avatarnet}
MODULES["styleswap"] = styleswap


@pytest.fixture(scope="module")
def plan():
    return Pretraining.read(SMOKE, "pretrain").changed(checkpoint_minutes=0)


@pytest.fixture
def shallow(monkeypatch):
    """WCT with two levels instead of five, AdaIN and Avatar-Net as they are."""
    monkeypatch.setattr(wct, "LEVELS", (2, 1))


def settings(name):
    return MODULES[name].Settings.read(SMOKE, f"methods.{name}")


def given(name, plan, vgg, sets, run=None):
    """The arguments of a training on four photos and four paintings."""
    files = sets.photos.inner[:4], sets.artworks.train[:4]
    return MODULES[name], settings(name), run or plan.runs[name], plan, vgg, *files


class Answer(nn.Module):
    """A decoder that answers with an image, whatever it is asked."""

    def __init__(self, image):
        super().__init__()
        self.image = image

    def forward(self, *asked):
        return self.image


@pytest.mark.parametrize("name", ["styleswap", "shen"])  # shen has parameters without moments
def test_a_killed_training_goes_on_to_the_same_weights(name, plan, vgg, sets, tmp_path):
    run = plan.runs[name].changed(iterations=4, style_every=3)
    arguments = given(name, plan, vgg, sets, run)
    whole = pretrain(*arguments)
    seen = []
    for state in pretraining(*arguments, folder=tmp_path):
        seen.append(len(state.log))
        if len(state.log) == 2:
            break  # as a kill does: what comes after the save is lost
    part = given(name, plan, vgg, sets, run.changed(iterations=3))
    seen += [len(state.log) for state in pretraining(*part, folder=tmp_path)]
    for resumed in pretraining(*arguments, folder=tmp_path):
        seen.append(len(resumed.log))
    assert seen == [0, 1, 2, 2, 3, 3, 4]
    assert log(resumed, run).equals(log(whole, run))
    assert log(resumed, run)["iteration"].tolist() == [1, 2, 3, 4]
    expected = whole.network.state_dict()
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    with pytest.raises(InputError, match=r"state\.safetensors: has gone 4 iterations"):
        pretrain(*part, folder=tmp_path)
    other = given(name, plan, vgg, sets, run.changed(learning_rate=1e-5))
    assert len(next(pretraining(*other, folder=tmp_path)).log) == 0


def test_the_result_is_a_mean_of_the_weights(plan, vgg, sets):
    def after(iterations, average):
        run = plan.runs["styleswap"].changed(iterations=iterations)
        own = plan.changed(average=average)
        return dict(pretrain(*given("styleswap", own, vgg, sets, run)).network.named_parameters())

    one, two, three = (after(count, 0.0) for count in (1, 2, 3))
    found, third = after(2, 0.99), after(3, 0.6)
    for name in one:
        mean = (one[name] + two[name]) / 2
        torch.testing.assert_close(found[name], mean)
        torch.testing.assert_close(third[name], 0.6 * mean + 0.4 * three[name])
    assert not torch.equal(one["decoder.0.weight"], two["decoder.0.weight"])


def test_shens_statistics_are_standardised_over_paintings(plan, vgg, sets):
    more = plan.changed(normalised_over=5)  # than there are: all four
    network = next(pretraining(*given("shen", more, vgg, sets))).network
    raw = shen.new_network(settings("shen"), vgg)
    raw.load_state_dict(network.state_dict())
    style = shen.style_statistics(vgg, torch.rand(1, 3, 40, 40))
    assert network.mean.min() >= 0 and network.mean.max() > 1
    expected = raw((style - network.mean) / network.deviation)
    for name, value in network(style).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("name", MODULES)
def test_training_learns_and_leaves_vgg_alone(name, plan, vgg, sets, shallow):
    run = plan.runs[name].changed(learning_rate=1e-4)
    torch.manual_seed(0)
    network = MODULES[name].new_network(settings(name), vgg)
    contents, paintings = draw(1, run, plan, sets.photos.inner[:4], sets.artworks.train[:4])
    trained = [p for p in network.parameters() if p.requires_grad]
    frozen = [p.clone() for p in network.parameters() if not p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=run.learning_rate, fused=True)
    losses = []
    for _ in range(8):
        terms = MODULES[name].training_terms(network, settings(name), vgg, contents, paintings)
        assert set(terms) == set(run.weights)
        loss = sum(run.weights[key] * term for key, term in terms.items())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
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
    run = plan.runs["shen"].changed(style_every=3)
    files = sets.photos.inner[:4], sets.artworks.train[:4]
    drawn = [draw(iteration, run, plan, *files) for iteration in (1, 2, 3, 4, 1)]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[4], strict=True))
    photos = torch.stack([contents for contents, _ in drawn[:4]])
    assert len(photos.flatten(1).unique(dim=0)) == 4
    styles = [paintings for _, paintings in drawn]
    assert torch.equal(styles[0], styles[2]) and not torch.equal(styles[2], styles[3])
    assert len(draw(1, run.changed(paintings=0), plan, *files)[1]) == 0


def test_the_rate_rises_and_decays(plan):
    run = plan.runs["wct"].changed(learning_rate=6.0, warmup=2, decay=0.5)
    assert [learning_rate(k, run) for k in (1, 2, 4)] == pytest.approx([2, 3, 2])
    run = run.changed(warmup=0, decay=0)
    assert [learning_rate(k, run) for k in (1, 1000)] == [6, 6]


def test_vgg19_without_weights_trains_nothing(plan, vgg, sets):
    module, blind, *rest = given("adain", plan, vgg, sets)
    with pytest.raises(InputError, match=r"adain: an encoder `vgg19` needs its weights"):
        pretrain(module, blind.changed(encoder="vgg19"), *rest)


def test_a_term_without_a_weight_is_refused(plan, vgg, sets):
    run = plan.runs["styleswap"].changed(weights={"latent": 1.0})
    with pytest.raises(ValueError, match=r"weights of \['latent'\] for terms .*'variation'"):
        pretrain(*given("styleswap", plan, vgg, sets, run))


@pytest.mark.parametrize("name", ["wct", "avatarnet"])
def test_what_is_kept_reconstructs_as_what_was_trained(name, vgg, sets, tmp_path, shallow):
    module, path = MODULES[name], tmp_path / "network.safetensors"
    photo = images.load_square(sets.photos.validation[0], 50)
    torch.manual_seed(0)
    network = module.new_network(settings(name), vgg, photo)
    tensors = result(module, network, settings(name), vgg, [], levels=127)
    assert all(t.dtype == torch.float32 for key, t in tensors.items() if "unit" in key)
    save_tensors(path, tensors, {})
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert path.stat().st_size < 1.02 * trained + 50_000  # a byte each
    expected = module.reconstruct(network, photo)
    found = module.reconstruct(restore(module, settings(name), path, vgg), photo)
    assert expected.keys() == found.keys()
    for key, image in found.items():
        error = (image - expected[key]).square().mean().sqrt()
        assert image.shape == photo.shape and error < 0.1 * expected[key].std(), key


def test_generated_networks_are_found_by_their_style(loss, sets, tmp_path):
    options, path = settings("shen").changed(style_size=128), tmp_path / "network.safetensors"
    torch.manual_seed(0)
    hyper = shen.new_network(options, loss.vgg)
    files = sets.artworks.held_out
    styles = [images.load(file, 128) for file in files[:2]]
    save_tensors(path, result(shen, hyper, options, loss.vgg, styles, levels=127), {})
    method = registry.load("shen", SMOKE, Context(loss), weights=path, style_size=128)
    assert method.parameters == sum(p.numel() for p in hyper.parameters())
    photo = images.load_square(sets.photos.validation[0], 48)
    for file, style in zip(files, styles, strict=False):
        expected = hyper.network(shen.style_statistics(loss.vgg, style))(photo)
        for same in (style, images.load(file, 256)):
            output = method.stylise(method.prepare(same), photo)
            torch.testing.assert_close(output, expected, rtol=0, atol=2e-2)
    with pytest.raises(InputError, match=r"network\.safetensors: .* 2 styles and not of this"):
        method.prepare(images.load(files[2], 128))


def test_held_out_styles_are_far_from_one_another(vgg, sets):
    styles = [images.load(file, 128) for file in sets.artworks.held_out]
    known = torch.stack([shen.style_statistics(vgg, style) for style in styles])
    distances = torch.cdist(known, known) / known.norm(dim=1, keepdim=True)
    distances.fill_diagonal_(torch.inf)
    assert distances.min() > 2 * shen.ALIKE


def test_pretraining_names_are_methods(plan):
    for name, run in plan.runs.items():
        assert set(run.weights) and hasattr(MODULES[name], "training_terms")
    expected = ["iteration", "loss", "content", "style", "pixels"]
    assert columns(plan.runs["adain"]) == expected


def test_least_squares_finds_a_convolution_and_its_bias(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, 12, 12, generator=generator)
    true = nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect")
    found = deepcopy(true)
    nn.init.zeros_(found.weight)
    monkeypatch.setattr(_least_squares, "RIDGES", (1e-8, 10.0))
    _least_squares.fit(found, inputs, true(inputs).detach())
    torch.testing.assert_close(found.weight, true.weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.bias, true.bias, rtol=0, atol=1e-4)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_fitted_decoder_shows_photos_it_has_not_seen(blocks, vgg, sets):
    seen = images.load_squares(sets.photos.inner[:24], 48)
    torch.manual_seed(0)
    network = AutoEncoder(Encoder("vgg16", blocks, vgg), mirror_decoder(blocks), seen)
    photo = images.load_square(sets.photos.validation[0], 48)

    def error():
        with torch.no_grad():
            return (network.decoder(network.encoder(photo)[-1]) - photo).square().mean()

    before = error()
    _least_squares.start(network, seen)
    assert error() < 0.2 * photo.var() < before
