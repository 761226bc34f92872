"""Image files in, uint8 tensors between, image files out."""

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from metastyle.config import InputError
from metastyle.files import replacing

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
MIN_SIDE = 16  # relu5_1 of VGG-16 halves the image four times


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
    """Decode an image file to a uint8 RGB tensor of shape (3, H, W).

    EXIF rotation is applied, grey becomes RGB, 16-bit is reduced to 8, and transparent
    pixels are laid over white.

    Raises:
        InputError: missing, a directory, not an image, truncated, or a side below MIN_SIDE.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = _to_rgb(ImageOps.exif_transpose(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image, whatever its name says; replace it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{path}: more than {limit} megapixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: corrupt or truncated ({error}); replace it") from None
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise InputError(
            f"{path}: {width}x{height} pixels are too few; each side needs at least {MIN_SIDE}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
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


def save(path: str | Path, image: Tensor) -> None:
    """Write float RGB in [0, 1], shape (3, H, W) or (1, 3, H, W); the suffix picks the format.

    Raises:
        InputError: the suffix is not a known image format.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown image format; use one of {', '.join(sorted(SUFFIXES))}")
    image = image.detach().squeeze(0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    with replacing(path) as temporary:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary)


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
