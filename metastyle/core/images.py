"""Image files in, uint8 tensors between, image files out; all of them sRGB."""

import io
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from metastyle.config import InputError
from metastyle.files import replacing

log = logging.getLogger(__name__)

# What Pillow may read (MPO is a JPEG to it); one of its others is a program, which it runs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
WRITTEN = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}  # suffixes
SUFFIXES = WRITTEN | {".gif", ".avif"}
MIN_SIDE = 16  # relu5_1 of VGG-16 halves the image four times
# How a file begins that is no image here, and what it is.
OTHERS = {
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"8BPS": "Photoshop",
}
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypheim")
COMPRESSION = {"quality": 95, "subsampling": 0}  # of JPEG; WebP takes the first


def find(folder: str | Path) -> list[Path]:
    """All image files below `folder`, nested folders included, sorted by relative path.

    Raises:
        InputError: `folder` is not a directory or holds no file with an image suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set the path under 'data' in params.yaml")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"{folder}: no image ({', '.join(sorted(SUFFIXES))}) in this folder")
    return files


def decode(path: str | Path) -> Tensor:
    """Decode an image file to a uint8 sRGB tensor of shape (3, H, W).

    EXIF rotation and colour profile are applied, grey becomes RGB, 16-bit is reduced to 8, and
    transparent pixels are laid over white.

    Raises:
        InputError: missing, a directory, not an image of FORMATS, truncated, with pixels that
            are no levels of grey or colour, too large, or a side below MIN_SIDE.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as file:
                image = _to_srgb(ImageOps.exif_transpose(file), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_what(path)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{path}: more than {limit} megapixels; scale it down first") from None
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: corrupt or truncated ({error}); replace it") from None
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise InputError(
            f"{path}: {width}x{height} pixels are too few; each side needs at least {MIN_SIDE}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _what(path: Path) -> str:
    """What a file is that Pillow may not or cannot read."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[4:12] in HEIC:
        return "is a HEIC photo, which is not read; save it as JPEG first"
    for beginning, kind in OTHERS.items():
        if start.lstrip().startswith(beginning):
            return f"is a {kind} file, which is not read; save it as PNG or JPEG first"
    return "not an image, whatever its name says; replace it"


def _to_srgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "F":
        raise InputError(f"{path}: has floating-point pixels; save it with 8 or 16 bits first")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        levels = np.asarray(image).astype(np.float64)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"{path}: has 32-bit pixels; save it with 8 or 16 bits first")
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    profile = image.info.get("icc_profile")
    alpha = None
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    image = _converted(image, profile) if profile else image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return image


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """From an embedded profile to sRGB; a broken or unfitting profile counts as none."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image.convert("RGB")
        return ImageCms.profileToProfile(
            image, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")


def to_float(image: Tensor) -> Tensor:
    """Levels 0 to 255 of a uint8 tensor -> float32 in [0, 1]."""
    return image.float() * (1 / 255)


def load(path: str | Path, short_side: int | None = None) -> Tensor:
    """Decode to float RGB in [0, 1], shape (1, 3, H, W), optionally resized.

    Args:
        path: the image file.
        short_side: length in pixels that the shorter side is scaled to, aspect ratio kept.
    """
    image = to_float(decode(path))[None]
    if short_side is None:
        return image
    # The order in memory decides how networks round their sums; results were made with this one.
    image = image.contiguous(memory_format=torch.channels_last)
    return resize(image, short_side).clamp(0, 1)


def resize(images: Tensor, size: int | Sequence[int]) -> Tensor:
    """Scale (N, C, H, W) bilinearly, antialiased, to a (height, width), or so that the shorter
    side is `size` and the aspect ratio kept."""
    height, width = images.shape[-2:]
    if isinstance(size, int):
        short = min(height, width)
        size = (int(size * height / short), int(size * width / short))
    if tuple(size) == (height, width):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def centre(images: Tensor, height: int, width: int) -> Tensor:
    """The central height x width pixels of (N, C, H, W)."""
    top = round((images.shape[-2] - height) / 2)
    left = round((images.shape[-1] - width) / 2)
    return images[..., top : top + height, left : left + width]


def load_square(path: str | Path, size: int) -> Tensor:
    """The central square, scaled to `size`: float RGB in [0, 1], shape (1, 3, size, size)."""
    return centre(load(path, size), size, size)


def load_squares(paths: Iterable[str | Path], size: int) -> Tensor:
    """`load_square` of each path, stacked to (N, 3, size, size)."""
    return torch.cat([load_square(path, size) for path in paths])


def check_suffix(path: str | Path) -> None:
    """Refuse a name that `save` cannot write.

    Raises:
        InputError: the suffix is not a known image format.
    """
    if Path(path).suffix.lower() not in WRITTEN:
        known = ", ".join(sorted(WRITTEN))
        raise InputError(f"{path}: unknown image format; use one of {known}")


def save(path: str | Path, image: Tensor) -> None:
    """Write float RGB in [0, 1], shape (3, H, W) or (1, 3, H, W); the suffix picks the format.

    Raises:
        InputError: see `check_suffix`; also if the format cannot hold so large an image.
    """
    check_suffix(path)
    image = image.detach().squeeze(0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    with replacing(path) as temporary:
        try:
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary, **COMPRESSION)
        except ValueError as error:
            raise InputError(f"{path}: cannot be written ({error}); try a .png") from None


def readable(files: Iterable[Path]) -> list[Path]:
    """The files that decode; each of the others is reported by name in a warning and skipped."""
    good = []
    for file in files:
        try:
            decode(file)
        except InputError as error:
            log.warning("skipped: %s", error)
        else:
            good.append(file)
    return good
