"""The perceptual hash knows a picture again, and takes no two for one."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageOps

from metastyle.core.duplicates import NEAR, SIDE, distances, fingerprint, nearest

PHOTO = ROOT / "data" / "artworks" / "gcompris__mary-cassatt_summertime.jpg"
OTHER = PHOTO.with_name("gcompris__paul-gauguin_arearea.jpg")


def crop(image):
    width, height = image.size
    return image.crop((width // 50, height // 50, width - width // 50, height - height // 50))


COPIES = {
    "small": lambda image: image.resize((80, 60)),
    "grey": lambda image: image.convert("L"),
    "dark": lambda image: image.point(lambda v: 0.6 * v),
    "cropped": crop,
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near_and_another_picture_is_not(tmp_path, name):
    copy = tmp_path / "copy.jpg"
    with Image.open(PHOTO) as image:
        COPIES[name](image).save(copy, quality=60)
    apart = distances([PHOTO, copy, OTHER])
    assert apart.shape == (3, 3) and (np.diag(apart) == 0).all() and (apart == apart.T).all()
    assert apart[0, 1] < NEAR < apart[0, 2]
    (pair,) = nearest([PHOTO, OTHER, copy], 1).itertuples()
    assert (pair.one, pair.other, pair.distance) == (PHOTO, copy, apart[0, 1])


def test_fingerprint_does_not_see_brightness_and_contrast():
    grey = np.random.default_rng(0).random((SIDE, SIDE))
    bits = fingerprint(grey)
    assert bits.shape == (63,) and bits.sum() == 31
    assert (fingerprint(40 + 3 * grey) == bits).all()
    assert 0.3 < (fingerprint(np.random.default_rng(1).random((SIDE, SIDE))) != bits).mean() < 0.7
