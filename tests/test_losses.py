"""The losses against their definitions, written out."""

import numpy as np
import pytest
import torch

from metastyle.config import InputError
from metastyle.core.kernels import gram
from metastyle.core.losses import (
    REPORT,
    content_loss,
    idle_share,
    kurtosis,
    range_penalty,
    saturated_share,
    spike_penalty,
    style_loss,
)
from metastyle.core.network import new_network
from metastyle.meta.reference import watched

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
    narrow = loss.changed(range_limit=0.1, spike_limit=2.0)
    total, report = narrow.of_parameters(dict(network.named_parameters()), style, photos)
    seen = []
    with watched(network, seen):
        logits = network(photos, logits=True)
    hidden = []
    network.layers[22].register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
    shown = network(photos)
    spikes = spike_penalty(seen, 2.0)
    parts = loss(torch.sigmoid(logits), loss.content(photos), style)
    penalty = narrow.settings.range_weight * range_penalty(logits, 0.1)
    weighted = narrow.settings.spike_weight * spikes
    assert penalty > 0 and weighted > 0 and total.requires_grad and not report.requires_grad
    expected = {
        "loss": parts.total + penalty + weighted, "content": parts.content, "style": parts.style,
        "saturated": saturated_share(shown), "spikes": spikes, "idle": idle_share(hidden[0]),
    }  # fmt: skip
    assert list(expected) == REPORT
    values = torch.stack([*expected.values()]).detach()
    torch.testing.assert_close(report, values, rtol=1e-3, atol=1e-4)
    assert report[0] == total


def test_a_weight_of_0_switches_a_penalty_off_and_not_its_report(loss):
    given = dict(new_network(0).named_parameters()), loss.style(uniform(2)), uniform(1)
    plain = loss.changed(range_weight=0.0, spike_weight=0.0, range_limit=0.1, spike_limit=2.0)
    total, report = plain.of_parameters(*given)
    s = plain.settings
    weighted = s.content_weight * report[1] + s.style_weight * report[2]
    assert total.item() == pytest.approx(weighted.item(), rel=1e-5)
    spikes = REPORT.index("spikes")
    assert report[spikes] > 0
    with_them, other = plain.changed(spike_weight=0.5).of_parameters(*given)
    assert (with_them - total).item() == pytest.approx(0.5 * report[spikes].item(), rel=0.01)
    assert other[spikes] == report[spikes]


def test_range_penalty_and_saturation():
    logits = torch.tensor([-6.0, -4.0, 0.0, 4.0, 5.0])
    assert float(range_penalty(logits, 4.0)) == pytest.approx((4 + 1) / 5)
    assert float(saturated_share(torch.tensor([0.0, 0.003, 0.01, 0.5, 1.0]))) == pytest.approx(0.6)


def test_kurtosis_is_that_of_each_map():
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(2, 3, 200, 200, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        kurtosis(gaussian), torch.full((2, 3), 3.0).double(), rtol=0.05, atol=0
    )
    # Two values alike: 1. One position of n: about n.
    halves = torch.cat([torch.ones(1, 1, 8, 16), -torch.ones(1, 1, 8, 16)], 2)
    assert kurtosis(halves).item() == pytest.approx(1, abs=1e-3)
    spike = torch.zeros(1, 1, 16, 16)
    spike[..., 3, 5] = 100.0
    assert kurtosis(spike).item() == pytest.approx(256, rel=0.05)
    # Scale and shift do not count, which an instance norm takes away.
    torch.testing.assert_close(kurtosis(7 * gaussian + 3), kurtosis(gaussian), rtol=1e-4, atol=0)
    assert kurtosis(torch.full((1, 1, 4, 4), 5.0)) == 0


def test_spike_penalty_is_the_mean_excess_over_layers_and_maps():
    spike = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    spike[0, 0, 3, 5], spike[0, 1, ::2] = 100.0, 1.0
    high = kurtosis(spike)[0, 0].item() - 6
    flat = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    assert spike_penalty([flat], 6.0) == 0
    assert spike_penalty([spike, flat], 6.0).item() == pytest.approx((high / 2 + 0) / 2)


def test_spike_penalty_has_the_gradient_of_its_values():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 2, 4, 5), (1, 3, 3, 3))
    normed = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).pow(3).requires_grad_()
        for shape in shapes
    ]

    def penalty(*layers):
        return spike_penalty(list(layers), 2.0)

    assert penalty(*normed) > 0
    assert torch.autograd.gradcheck(penalty, normed)
    assert torch.autograd.gradgradcheck(penalty, normed)


def test_idle_share_counts_positions_with_few_channels_alive():
    hidden = torch.zeros(1, 5, 2, 2)
    hidden[0, :2, 0, 0] = 1.0  # two alive: idle
    hidden[0, :3, 0, 1] = 1.0  # three: not
    hidden[0, :, 1, 0] = -1.0  # none
    assert idle_share(hidden).item() == 0.75
    assert idle_share(hidden, alive=1).item() == 0.5


def test_every_style_layer_has_a_weight(loss):
    with pytest.raises(InputError, match="one number per entry of style_layers"):
        loss.changed(layer_weights=[1.0])
