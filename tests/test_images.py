"""Any real image file in, an image of the same size out; bad files get one clear line."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
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


def wide_gamut(folder):
    """A picture with a profile of other primaries: sRGB's, with red and green swapped."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = int.from_bytes(srgb[128:132], "big")
    entries = [srgb[132 + 12 * k : 144 + 12 * k] for k in range(count)]
    names = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    table = b"".join(names.get(e[:4], e[:4]) + e[4:] for e in entries)
    profile = srgb[:132] + table + srgb[132 + 12 * count :]
    described = profile.replace("sRGB".encode("utf-16-be"), "Mine".encode("utf-16-be"))
    pattern().save(folder / "swapped.png", icc_profile=described.replace(b"sRGB", b"Mine"))
    return folder / "swapped.png"


def test_pixels_of_another_profile_are_converted_to_srgb(tmp_path):
    swapped = images.decode(wide_gamut(tmp_path)).int()
    pattern().save(tmp_path / "plain.png")
    plain = images.decode(tmp_path / "plain.png").int()
    # Its red is our green: what comes out has the two channels exchanged, rounding apart.
    assert (swapped - plain[[1, 0, 2]]).abs().max() <= 3
    assert (swapped - plain).abs().float().mean() > 20

    # An sRGB profile changes nothing, a broken one counts as none.
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("srgb.png", own), ("broken.png", b"no profile")):
        pattern().save(tmp_path / name, icc_profile=profile)
        assert torch.equal(images.decode(tmp_path / name).int(), plain), name


def test_a_profile_of_another_kind_of_pixels_counts_as_none(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pattern().convert("L").save(tmp_path / "grey.png", icc_profile=own)
    grey = np.asarray(pattern().convert("L"))
    assert np.array_equal(images.decode(tmp_path / "grey.png")[0].numpy(), grey)


def test_cmyk(tmp_path):
    pattern(64, 48).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    decoded = images.decode(tmp_path / "print.jpg").permute(1, 2, 0).numpy().astype(int)
    assert np.abs(decoded - np.asarray(pattern(64, 48)).astype(int)).mean() < 4


def test_pixels_that_are_no_levels_are_refused(tmp_path):
    Image.new("F", (20, 20), 0.5).save(tmp_path / "float.tif")
    Image.fromarray(np.full((20, 20), 70000, dtype=np.int32)).save(tmp_path / "deep.tif")
    for name, message in (("float.tif", "floating-point pixels"), ("deep.tif", "32-bit pixels")):
        with pytest.raises(InputError, match=rf"{name}: has {message}; save it with 8 or 16 bits"):
            images.decode(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n", "a PostScript file"),
        (b"%PDF-1.4\n", "a PDF file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo"),
        (b" <svg xmlns='http://www.w3.org/2000/svg'/>", "a SVG file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"P6 16 16 255\n" + bytes(3 * 256), None),  # Pillow could read it; we do not
    ],
)
def test_what_is_not_read_is_named_in_one_line(tmp_path, content, kind):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    wanted = f"is {kind}, which is not read; save it as" if kind else "not an image, whatever"
    with pytest.raises(InputError, match=rf"picture\.jpg: {wanted}") as error:
        images.decode(path)
    assert "\n" not in str(error.value)


def test_jpeg_is_saved_at_quality_95_with_full_chroma(tmp_path):
    images.save(tmp_path / "ours.jpg", images.to_float(tv.pil_to_tensor(pattern(64, 48))))
    pattern(64, 48).save(tmp_path / "pillow.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "ours.jpg") as ours, Image.open(tmp_path / "pillow.jpg") as pillow:
        assert ours.quantization == pillow.quantization
        assert {(h, v) for _, h, v, _ in ours.layer} == {(1, 1)}


@pytest.mark.parametrize("name", ["a.gif", "a.avif", "a.xyz", "a"])
def test_formats_that_are_not_written_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: unknown image format; use one of"):
        images.save(tmp_path / name, torch.zeros(3, 20, 20))
    assert not list(tmp_path.iterdir())


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
