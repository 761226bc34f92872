"""Crops: functions of a seed; and the images that are kept decoded for them."""

from pathlib import Path

import pytest
import torch

from metastyle.core import crops, images
from metastyle.core.crops import Augmentation

WHOLE = Augmentation(scale=(1, 1), aspect=(1, 1), flip=0)


@pytest.fixture
def files(tmp_path):
    """Six images of 32 x 32 pixels, which take 3072 bytes each once they are decoded."""
    crops.forget_decoded()
    for k in range(6):
        picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(k))
        images.save(tmp_path / f"{k}.png", picture)
    yield sorted(tmp_path.iterdir())
    crops.forget_decoded()


@pytest.fixture
def read(monkeypatch):
    """Names of the files in the order in which they were decoded."""
    names, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda path: names.append(path.stem) or decode(path))
    return names


def test_decoded_images_are_kept_up_to_so_many_bytes(files, read, monkeypatch):
    monkeypatch.setattr(crops, "DECODED_BYTES", 2 * 3072)
    for k in (0, 1, 0, 2, 0, 1):  # 2 displaces 1, which was not used for longest
        crops.decoded(files[k])
    assert read == ["0", "1", "2", "1"]
    assert torch.equal(crops.decoded(files[1]), images.decode(files[1]))


def test_an_image_larger_than_all_is_decoded_once_while_it_is_the_last(files, read, monkeypatch):
    monkeypatch.setattr(crops, "DECODED_BYTES", 1)
    for k in (0, 0, 1, 1, 0):
        crops.decoded(files[k])
    assert read == ["0", "1", "0"]


def test_a_batch_is_a_function_of_its_seed(files):
    augmentation = Augmentation(
        scale=(0.2, 1), brightness=(0.5, 1.5), saturation=(0.5, 1.5), contrast=0.2, hue=0.1
    )
    state = torch.random.get_rng_state()
    first, again, other = (crops.batch(files, 3, 20, augmentation, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, 3, 20, 20) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1


def test_a_crop_of_everything_is_the_image_or_its_mirror(files):
    whole = crops.crops(files[:1], 32, WHOLE, 0)
    mirrored = crops.crops(files[:1], 32, WHOLE.changed(flip=1), 0)
    assert torch.equal(whole, images.load(files[0]))
    assert torch.equal(mirrored, whole.flip(-1))


def recoloured(image, draws=40, **bounds):
    """What `recolour` makes of an image by so many draws."""
    shares = torch.rand(draws, 4, generator=torch.Generator().manual_seed(0))
    return crops.recolour(image.expand(draws, 3, -1, -1), shares, Augmentation(**bounds))


def test_factors_of_brightness_and_saturation_stay_between_their_bounds():
    dark = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1).expand(3, 8, 8)
    factors = recoloured(dark, brightness=(0.5, 2.0))[:, 1, 0, 0] / 0.2
    assert factors.min() >= 0.5 and factors.max() <= 2 + 1e-6
    assert factors.min() < 0.7 and factors.max() > 1.8  # and use the room
    made = recoloured(dark, saturation=(0.0, 1.5))
    spans = (made.amax(1) - made.amin(1))[:, 0, 0] / 0.2
    assert spans.min() >= 0 and spans.max() <= 1.5 + 1e-6
    assert spans.min() < 0.2 and spans.max() > 1.3
    assert torch.equal(recoloured(dark)[0], dark)  # by default nothing changes


def test_brightness_does_not_clip_more_than_a_twentieth_of_the_pixels():
    image = torch.linspace(0.02, 0.8, 400).view(1, 20, 20).expand(3, 20, 20)
    made = recoloured(image, brightness=(3.0, 3.0), draws=3)
    assert 0.02 < (made >= 1).float().mean() <= 0.05 + 1e-6
    bright = image.clone()
    bright[:, -2:] = 1.0  # a tenth is white: no factor above 1 is left
    assert torch.equal(recoloured(bright, brightness=(3.0, 3.0), draws=1)[0], bright)
    darker = recoloured(bright, brightness=(0.5, 0.5), draws=1)[0]
    torch.testing.assert_close(darker, 0.5 * bright)
    black = torch.zeros(3, 8, 8)
    assert torch.equal(recoloured(black, brightness=(3.0, 3.0), draws=1)[0], black)


def test_one_kind_of_change_does_not_draw_for_another(files):
    plain, varied = (
        crops.cut_batch(files, 3, 16, Augmentation(**bounds), 1)
        for bounds in ({}, {"brightness": (0.5, 1.5), "contrast": 0.2, "hue": 0.1})
    )
    assert torch.equal(plain.levels, varied.levels) and torch.equal(plain.shares, varied.shares)


def test_bounds_are_in_order():
    for name in ("scale", "brightness", "saturation"):
        with pytest.raises(ValueError, match=rf"{name}: the lower bound 0\.9 is above the upper"):
            Augmentation(**{name: (0.9, 0.5)})


def test_seeds_differ_by_every_part_of_their_key():
    keys = [(0, "query", 1, 2), (1, "query", 1, 2), (0, "support", 1, 2), (0, "query", 12)]
    seeds = [crops.derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and all(0 <= seed < 2**63 for seed in seeds)
    assert crops.derive_seed(0, "adapt", 1) == 2063244934519265875  # results depend on it


def test_pairs_deal_both_sides_in_turn():
    photos, artworks = ([Path(f"{side}{k}") for k in range(n)] for side, n in (("p", 3), ("a", 2)))
    many = crops.pairs(photos, artworks, 6, seed=2)
    assert len(set(many)) == 6
    assert crops.pairs(photos, artworks, 4, seed=2) == many[:4]
    assert {photo for photo, _ in many[:3]} == set(photos)
    assert {artwork for _, artwork in many[:2]} == set(artworks)
    assert crops.pairs(photos, artworks, 6, seed=3) != many
