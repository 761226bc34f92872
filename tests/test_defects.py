"""Patches, stray colours, droplets; the hatching measure finds a grid, its size and its phase."""

import pytest
import torch
from torch import nn

from metastyle.core import images
from metastyle.core.network import new_network
from metastyle.evaluation.defects import (
    PERIOD,
    SPIKED,
    agreement,
    droplets,
    hatching,
    pattern,
    saturated_patches,
    stray_share,
)


def test_patches_are_saturated_squares_that_the_photo_does_not_have():
    photo = torch.full((1, 3, 32, 32), 0.5)
    output = photo.clone()
    output[..., 4:13, 4:12] = 1.0  # 9 x 8 pixels hold two squares of side 8
    windows = (32 - 8 + 1) ** 2
    assert float(saturated_patches(output, photo)) == pytest.approx(2 / windows)
    assert float(saturated_patches(output, output)) == 0
    output[:, 1, 8, 8] = 0.5  # still one free value in every square
    assert float(saturated_patches(output, photo)) == 0


@pytest.fixture(scope="module")
def photos(sets):
    return images.load_squares(sets.photos.validation[:4], 264) / 2 + 0.25


def grid(side: int, levels: float) -> torch.Tensor:
    """Columns that are brighter and darker by turns of two, (1, 1, side, side)."""
    return (levels / 255 * (1 - 2 * (torch.arange(side) // 2 % 2))).expand(1, 1, side, side)


def test_a_grid_is_found_in_its_size_on_top_of_what_a_photo_has(photos):
    gridded = photos + grid(264, 3)
    assert hatching(photos).max() < 0.5
    # The blur that is subtracted keeps a trace of the grid.
    assert hatching(gridded).mean() == pytest.approx(3, rel=0.1)
    assert hatching(gridded, PERIOD + 1).mean() < 0.5


def test_the_networks_grid_stays_where_it_is_and_the_photos_own_moves_with_it(photos):
    first, moved = photos[..., :256, :256], photos[..., :256, 2:258]
    networks = [pattern(image + grid(256, 3)) for image in (first, moved)]
    assert agreement(*networks) > 0.95
    own = [pattern((photos + grid(264, 3))[..., :256, by : 256 + by]) for by in (0, 2)]
    assert agreement(*own) < -0.95


def test_a_flat_image_has_no_hatching():
    assert hatching(torch.full((2, 3, 96, 80), 0.3)).tolist() == pytest.approx([0, 0], abs=1e-3)


def test_stray_colours_are_neither_the_photos_nor_the_paintings():
    grey, red, cyan = (
        torch.tensor(c).view(1, 3, 1, 1) for c in ([0.5] * 3, [0.8, 0.1, 0.1], [0.0, 1, 1])
    )
    photo, painting = grey.expand(1, 3, 96, 120), red.expand(1, 3, 200, 96)
    output = photo.clone()
    output[..., :24] = red  # a fifth of it
    output[..., 48:54, 60:120] = cyan
    assert stray_share(output, photo) == pytest.approx(0.2 + 6 * 60 / (96 * 120))
    assert stray_share(output, photo, painting) == pytest.approx(6 * 60 / (96 * 120))
    assert stray_share(photo + 0.02, photo) == 0


def test_droplets_are_those_of_the_network_itself(photos):
    network, seen = new_network(0), []
    norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm2d)]
    for norm in norms:
        norm.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        network(photos[:2, :, :64, :48])
        hidden = seen[-1].relu()
    found = droplets(network, photos[:2, :, :64, :48])
    fourth = [made.double().pow(4).mean((2, 3)) for made in seen]  # norms of weight 1 and bias 0
    medians = [k.median().item() for k in fourth]
    assert found.kurtosis == pytest.approx(medians, rel=1e-3) and len(medians) == 15
    spikes = sum((k - SPIKED).clamp(min=0).mean() for k in fourth) / 15
    assert found.spikes == pytest.approx(spikes.item(), rel=1e-3, abs=1e-6)
    assert found.idle == ((hidden > 0).sum(1) <= 2).float().mean()


def test_a_spike_and_an_idle_layer_are_seen(photos):
    network = new_network(0)
    before = droplets(network, photos[:1])
    with torch.no_grad():
        network.layers[20].bias.fill_(-100.0)  # of the last norm
    assert before.idle < 0.5 and droplets(network, photos[:1]).idle == 1
    spiked = torch.zeros(1, 3, 64, 62)  # any size
    spiked[..., 30:33, 30:33] = 1
    assert droplets(network, spiked).spikes > before.spikes + 1
