"""Clips in and out, one frame at a time: memory does not depend on a clip's length (figure 5b)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import torch
from torch import Tensor

from metastyle.config import InputError
from metastyle.core.images import MIN_SIDE, resize, to_float
from metastyle.files import replacing

BT709 = 1  # the number of this colour space, its primaries and its transfer in H.264
# Of x264. Constant rate factor: 0 is lossless, 23 its default, 51 the worst. Without mbtree, whose
# AVX-512 code gives one clip several encodings.
ENCODER = {"crf": "20", "mbtree": "0"}


class Clip(NamedTuple):
    """What a file says of its video: frames per second, and their number (0: it does not say)."""

    rate: Fraction
    length: int


def describe(path: str | Path) -> Clip:
    """Frame rate and length of a clip.

    Raises:
        InputError: the file is missing, no video, or does not tell its frame rate.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise InputError(f"{path}: has no frame rate; convert it to MP4 first")
        return Clip(rate, stream.frames)


def frames(path: str | Path, height: int | None = None) -> Iterator[Tensor]:
    """Decode a clip frame by frame, upright and with square pixels; its sound is dropped.

    Args:
        path: any video that FFmpeg decodes.
        height: in pixels, aspect ratio kept; by default the clip's own. Both sides become even,
            as H.264 with halved colour planes wants them.

    Yields:
        Float RGB in [0, 1], shape (1, 3, H, W).

    Raises:
        InputError: missing, not a video, no frame in it, corrupt, or a side below MIN_SIDE.
    """
    found = False
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stretch = float(stream.sample_aspect_ratio or 1)
        for frame in container.decode(stream):
            size = frame.height, frame.width * stretch
            image = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            turns = round(frame.rotation / 90)  # counter-clockwise, as rot90's
            image = torch.rot90(image, turns, (0, 1)).permute(2, 0, 1)[None]
            size = _even(*(size[::-1] if turns % 2 else size), height)
            if min(size) < MIN_SIDE:
                raise InputError(
                    f"{path}: frames of {size[1]}x{size[0]} pixels are too small; "
                    f"each side needs at least {MIN_SIDE}"
                )
            found = True
            yield resize(to_float(image), size).clamp(0, 1)
    if not found:
        raise InputError(f"{path}: holds no frame; choose another clip")


def to_frame(image: Tensor) -> av.VideoFrame:
    """RGB in [0, 1], (3, H, W) or (1, 3, H, W) -> a frame for an encoder: yuv420p, BT.709."""
    levels = image.detach().reshape(image.shape[-3:]).clamp(0, 1).mul(255).round()
    array = levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    frame = av.VideoFrame.from_ndarray(array, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709")


@contextmanager
def writer(path: str | Path, rate: Fraction) -> Iterator[Callable[[Tensor], None]]:
    """Write a clip that browsers play: H.264, yuv420p, its index in front of the pictures.

    The file appears at `path` when the block ends without an error; its size is that of the
    first frame. One thread encodes, so that the bytes do not depend on the machine's cores.

    Args:
        path: the clip, a name that ends in .mp4.
        rate: frames per second.

    Yields:
        write(frame): appends RGB in [0, 1], shape (3, H, W) or (1, 3, H, W), both sides even.

    Raises:
        InputError: `path` has another suffix, or the block ended without a frame.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: clips are written as MP4; give a name that ends in .mp4")
    with (
        replacing(path) as temporary,
        av.open(temporary, "w", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate, options=ENCODER)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709

        def write(frame: Tensor) -> None:
            if not codec.is_open:
                stream.height, stream.width = frame.shape[-2:]
            container.mux(stream.encode(to_frame(frame)))

        yield write
        if not codec.is_open:
            raise InputError(f"{path}: no frame was written to this clip")
        container.mux(stream.encode())


def _even(height: float, width: float, wanted: int | None) -> list[int]:
    scale = (wanted or height) / height
    return [2 * round(side * scale / 2) for side in (height, width)]


@contextmanager
def _open(path: str | Path) -> Iterator[av.container.InputContainer]:
    """What FFmpeg says about a file, also while it is read, becomes one line."""
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video; choose another file")
            yield container
    except FileNotFoundError:
        raise InputError(f"{path}: no such video file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; give a video file") from None
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a video that can be read ({error.strerror})") from None
