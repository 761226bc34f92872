"""The losses against their definitions, written out."""

import numpy as np
import pytest
import torch

from metastyle.config import InputError
from metastyle.core.kernels import gram
from metastyle.core.losses import content_loss, range_penalty, saturated_share, style_loss
from metastyle.core.network import new_network

RANDOM = np.random.default_rng(0)


def uniform(seed, count=1):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


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
def test_style_loss_variants(loss, variant, divide_by):
    settings = loss.settings.changed(
        variant=variant, style_layers=["a", "b"], layer_weights=[2.0, 0.5]
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


def test_an_image_has_no_distance_to_itself(loss):
    image, s = uniform(0), loss.settings
    content, style = loss.content(image), loss.style(image)
    assert loss(image, content, style).total < 1e-8
    other = loss(image.flip(1), content, style)
    weighted = s.content_weight * other.content + s.style_weight * other.style
    assert float(other.total) == pytest.approx(float(weighted)) and other.total > 1e-8
    doubled = loss.changed(content_weight=2 * s.content_weight, style_weight=0)
    assert float(doubled(image.flip(1), content, style).total) == pytest.approx(
        2 * s.content_weight * float(other.content)
    )


def test_the_loss_of_a_batch_is_the_mean_of_its_images(loss):
    photos, outputs, style = uniform(1, 2), uniform(2, 2), loss.style(uniform(3))
    whole = loss(outputs, loss.content(photos), style)
    pairs = zip(outputs.split(1), photos.split(1), strict=True)
    single = [loss(output, loss.content(photo), style) for output, photo in pairs]
    for name in whole._fields:
        mean = torch.stack([getattr(one, name) for one in single]).mean()
        torch.testing.assert_close(getattr(whole, name), mean, rtol=1e-4, atol=0)


def test_the_loss_of_parameters_is_that_of_the_network_and_its_range(loss):
    network, photos, style = new_network(0), uniform(1), loss.style(uniform(2))
    narrow = loss.changed(range_limit=0.1)
    total, report = narrow.of_parameters(dict(network.named_parameters()), style, photos)
    logits = network(photos, logits=True)
    parts = loss(torch.sigmoid(logits), loss.content(photos), style)
    penalty = narrow.settings.range_weight * range_penalty(logits, 0.1)
    assert penalty > 0 and total.requires_grad and not report.requires_grad
    expected = [parts.total + penalty, parts.content, parts.style, saturated_share(network(photos))]
    torch.testing.assert_close(report, torch.stack(expected).detach(), rtol=1e-3, atol=1e-5)
    assert report[0] == total


def test_range_penalty_and_saturation():
    logits = torch.tensor([-6.0, -4.0, 0.0, 4.0, 5.0])
    assert float(range_penalty(logits, 4.0)) == pytest.approx((4 + 1) / 5)
    assert float(saturated_share(torch.tensor([0.0, 0.003, 0.01, 0.5, 1.0]))) == pytest.approx(0.6)


def test_every_style_layer_has_a_weight(loss):
    with pytest.raises(InputError, match="one number per entry of style_layers"):
        loss.changed(layer_weights=[1.0])
