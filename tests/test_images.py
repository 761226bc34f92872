"""Any real image file in, an image of the same size out; bad files get one clear line."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.network import new_network, stylise

NETWORK = new_network(0)


def pattern(width=37, height=23):
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1)
    return Image.fromarray(rgb.astype(np.uint8))


@settings(max_examples=12, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90))
def test_stylised_image_has_the_input_size(height, width):
    image = torch.rand(1, 3, height, width)
    output = stylise(NETWORK, image)
    assert output.shape == image.shape
    assert output.min() >= 0 and output.max() <= 1


def test_grey_alpha_and_16_bit(tmp_path):
    grey = np.linspace(0, 65535, 32 * 20).reshape(20, 32).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    decoded = images.decode(tmp_path / "deep.png")
    assert decoded.shape == (3, 20, 32)
    assert np.abs(decoded[0].numpy() - grey / 257).max() <= 0.5

    rgba = pattern().convert("RGBA")
    rgba.putalpha(0)
    rgba.save(tmp_path / "clear.png")
    assert bool((images.decode(tmp_path / "clear.png") == 255).all())

    pattern().convert("L").save(tmp_path / "grey.png")
    decoded = images.decode(tmp_path / "grey.png")
    assert torch.equal(decoded[0], decoded[2])


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be shown rotated by 90 degrees
    pattern(40, 24).save(tmp_path / "turned.png", exif=exif)
    expected = np.asarray(pattern(40, 24).rotate(-90, expand=True))
    decoded = images.decode(tmp_path / "turned.png")
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), expected)


def test_levels_become_floats_as_in_torchvision():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_float(levels), tv.to_dtype(levels, torch.float32, scale=True))
    assert images.to_float(levels)[[0, 255]].tolist() == [0, 1]


@pytest.mark.parametrize(("height", "width"), [(23, 37), (61, 40), (48, 48), (20, 333)])
@pytest.mark.parametrize("size", [16, 23, 48, (30, 17)])
def test_resize_and_centre_are_torchvisions(height, width, size):
    photo = images.to_float(tv.pil_to_tensor(pattern(width, height)))[None]
    made = images.resize(photo, size)
    expected = tv.resize(photo, size, antialias=True)
    assert torch.equal(made, expected)
    for sides in ((16, 16), (13, 16), tuple(made.shape[-2:])):
        assert torch.equal(images.centre(made, *sides), tv.center_crop(expected, sides))


def test_squares_are_the_middle_of_each_image(tmp_path):
    for name, sides in (("wide.png", (60, 20)), ("tall.png", (20, 45))):
        pattern(*sides).save(tmp_path / name)
    files = sorted(tmp_path.iterdir())
    squares = images.load_squares(files, 16)
    assert squares.shape == (2, 3, 16, 16)
    for file, square in zip(files, squares, strict=True):
        whole = tv.to_dtype(images.decode(file), torch.float32, scale=True)
        expected = tv.center_crop(tv.resize(whole, 16, antialias=True), 16)
        torch.testing.assert_close(square, expected.clamp(0, 1), rtol=0, atol=1e-6)


def test_save_and_load_are_inverse(tmp_path):
    pattern().save(tmp_path / "a.png")
    images.save(tmp_path / "new" / "b.png", images.load(tmp_path / "a.png"))
    assert torch.equal(images.decode(tmp_path / "a.png"), images.decode(tmp_path / "new" / "b.png"))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b.png"]


def bad_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.jpg").write_text("no image at all")
    pattern(300, 200).save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    (folder / "folder.png").mkdir()
    return ["text.jpg", "truncated.jpg", "empty.png", "pixel.png", "folder.png", "missing.png"]


def test_bad_files_get_one_line_naming_file_and_remedy(tmp_path):
    for name in bad_files(tmp_path):
        with pytest.raises(InputError) as error:
            images.decode(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value), name


def test_unreadable_files_of_a_folder_are_reported_and_skipped(tmp_path, caplog):
    bad_files(tmp_path / "deep" / "er")
    found = images.readable(images.find(tmp_path))
    assert [p.name for p in found] == ["whole.jpg"]
    for name in ("text.jpg", "truncated.jpg", "empty.png", "pixel.png"):
        assert name in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        images.find(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        images.find(tmp_path / "nowhere")
