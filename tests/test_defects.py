"""Saturated patches; the hatching measure finds a grid, its size and its phase."""

import pytest
import torch

from metastyle.core import images
from metastyle.evaluation.defects import (
    PERIOD,
    agreement,
    hatching,
    pattern,
    saturated_patches,
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
