"""LPIPS is LPIPS: its authors' own numbers, and the formula again in NumPy."""

import hashlib
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from torchvision.models import alexnet as torchvision_s

from metastyle.config import InputError
from metastyle.core.images import load_square
from metastyle.core.vgg import INPUT
from metastyle.evaluation.lpips import load_alexnet, lpips, statistics, style_distance

WEIGHTS = ROOT / "data" / "alexnet.safetensors"


@pytest.fixture(scope="module")
def alexnet():
    return load_alexnet(WEIGHTS)


@pytest.fixture(scope="module")
def pictures(sets):
    return torch.cat([load_square(file, 96) for file in sets.artworks.validation[:3]])


def waves(height, width):
    """An image that any program can make."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = [0.5 + 0.45 * np.sin(x / 7 + k) * np.cos(y / (11 + k)) for k in range(3)]
    return torch.from_numpy(np.stack(image))[None].float()


def torchvision_s_features(images):
    """After each ReLU of torchvision's own module with our arrays: five (N, C, h, w) arrays."""
    network = torchvision_s().features[:12].requires_grad_(False)
    arrays = load_file(WEIGHTS)
    convs = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    for k, conv in enumerate(convs, start=1):
        conv.weight.copy_(arrays[f"conv{k}.weight"])
        conv.bias.copy_(arrays[f"conv{k}.bias"])
    # As LPIPS states it, for images in [-1, 1].
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    x = (2 * images - 1 - shift) / scale
    features = []
    for layer in network:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            features.append(x.double().numpy().copy())
    return features


def test_weights_are_the_published_ones():
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest == "f6c38d7979f579d1ef593954a5c591ae750f5434e5e5f7383bcd6b901eff517d"


def test_lpips_is_what_its_authors_program_says(alexnet):
    """PyPI lpips 0.1.4, net="alex", which has the heads of our file, given its convolutions."""
    image = waves(64, 97)
    found = [lpips(image, other, alexnet).item() for other in (image.flip(3), 1 - image, image**2)]
    assert found == pytest.approx([0.239156, 0.285712, 0.040646], abs=2e-6)


def test_lpips_is_the_formula(alexnet, pictures):
    others = pictures.flip(0).contiguous()
    heads = [load_file(WEIGHTS)[f"lin{k}"].double().numpy() for k in range(5)]
    total = np.zeros(len(pictures))
    layers = zip(torchvision_s_features(pictures), torchvision_s_features(others), strict=True)
    for (a, b), head in zip(layers, heads, strict=True):
        a, b = (f / (np.sqrt((f**2).sum(1, keepdims=True)) + 1e-10) for f in (a, b))
        total += ((a - b) ** 2 * head[None, :, None, None]).sum(1).mean((1, 2))
    assert lpips(pictures, others, alexnet).numpy() == pytest.approx(total, rel=1e-4)


def test_style_distance_is_the_formula(alexnet, pictures):
    found, wanted = statistics(pictures[:2], alexnet), statistics(pictures[2:], alexnet)
    expected = np.zeros(2)
    layers = zip(torchvision_s_features(pictures), found, wanted, strict=True)
    for f, ours, theirs in layers:
        s = np.concatenate([f.mean((2, 3)), f.std((2, 3))], axis=1)
        assert torch.cat([ours, theirs]).numpy() == pytest.approx(s, rel=1e-3, abs=1e-4)
        length = ((s[:2] ** 2).sum(1) + (s[2:] ** 2).sum(1)) / 2
        expected += ((s[:2] - s[2:]) ** 2).sum(1) / length / 5
    assert style_distance(found, wanted).numpy() == pytest.approx(expected, rel=1e-3)


def test_both_are_zero_for_the_same_symmetric_and_grow_with_noise(alexnet, pictures):
    def style(one, other):
        return style_distance(statistics(one, alexnet), statistics(other, alexnet))

    def content(one, other):
        return lpips(one, other, alexnet)

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(pictures.shape, generator=generator)
    for distance in (content, style):
        assert (distance(pictures, pictures) == 0).all()
        levels = [distance(pictures, (pictures + s * noise).clamp(0, 1)) for s in (0.02, 0.1, 0.4)]
        assert (levels[0] > 0).all() and (levels[1] > levels[0]).all()
        assert (levels[2] > levels[1]).all() and (levels[2] < 2).all()
        there, back = (
            distance(pictures, pictures.roll(1, 0)),
            distance(pictures.roll(1, 0), pictures),
        )
        torch.testing.assert_close(there, back)


def test_style_does_not_ask_where_and_content_does(alexnet, pictures):
    swapped = pictures.roll(48, 3)  # left half and right half
    of = statistics(pictures, alexnet)
    moved = style_distance(statistics(swapped, alexnet), of)
    another = style_distance([s.roll(1, 0) for s in of], of)
    assert (moved < 0.5 * another).all()
    assert (lpips(pictures, swapped, alexnet) > 0.3).all()


def test_an_image_too_small_is_refused(alexnet):
    assert lpips(waves(31, 40), waves(31, 40), alexnet) == 0
    with pytest.raises(InputError, match=r"30 x 40 pixels: too small for AlexNet; .* at least 31"):
        lpips(waves(30, 40), waves(30, 40), alexnet)


def test_missing_broken_and_other_weights_are_named(tmp_path):
    path = tmp_path / "alexnet.safetensors"
    with pytest.raises(InputError, match="weights are missing; run 'dvc pull'"):
        load_alexnet(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match=r"not AlexNet's weights .*; run 'dvc pull'"):
        load_alexnet(path)
    with pytest.raises(InputError, match=r"not AlexNet's weights \(no conv1\.weight\)"):
        load_alexnet(ROOT / "data" / "vgg16.safetensors")
    wrong = load_file(WEIGHTS) | {"lin2": torch.zeros(256)}
    save_file(wrong, path, metadata={"about": json.dumps({"input": INPUT})})
    with pytest.raises(InputError, match=r"lin2 is \(256,\), not \(384,\)"):
        load_alexnet(path)
