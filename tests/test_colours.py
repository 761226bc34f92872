"""Changes of colour against torchvision's, image by image."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from metastyle.core import colours

IMAGES = torch.rand(3, 3, 9, 10, generator=torch.Generator().manual_seed(0))
IMAGES[0, :, :3] = 0.4  # grey, whose hue is nobody's
IMAGES[1, :, 0] = 0
PAIRS = {
    "contrasted": (F.adjust_contrast, [0.7, 1.0, 1.4]),
    "saturated": (F.adjust_saturation, [0.0, 1.0, 1.8]),
    "turned": (F.adjust_hue, [-0.45, 0.0, 0.2]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_batch_is_changed_as_torchvision_changes_each_image(name):
    theirs, factors = PAIRS[name]
    ours = getattr(colours, name)(IMAGES, torch.tensor(factors))
    expected = torch.stack([theirs(i, f) for i, f in zip(IMAGES, factors, strict=True)])
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)


def test_brightness_rises_as_far_as_few_pixels_clip():
    images = torch.stack([0.5 * IMAGES[2], IMAGES[2], torch.zeros_like(IMAGES[2])])
    made = colours.brightened(images, torch.tensor([3, 0.8, 1.9]))
    clipped = (made[0].amax(0) == 1).float().mean()
    assert 0.02 < clipped < 0.06 and made[0].mean() > 1.8 * images[0].mean()
    torch.testing.assert_close(made[1], 0.8 * images[1])
    assert not made[2].any()
    bright = colours.brightened(IMAGES[2:].clamp(min=0.9), torch.tensor([1.5]))
    torch.testing.assert_close(bright, IMAGES[2:].clamp(min=0.9), rtol=0, atol=0.05)
