"""The weights are the original ones and our forward pass is ONNX Runtime's."""

import hashlib
import json

import numpy as np
import pytest
import torch
from conftest import ROOT

from metastyle.config import InputError
from metastyle.core.splits import Data
from metastyle.core.vgg import LAYERS, load_vgg


@pytest.fixture(scope="module")
def weights(project):
    return project.root / Data.read(project, "data").vgg


@pytest.fixture(scope="module")
def raw(weights):
    return load_vgg(weights, scale=1.0)


def test_weights_are_the_published_ones(weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest == "ccad68c77fdc5dbbf48bb7f3b64aa2df4239061447bcf0df4a1c8a298178773d"


def test_activations_agree_with_onnx_runtime(raw):
    y, x = np.mgrid[:240, :240].astype(np.float64)
    waves = [np.sin(x / 7 + k) * np.cos(y / (11 + k)) for k in range(3)]
    image = np.stack([np.round(127.5 + 120 * w) for w in waves]) / 255
    names = [f"relu{layer}" for layer in LAYERS]
    features = raw(torch.from_numpy(image)[None].float(), names)
    fixture = json.loads((ROOT / "tests/fixtures/vgg_onnx.json").read_text())
    assert list(fixture) == names
    for name, expected in fixture.items():
        ours = features[name][0]
        assert float(ours.mean()) == pytest.approx(expected["mean"], rel=1e-4)
        for channel, row, column, value in expected["points"]:
            assert float(ours[channel, row, column]) == pytest.approx(value, rel=1e-3, abs=0.02)


def test_scale_scales_every_activation(raw, vgg, loss):
    image = torch.rand(1, 3, 40, 24, generator=torch.Generator().manual_seed(0))
    layers = ["relu1_2", "relu5_1"]
    before, scaled = raw(image, layers), vgg(image, layers)
    for name in layers:
        expected = before[name] * loss.settings.feature_scale
        torch.testing.assert_close(scaled[name], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("content", [None, b"not safetensors", "folder"])
def test_missing_or_broken_weights_are_named(tmp_path, content):
    path = tmp_path / "vgg.safetensors"
    if content == "folder":
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"vgg\.safetensors: .*dvc pull"):
        load_vgg(path, 1.0)


def test_unknown_layer_is_named(vgg):
    with pytest.raises(InputError, match="relu9_9"):
        vgg(torch.rand(1, 3, 16, 16), ["relu9_9"])


def test_bfloat16_rounds_between_the_layers_and_nowhere_else(vgg):
    image = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    half = vgg.to_precision("bfloat16")
    assert vgg.to_precision("float32") is vgg
    assert vgg.weight1_1.dtype == half.mean.dtype == torch.float32
    layers = ["relu1_2", "relu4_3"]
    found, gradients = [], []
    for network in (vgg, half):
        features = network(image, layers)
        assert {f.dtype for f in features.values()} == {torch.float32}
        total = sum(f.square().mean() for f in features.values())
        gradients.append(torch.autograd.grad(total, image)[0].flatten())
        found.append(features)
    for name in layers:
        a, b = (features[name] for features in found)
        # Eight significant bits: 2^-9 a layer, of which the deepest has ten before it.
        assert 1e-4 < (a - b).norm() / a.norm() < 10 * 2**-9
    assert 0.999 < torch.cosine_similarity(*gradients, dim=0) < 1 - 1e-9
