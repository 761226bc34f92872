"""Gram matrices and losses against their definitions, written out."""

import numpy as np
import pytest
import torch

from metastyle.core.losses import (
    content_loss,
    content_target,
    gram,
    perceptual_loss,
    range_penalty,
    saturated_share,
    style_loss,
    style_target,
)

RANDOM = np.random.default_rng(0)


def test_gram_is_the_definition():
    features = RANDOM.normal(size=(2, 3, 4, 5))
    expected = np.zeros((2, 3, 3))
    for n in range(2):
        for i in range(3):
            for j in range(3):
                products = [features[n, i, y, x] * features[n, j, y, x]
                            for y in range(4) for x in range(5)]  # fmt: skip
                expected[n, i, j] = sum(products) / (3 * 4 * 5)
    np.testing.assert_allclose(gram(torch.from_numpy(features)), expected, rtol=1e-12)


@pytest.mark.parametrize(("variant", "divide_by"), [("paper", 1), ("release", 9)])
def test_style_loss_variants(perceptual, variant, divide_by):
    settings = perceptual.model_copy(
        update={"variant": variant, "style_layers": ["a", "b"], "layer_weights": [2.0, 0.5]}
    )
    grams = {name: torch.from_numpy(RANDOM.normal(size=(2, 3, 3))) for name in "ab"}
    target = {name: torch.from_numpy(RANDOM.normal(size=(3, 3))) for name in "ab"}
    by_layer = {n: ((grams[n] - target[n]) ** 2).numpy().sum() / 2 / divide_by for n in "ab"}
    expected = 2.0 * by_layer["a"] + 0.5 * by_layer["b"]
    assert float(style_loss(grams, target, settings)) == pytest.approx(expected, rel=1e-12)


def test_content_loss_is_the_mean_square():
    a, b = RANDOM.normal(size=(2, 2, 3, 4, 5))
    expected = np.mean((a - b) ** 2)
    assert float(content_loss(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(expected)


def test_an_image_has_no_distance_to_itself(vgg, perceptual):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = style_target(vgg, image, perceptual)
    wanted = content_target(vgg, image, perceptual)
    same = perceptual_loss(vgg, image, wanted, target, perceptual)
    other = perceptual_loss(vgg, image.flip(1), wanted, target, perceptual)
    assert same.total < 1e-8 < other.total
    weighted = perceptual.content_weight * other.content + perceptual.style_weight * other.style
    assert float(other.total) == pytest.approx(float(weighted))


def test_range_penalty_and_saturation():
    logits = torch.tensor([-6.0, -4.0, 0.0, 4.0, 5.0])
    assert float(range_penalty(logits, 4.0)) == pytest.approx((4 + 1) / 5)
    assert float(saturated_share(torch.tensor([0.0, 0.003, 0.01, 0.5, 1.0]))) == pytest.approx(0.6)
