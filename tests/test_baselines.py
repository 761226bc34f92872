"""The methods of Table 1: their counts, their operations, each against its paper's composition."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from metastyle.baselines import Context, adain, avatarnet, shen, styleswap, wct
from metastyle.baselines._autoencoder import Encoder, SkipDecoder, normalise
from metastyle.baselines._hypernetwork import STATISTICS, HyperNetwork
from metastyle.baselines._moments import colour, moments, spectrum, whiten
from metastyle.baselines._patches import swap
from metastyle.baselines._pretrained import assemble, trained_state
from metastyle.baselines.gatys import optimise
from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.checkpoint import save_tensors
from metastyle.core.losses import PerceptualLoss
from metastyle.core.network import TransformerNet

BASELINES = {
    adain: ({"encoder": "vgg19", "alpha": 1.0}, 7_010_947),
    wct: ({"encoder": "vgg19", "alpha": 0.6}, 34_239_311),
    shen: ({"width": 128, "range_limit": 4}, 219_319_459),
    avatarnet: ({"encoder": "vgg19", "alpha": 0.8, "patch": 5}, 147_217_067),
    styleswap: ({"encoder": "vgg19", "patch": 3}, 1_480_963),
}


def build(module, loss, **changes):
    settings = BASELINES[module][0] | {"style_size": 48} | changes
    return module.build(module.Settings.model_validate(settings), Context(loss))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(shape[1], shape[1], generator=generator, dtype=torch.float64)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.einsum("dc,nchw->ndhw", mixed, noise) + mixed[0].view(1, -1, 1, 1)


def centred(features: torch.Tensor) -> torch.Tensor:
    pixels = features[0].flatten(1)
    return pixels - pixels.mean(1, keepdim=True)


def covariance(features: torch.Tensor, correction: int = 1) -> torch.Tensor:
    return torch.cov(features[0].flatten(1), correction=correction)


@pytest.mark.parametrize("module", BASELINES, ids=lambda m: m.__name__.split(".")[-1])
def test_parameters_are_table_1s_to_the_last_digit(module, loss):
    counted = PerceptualLoss(deepcopy(loss.vgg).to("meta"), loss.settings)  # without memory
    method, exact = build(module, counted), BASELINES[module][1]
    assert method.parameters == exact
    printed = float(method.printed.parameters.removesuffix("M"))
    assert printed == pytest.approx(exact / 1e6, abs=0.005 if module is not wct else 0.01)


def test_encoder_is_the_vgg_of_the_losses(vgg):
    encoder = Encoder("vgg16", 5, vgg, padding="zeros", pool="max").to(vgg.device)
    image = torch.rand(1, 3, 40, 33)
    names = [f"relu{block}_1" for block in range(1, 6)]
    for ours, expected in zip(encoder(image), vgg(image, names).values(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_vgg19_takes_weights_from_a_file(vgg, tmp_path):
    """VGG-19 with VGG-16's weights and a fourth convolution that does nothing is VGG-16."""
    path = tmp_path / "vgg19.safetensors"
    names = [name.removeprefix("weight") for name, _ in vgg.named_buffers() if "weight" in name]
    tensors = {f"conv{k}.weight": vgg.get_buffer(f"weight{k}").contiguous() for k in names}
    tensors |= {f"conv{k}.bias": vgg.get_buffer(f"bias{k}") for k in names}
    nothing = torch.zeros(256, 256, 3, 3)
    nothing[range(256), range(256), 1, 1] = 1
    tensors |= {"conv3_4.weight": nothing, "conv3_4.bias": torch.zeros(256)}
    save_file(tensors, path)
    image = torch.rand(1, 3, 32, 32)
    made = [Encoder("vgg19", 4, vgg, weights=path), Encoder("vgg16", 4, vgg)]
    for found, expected in zip(*(encoder(image) for encoder in made), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"vgg19\.safetensors: not VGG-19 weights"):
        Encoder("vgg19", 5, vgg, weights=path)  # conv4_4 is not there


def test_random_vgg19_keeps_the_size_of_activations(vgg):
    """So that a threshold on eigenvalues drops no more than it would with trained weights."""
    torch.manual_seed(0)
    sizes = [f.square().mean().sqrt() for f in Encoder("vgg19", 5, vgg)(torch.rand(1, 3, 64, 64))]
    assert all(0.2 < size / sizes[0] < 5 for size in sizes)


def test_normalised_vgg_averages_one(vgg):
    encoder = Encoder("vgg16", 4, vgg)
    images = torch.rand(2, 3, 64, 64)
    before = encoder(images)
    normalise(encoder, images)
    for raw, features in zip(before, encoder(images), strict=True):
        alive = raw.mean((0, 2, 3)) > 0
        average = features.mean((0, 2, 3))
        torch.testing.assert_close(average, alive.float(), rtol=1e-4, atol=1e-4)
        assert alive.float().mean() > 0.5


def test_adain_takes_the_styles_means_and_deviations():
    content, style = random(2, 5, 9, 8), random(1, 5, 6, 7, seed=1)
    output = adain.adain(content, moments(style))
    for image in output.split(1):
        expected = style.flatten(2)
        torch.testing.assert_close(image.mean((2, 3)), expected.mean(2))
        deviation = image.flatten(2).std(2, correction=0)
        torch.testing.assert_close(deviation, expected.std(2, correction=0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("correction", [0, 1])
def test_whitening_and_colouring_change_the_covariance(correction):
    content, style = random(1, 5, 9, 8), random(1, 5, 6, 7, seed=1)
    whitened = whiten(content, spectrum(content, correction=correction))
    torch.testing.assert_close(covariance(whitened, correction), torch.eye(5).double())
    coloured = colour(whitened, spectrum(style, correction=correction))
    torch.testing.assert_close(covariance(coloured, correction), covariance(style, correction))
    torch.testing.assert_close(coloured.mean((2, 3)), style.mean((2, 3)))


def test_fewer_pixels_than_channels_stay_finite():
    """In float32, as features are: 12 pixels span 11 dimensions of 40."""
    content, style = random(1, 40, 3, 4).float(), random(1, 40, 9, 8, seed=1).float()
    own = spectrum(content, correction=1)
    whitened = whiten(content, own)
    values = torch.linalg.eigvalsh(covariance(whitened))
    torch.testing.assert_close(values, torch.arange(40).ge(29).float(), rtol=0, atol=1e-3)
    coloured = colour(whitened, spectrum(style, correction=1))
    assert coloured.isfinite().all() and coloured.abs().max() < 10 * style.abs().max()
    # Features of another image have parts outside of those 11 dimensions: dropped, not blown up.
    other = whiten(random(1, 40, 3, 4, seed=2).float(), own)
    outside = own.vectors[0, :, :29].T.float() @ other[0].flatten(1)
    torch.testing.assert_close(outside, torch.zeros(29, 12), rtol=0, atol=1e-4)


def dense_swap(content, style, size):
    """As first published: convolution, arg max over channels, transposed convolution."""
    patches = F.unfold(style, size)[0].T.reshape(-1, style.shape[1], size, size)
    scores = F.conv2d(content, patches / patches.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    chosen = F.one_hot(scores.argmax(1), len(patches)).permute(0, 3, 1, 2).to(content.dtype)
    overlap = F.conv_transpose2d(torch.ones_like(chosen[:, :1]), content.new_ones(1, 1, size, size))
    return F.conv_transpose2d(chosen, patches) / overlap


@pytest.mark.parametrize("size", [3, 5])
def test_style_swap_is_the_dense_formulation_in_any_chunks(size):
    content, style = random(2, 4, 9, 11), random(1, 4, 8, 7, seed=1)
    expected = dense_swap(content, style, size)
    for chunk in (1, 1000, 2**24):
        torch.testing.assert_close(swap(content, style, size, chunk=chunk), expected)
    torch.testing.assert_close(swap(style, style, size), style)


def test_style_swap_needs_a_patch():
    with pytest.raises(InputError, match="style features of 4 x 9: smaller than a patch of 5"):
        swap(random(1, 4, 9, 9), random(1, 4, 4, 9), 5)


def test_avatarnets_decorator_runs_from_recoloured_to_swapped():
    content, style = random(1, 5, 9, 8), random(1, 5, 8, 7, seed=1)
    encoded = avatarnet.encode_style([style, style, style, style])
    recoloured = avatarnet.decorate(content, encoded, alpha=0, patch=5)

    # By singular values: X = U S V^T, so whitening leaves sqrt(H W) U V^T.
    left, _, right = torch.linalg.svd(centred(content), full_matrices=False)
    whitened = (72**0.5 * left @ right).view_as(content)
    left, lengths, right = torch.linalg.svd(centred(style), full_matrices=False)
    other = (56**0.5 * left @ right).view_as(style)
    root = (left * lengths / 56**0.5) @ left.T
    mean = style.mean((2, 3), keepdim=True)

    def coloured(features):
        return torch.einsum("dc,nchw->ndhw", root, features) + mean

    torch.testing.assert_close(recoloured, coloured(whitened))
    swapped = avatarnet.decorate(content, encoded, alpha=1, patch=5)
    torch.testing.assert_close(swapped, coloured(dense_swap(whitened, other, 5)))
    half = avatarnet.decorate(content, encoded, alpha=0.5, patch=5)
    torch.testing.assert_close(half, (recoloured + swapped) / 2)
    itself = avatarnet.decorate(style, encoded, alpha=1, patch=5)
    torch.testing.assert_close(itself, style)


def test_avatarnets_decoder_takes_the_styles_moments():
    torch.manual_seed(0)
    styles = [moments(torch.rand(1, channels, 5, 6)) for channels in (64, 128, 256)]
    decoder = SkipDecoder()
    decoder.last = torch.nn.Identity()
    found = decoder(torch.rand(1, 512, 4, 4), styles)
    assert found.shape == (1, 64, 32, 32)
    torch.testing.assert_close(found.mean((2, 3)), styles[0].mean.flatten(1))


@pytest.mark.parametrize("module", [wct, adain, avatarnet, styleswap], ids=lambda m: m.__name__)
@torch.no_grad()
def test_stylise_is_the_papers_composition(module, loss, monkeypatch):
    monkeypatch.setattr(wct, "LEVELS", (3, 2, 1))
    options = {"encoder": "vgg16", "style_size": 64}
    options |= {"alpha": 0.3} if module is not styleswap else {}
    method, vgg = build(module, loss, **options), loss.vgg
    settings = module.Settings.model_validate(BASELINES[module][0] | options)
    network = assemble(lambda: module.new_network(settings, vgg), settings, "cpu")
    style, content = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def by_depth(level):
        return -len(level.encoder(content))

    if module is wct:
        expected = content
        for level in sorted(network, key=by_depth):  # relu3_1 to relu1_1
            own, other = level.encoder(expected)[-1], level.encoder(style)[-1]
            whitened = whiten(own, spectrum(own, correction=1))
            coloured = colour(whitened, spectrum(other, correction=1))
            expected = level.decoder(0.3 * coloured + 0.7 * own)
    else:
        own, other = network.encoder(content)[-1], network.encoder(style)
        if module is adain:
            expected = network.decoder(0.3 * adain.adain(own, moments(other[-1])) + 0.7 * own)
        elif module is styleswap:
            expected = network.decoder(dense_swap(own, other[-1], 3))
        else:
            kept = avatarnet.encode_style(other)
            decorated = avatarnet.decorate(own, kept, alpha=0.3, patch=5)
            expected = network.decoder(decorated, [moments(f) for f in other[:3]])
    found = method.stylise(method.prepare(style), content)
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected.clamp(0, 1), rtol=1e-3, atol=1e-4)


def test_generated_network_is_one_loaded_by_hand():
    torch.manual_seed(0)
    width, statistics = 2, torch.rand(STATISTICS)
    hyper = HyperNetwork(width)
    residual = [f"layers.{block}.body.{conv}" for block in range(9, 14) for conv in (0, 3)]
    names = ["layers.3", "layers.6", *residual, "layers.15", "layers.19"]
    sizes = [18_496, 73_856, *[147_584] * 10, 73_792, 18_464]
    assert [linear.out_features for linear in hyper.maps] == sizes

    by_hand = TransformerNet()
    state = {n: p.detach().clone() for n, p in hyper.image_network.named_parameters()}
    hidden = (hyper.hidden.weight @ statistics + hyper.hidden.bias).clamp(min=0)
    for i, name in enumerate(names):
        linear = hyper.maps[i]
        numbers = linear.weight @ hidden[i * width : (i + 1) * width] + linear.bias
        outputs = len(state[f"{name}.bias"])
        state[f"{name}.weight"] = numbers[:-outputs].view_as(state[f"{name}.weight"])
        state[f"{name}.bias"] = numbers[-outputs:]
    by_hand.load_state_dict(state)

    image = torch.rand(1, 3, 32, 32)
    generated = hyper.network(statistics)
    torch.testing.assert_close(dict(generated.state_dict()), state)
    torch.testing.assert_close(generated(image), by_hand(image), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(generated(image), hyper.image_network(image), atol=1e-3)
    total = sum(weight.sum() for weight in hyper(statistics).values())
    (gradient,) = torch.autograd.grad(total, hyper.hidden.weight)
    assert gradient.abs().sum() > 0  # training reaches the hypernetwork through the weights


def test_what_was_trained_is_restored_without_vgg(tmp_path, loss):
    settings = adain.Settings(encoder="vgg16", alpha=1, style_size=48)
    trained = adain.new_network(settings, loss.vgg)
    normalise(trained.encoder, torch.rand(1, 3, 48, 48))
    path = tmp_path / "adain.safetensors"
    save_tensors(path, trained_state(trained), {})
    assert path.stat().st_size < 4 * 3_600_000  # decoder and averages

    style, content = torch.rand(2, 1, 3, 48, 48)
    method = build(adain, loss, encoder="vgg16", weights=path)
    features = adain.adain(trained.encoder(content)[-1], moments(trained.encoder(style)[-1]))
    expected = trained.decoder(features).clamp(0, 1)
    output = method.stylise(method.prepare(style), content)
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"adain\.safetensors: weights of another network"):
        build(styleswap, loss, weights=path)


def test_too_small_for_the_deepest_level_is_named(vgg):
    with pytest.raises(InputError, match="16 x 40 pixels: too small; sides need at least 32"):
        Encoder("vgg16", 5, vgg)(torch.rand(1, 3, 16, 40))


def test_gatys_lowers_its_loss_in_just_so_many_evaluations(loss, sets):
    content = images.load_square(sets.photos.inner[0], 48)
    target = loss.style(images.load_square(sets.artworks.train[0], 48))
    image, curve = optimise(content, content, target, loss, updates=7)
    assert len(curve) == 7 and curve[-1] < 0.9 * curve[0]
    assert image.shape == content.shape and image.min() >= 0 and image.max() <= 1
