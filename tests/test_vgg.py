"""The weights are torchvision's and so is what is computed with them."""

import hashlib
import io
import json
import pickle

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from torchvision.models import vgg16, vgg19

from metastyle.config import InputError
from metastyle.core.images import load_squares
from metastyle.core.vgg import INPUT, LAYERS, load_vgg
from tools.weights_from_lpips import ArraysOnly

WEIGHTS = ROOT / "data" / "vgg16.safetensors"
NAMES = [f"relu{layer}" for layer in LAYERS]


@pytest.fixture(scope="module")
def theirs():
    """torchvision's own module with our arrays, up to relu5_1, in order of its convolutions."""
    network = vgg16(weights=None).features[:26].requires_grad_(False)
    arrays = load_file(WEIGHTS)
    convs = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    for conv, name in zip(convs, LAYERS, strict=True):
        conv.weight.copy_(arrays[f"conv{name}.weight"])
        conv.bias.copy_(arrays[f"conv{name}.bias"])
    return network


def noise(height, width):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def activations(network, x):
    """Copies after every ReLU, which here works in place."""
    features = []
    for layer in network:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            features.append(x.clone())
    return features


def test_weights_are_torchvision_s():
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest == "0585659ccc8effdf054823cabf178fa355b44d0f7f0d235c458c634f5aabd51f"
    arrays = load_file(WEIGHTS)
    first, bias = arrays["conv1_1.weight"].flatten()[:3], arrays["conv1_1.bias"][:4]
    torch.testing.assert_close(first, torch.tensor([-0.55373, 0.14270, 0.52896]), atol=1e-5, rtol=0)
    expected = torch.tensor([0.40339, 0.37779, 0.46436, -0.32276])
    torch.testing.assert_close(bias, expected, atol=1e-5, rtol=0)


def test_activations_are_those_of_torchvision_s_network(vgg, theirs):
    images = noise(64, 45)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = activations(theirs, (images - mean) / deviation)
    found = vgg(images, NAMES)
    assert list(found) == NAMES
    for ours, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_size_of_activations_on_photos(vgg, sets):
    """At 128 px, so that alpha, beta and delta mean what the paper's mean."""
    photos = load_squares(sets.photos.validation[:6], 128)
    expected = {"relu1_2": 1.3, "relu2_2": 2.4, "relu3_3": 3.8, "relu4_3": 2.2}
    for name, features in vgg(photos, expected).items():
        assert features.square().mean().sqrt() == pytest.approx(expected[name], rel=0.15), name


def test_torchvision_s_own_file(vgg, tmp_path):
    network = vgg16(weights=None, init_weights=False)
    network.classifier = torch.nn.Sequential()  # 120 million numbers that nobody reads
    torch.save(network.state_dict(), path := tmp_path / "vgg16-397923af.pth")
    image = noise(32, 32)
    x = vgg.normalised(image)
    (found,) = load_vgg(path)(image, ["relu5_1"]).values()
    expected = activations(network.features[:26].requires_grad_(False), x)[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    torch.save(vgg19(weights=None, init_weights=False).features[:30].state_dict(), path)
    with pytest.raises(InputError, match=r"pth: not VGG-16 weights \(no features\.0\.weight\)"):
        load_vgg(path)


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("name", ["vgg.safetensors", "vgg.pth"])
@pytest.mark.parametrize("content", [None, b"", b"no such format", "folder", Malicious(), [1]])
def test_missing_or_broken_weights_are_named(tmp_path, name, content):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"{name}: .*dvc pull") as raised:
        load_vgg(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300 + len(str(path))


def test_weights_for_another_input_or_of_another_network_are_refused(tmp_path):
    path = tmp_path / "vgg.safetensors"
    arrays = load_file(WEIGHTS)
    about = {"about": json.dumps({"input": INPUT})}
    narrow = arrays | {"conv2_1.weight": torch.zeros(128, 3, 3, 3)}
    for tensors, metadata, message in (
        (arrays, {"input": "RGB 0..255 minus (123.68, ...)"}, "made for another input"),
        (arrays, None, "made for another input"),
        (narrow, about, r"conv2_1\.weight is \(128, 3, 3, 3\), not \(128, 64, 3, 3\)"),
        ({"conv1_1.weight": arrays["conv1_1.weight"]}, about, r"no conv1_1\.bias"),
    ):
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(InputError, match=rf"not VGG-16 weights \({message}"):
            load_vgg(path)


def test_the_converter_unpickles_arrays_and_nothing_else():
    arrays = {"Conv_0": {"bias": np.arange(3.0)}}
    found = ArraysOnly(io.BytesIO(pickle.dumps(arrays, protocol=3))).load()
    assert (found["Conv_0"]["bias"] == arrays["Conv_0"]["bias"]).all()
    with pytest.raises(pickle.UnpicklingError, match="no part of a numpy array"):
        ArraysOnly(io.BytesIO(pickle.dumps(Malicious()))).load()


def test_unknown_layer_is_named(vgg):
    with pytest.raises(InputError, match="relu9_9"):
        vgg(noise(16, 16), ["relu9_9"])


def test_bfloat16_rounds_between_the_layers_and_nowhere_else(vgg):
    image = noise(48, 32)[:1].requires_grad_()
    half = vgg.to_precision("bfloat16")
    assert vgg.to_precision("float32") is vgg
    assert vgg.weight1_1.dtype == half.normalised.mean.dtype == torch.float32
    assert half.weight5_1.dtype == half.bias1_1.dtype == torch.bfloat16
    layers = ["relu1_2", "relu4_3"]
    gradients = []
    for network in (vgg, half):
        features = network(image, layers)
        assert {f.dtype for f in features.values()} == {torch.float32}
        total = sum(f.square().mean() for f in features.values())
        gradients.append(torch.autograd.grad(total, image)[0].flatten())
    for name in layers:
        a, b = vgg(image, [name])[name], half(image, [name])[name]
        # Eight significant bits: 2^-9 a layer, of which the deepest has ten before it.
        assert 1e-4 < (a - b).norm() / a.norm() < 10 * 2**-9
    assert 0.99 < torch.cosine_similarity(*gradients, dim=0) < 1 - 1e-9
