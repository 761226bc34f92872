"""Clips in real files, and real processes; flicker whose value is known."""

import os
import subprocess
import sys
import weakref
from fractions import Fraction

import av
import pytest
import torch
from conftest import ROOT

from metastyle.adaptation import video
from metastyle.core import images
from metastyle.evaluation import flicker
from metastyle.core.checkpoint import save_network
from metastyle.config import InputError
from metastyle.core.network import new_network

RATE = Fraction(30000, 1001)


def ramp(height=48, width=64, lift=0.0):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([0.8 * x, 0.8 * y, 0.8 - 0.8 * x])[None] + lift


def clip(path, count=12, **size):
    with video.writer(path, RATE) as write:
        for k in range(count):
            write(ramp(lift=k / 100, **size))
    return path


def test_a_clip_survives_the_disk(tmp_path):
    path = clip(tmp_path / "a.mp4")
    assert video.describe(path) == (RATE, 12)
    read = list(video.frames(path))
    assert len(read) == 12
    for k, frame in enumerate(read):
        assert (frame - ramp(lift=k / 100)).abs().mean() < 0.02
    again = {clip(tmp_path / "b.mp4").read_bytes() for _ in range(20)}
    assert again == {path.read_bytes()}


def test_sides_are_even_and_keep_their_ratio(tmp_path):
    path = clip(tmp_path / "a.mp4", 2, height=54, width=96)
    assert [f.shape[-2:] for f in video.frames(path, 37)] == [(36, 66)] * 2
    with pytest.raises(InputError, match="14x24 pixels are too small"):
        list(video.frames(clip(tmp_path / "b.mp4", 2, height=100, width=60), 24))


def test_a_clip_shot_on_its_side_is_put_upright(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(90)
        frame = video.to_frame(ramp())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (upright,) = video.frames(tmp_path / "a.mp4")
    assert (upright - torch.rot90(ramp(), 1, (2, 3))).abs().mean() < 0.05


def test_few_frames_are_alive_at_a_time(tmp_path):
    source = clip(tmp_path / "a.mp4", 50)
    alive, most = weakref.WeakSet(), 0

    def watched():
        nonlocal most
        for frame in video.frames(source):
            alive.add(frame)
            most = max(most, len(alive))
            yield {"source": frame}

    assert len(flicker.errors(watched(), "source")) == 49
    assert most <= 4


PEAK = """
import resource, sys
from metastyle.adaptation import video
for name in sys.argv[1:]:
    with video.writer("out.mp4", video.describe(name).rate) as write:
        for frame in video.frames(name):
            write(frame)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_clip(tmp_path):
    """Megabytes of a process at most: 40 frames, then 400 (as decoded they are 46)."""
    files = [clip(tmp_path / f"{n}.mp4", n, height=240, width=320) for n in (40, 400)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    few, many = map(int, done.stdout.split())
    assert many - few < 20


def metastyle(*arguments):
    command = [sys.executable, "-m", "metastyle.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "n.safetensors"
    save_network(path, dict(new_network(0).named_parameters()), {})
    return path


def test_the_command_writes_what_a_browser_plays(tmp_path, network):
    source, out = clip(tmp_path / "in.mp4"), tmp_path / "new folder" / "out.mp4"
    done = metastyle("video", network, source, out, "--height", 36)
    assert done.returncode == 0, done.stderr
    with av.open(out) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width, stream.average_rate) == (36, 48, RATE)
        assert sum(1 for _ in container.decode(stream)) == 12
    data = out.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(
    ("name", "height", "message"),
    [
        ("missing.mp4", None, "missing.mp4: no such video file"),
        ("text.mp4", None, "text.mp4: not a video"),
        (".", None, "is a directory"),
        ("empty.y4m", None, "empty.y4m: holds no frame"),
        ("sound.wav", None, "sound.wav: holds no video"),
        ("half.mp4", None, "half.mp4: not a video"),
        ("good.mp4", 8, "10x8 pixels are too small"),
        ("good.mp4", -64, "too small"),
    ],
)
def test_bad_clips_are_named(tmp_path, name, height, message):
    good = clip(tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("text")
    (tmp_path / "empty.y4m").write_text("YUV4MPEG2 W64 H48 F25:1\n")
    (tmp_path / "half.mp4").write_bytes(good.read_bytes()[: good.stat().st_size * 2 // 3])
    with av.open(tmp_path / "sound.wav", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame(format="s16", layout="mono", samples=800)
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(InputError, match=message) as error:
        list(video.frames(tmp_path / name, height))
    assert "\n" not in str(error.value)


def test_a_bad_clip_gets_one_line_and_leaves_no_file(tmp_path, network):
    (tmp_path / "empty.y4m").write_text("YUV4MPEG2 W64 H48 F25:1\n")
    done = metastyle("video", network, tmp_path / "empty.y4m", tmp_path / "out.mp4")
    assert done.returncode == 1
    lines = [line for line in done.stderr.strip().splitlines() if "frame/s" not in line]
    assert len(lines) == 1 and "empty.y4m: holds no frame" in lines[0], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty.y4m"]


def test_nothing_but_mp4_is_written_and_never_an_empty_one(tmp_path):
    with pytest.raises(InputError, match=r"o\.avi: clips are written as MP4"):
        clip(tmp_path / "o.avi")
    with pytest.raises(InputError, match=r"o\.mp4: no frame"):
        clip(tmp_path / "o.mp4", 0)
    assert not list(tmp_path.iterdir())


def test_a_known_motion_has_no_error_and_a_known_flicker_has_its_own(sets):
    photo = images.load_square(sets["photo/held_out"][0], 96)
    frames = list(flicker.pan(photo, 64, 8, 5))
    assert flicker.pan_errors(frames, 8) == [0] * 4
    assert min(flicker.pan_errors(frames, 4)) > 0.01
    lifted = [frame + 0.1 * (k % 2) for k, frame in enumerate(frames)]
    assert flicker.pan_errors(lifted, 8) == pytest.approx([0.1] * 4, rel=1e-5)
    still = list(flicker.pan(photo, 64, 0, 3))
    assert flicker.pan_errors(still, 0) == [0, 0]


def test_brightness_that_flickers_over_a_still_clip(sets):
    photo = images.load_square(sets["photo/held_out"][0], 64)
    made = [{"source": photo, "lifted": photo + 0.1 * (k % 2)} for k in range(4)]
    table = flicker.errors(iter(made), "source").set_index("name")
    assert table.loc["source", ["warp", "change"]].max(axis=None) < 1e-6
    assert table.loc["lifted", "warp"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert table.loc["lifted", "change"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert table.loc["lifted", "still"].tolist() == pytest.approx([0.1] * 3, rel=1e-4)
    assert (table["seen"] == 1).all()
    contrast = (photo - photo.mean((2, 3), keepdim=True)).square().mean().sqrt().item()
    assert table.loc["source", "contrast"].tolist() == pytest.approx([contrast] * 3)


def test_what_moves_is_not_still():
    one = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    two, made = one.clone(), one.clone()
    two[..., :16] += 0.2
    two[..., 16:] += 1 / 255
    made[..., :16] += 0.3
    made[..., 16:] += 0.05
    table = flicker.errors([{"s": one, "o": one}, {"s": two, "o": made}], "s").set_index("name")
    assert table.loc["o", "still"] == pytest.approx(0.05, rel=1e-4)
    assert table.loc["s", "still"] == pytest.approx(1 / 255, rel=1e-4)


def test_flow_finds_a_pan_and_warping_undoes_it(sets):
    photo = images.load_square(sets["photo/held_out"][0], 160)
    before, now = flicker.pan(photo, 128, 3, 2)
    motion = flicker.flow(now, before)
    inner = motion[..., 8:-8, 8:-8]
    assert inner.median() == pytest.approx(3, abs=0.2)
    exact = torch.full((1, 2, 128, 128), 3.0)
    left = (now - flicker.warp(before, exact))[..., :-3, :-3]
    assert left.abs().max() < 1e-4
    table = flicker.errors([{"s": before}, {"s": now}], "s")
    assert table["warp"].item() < 0.3 * flicker.rms(now - before)
    assert table["seen"].item() > 0.7


def test_what_was_hidden_is_not_seen():
    """A square moves 5 pixels to the right: the strip that it leaves was behind it."""
    back, forth = torch.zeros(2, 1, 2, 40, 60)
    back[:, 0, 10:30, 25:45] = -5
    forth[:, 0, 10:30, 20:40] = 5
    hidden = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    hidden[..., 10:30, 20:25] = True
    assert torch.equal(~flicker.visible(back, forth), hidden)
    from_outside = torch.full((1, 2, 40, 60), 5.0)
    seen = flicker.visible(from_outside, -from_outside)
    assert seen[..., :35, :55].all() and seen.sum() == 35 * 55
