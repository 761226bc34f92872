"""Clips in real files."""

import os
import subprocess
import sys
from fractions import Fraction

import av
import pandas as pd
import pytest
import torch
from conftest import ROOT

from metastyle import cli
from metastyle.adaptation import video
from metastyle.config import InputError
from metastyle.core.checkpoint import save_network
from metastyle.core.network import new_network
from metastyle.evaluation import statistics
from metastyle.studies import video as study

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
    """Megabytes of a process at most: 20 frames, then 220 (as decoded the others are 23)."""
    files = [clip(tmp_path / f"{n}.mp4", n, height=240, width=320) for n in (20, 220)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    few, many = map(int, done.stdout.split())
    assert many - few < 12


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "n.safetensors"
    save_network(path, dict(new_network(0).named_parameters()), {})
    return path


def test_the_command_writes_what_a_browser_plays(tmp_path, network):
    source, out = clip(tmp_path / "in.mp4"), tmp_path / "new folder" / "out.mp4"
    cli.main(["video", str(network), str(source), str(out), "--height", "36"])
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
    with pytest.raises(SystemExit, match=r"^metastyle: .*empty\.y4m: holds no frame") as left:
        cli.main(["video", *map(str, (network, tmp_path / "empty.y4m", tmp_path / "out.mp4"))])
    assert "\n" not in str(left.value)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.y4m"]


def test_nothing_but_mp4_is_written_and_never_an_empty_one(tmp_path):
    with pytest.raises(InputError, match=r"o\.avi: clips are written as MP4"):
        clip(tmp_path / "o.avi")
    with pytest.raises(InputError, match=r"o\.mp4: no frame"):
        clip(tmp_path / "o.mp4", 0)
    assert not list(tmp_path.iterdir())


def flickers(**warps):
    """Errors of three pairs of frames, by picture name; contrast 0.2 for all."""
    return pd.DataFrame(
        {"frame": k, "name": name, "warp": warp, "change": warp, "still": warp, "contrast": 0.2,
         "seen": 0.9}
        for k in (1, 2, 3) for name, warp in warps.items()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "of_gatys", "verdict"),
    [(0.01, 0.02, "reproduced"), (0.03, 0.06, "partly"), (0.03, 0.01, "not reproduced")],
)
def test_the_verdict_on_flicker(project, monkeypatch, network, of_gatys, verdict):
    monkeypatch.setattr(statistics, "DRAWS", 20)
    settings = study.Video.read(project, "video")
    whole = flickers(source=0.01, net=network)
    few = flickers(source=0.01, net=0.03, Gatys=of_gatys)
    known = pd.DataFrame(
        [
            (name, noise, step, "photo", error * (1 + step))
            for noise in ("0", f"{settings.pan.noise:g}")
            for name, error in {"source": 0.1, "net": 0.2}.items()
            for step in settings.pan.steps
        ],
        columns=["name", "noise", "pixels per frame", "photo", "error"],
    )
    titles = {"net": "A painting"}
    run = study.Run(settings, RATE, {}, titles, whole, few, [], [{}] * 3, known)
    rows = {row.quantity: row for row in study.judge(run)}
    first, *_ = rows.values()
    assert (first.verdict, first.rule) == (verdict, study.RULE)
    assert first.ours == pytest.approx(network / 0.01)
    moving = rows["error under exact motion, where the source has none, A painting"]
    assert moving.ours == pytest.approx(0.2 * (1 + max(settings.pan.steps)))
    assert rows["error of a camera at rest with noise over the source's own, A painting"].ours == 2
    assert set(study.table(run).index.get_level_values(1)) == {"source", "A painting", "Gatys"}


def test_footage_without_a_still_pixel_has_no_still_error(project, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 20)
    settings = study.Video.read(project, "video")
    table = flickers(source=0.01, net=0.02, Gatys=0.03).assign(still=float("nan"))
    run = study.Run(settings, RATE, {}, {}, table, table, [], [], table)
    _, found = study.measures(run).values()
    assert found.at["net", "warp"].value == pytest.approx(0.02)
    assert found.at["net", "still"] == study.UNKNOWN
