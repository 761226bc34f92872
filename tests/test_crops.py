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
    augmentation = Augmentation(scale=(0.2, 1), brightness=0.2, saturation=0.3, hue=0.1)
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
