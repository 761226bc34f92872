"""The command line: a painting and a photo in, a picture out; bad input; real processes once."""

import subprocess
import sys

import pytest
from conftest import ROOT, SMOKE
from PIL import Image
from test_images import pattern

from metastyle import cli
from metastyle.core.checkpoint import load_tensors, save_network
from metastyle.core.network import new_network


def run(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "metastyle.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_adapt_then_stylise(tmp_path):
    painting, photo = tmp_path / "painting.jpg", tmp_path / "photo.png"
    pattern(200, 150).save(painting)
    pattern(61, 47).save(photo)
    network, out = tmp_path / "style.safetensors", tmp_path / "out.jpg"
    options = ("--updates", 1, "--precision", "bfloat16", "--params", SMOKE)
    done = run("adapt", painting, network, *options)
    assert done.returncode == 0, done.stderr
    _, made = load_tensors(network)
    assert (made["adaptation"]["updates"], made["adaptation"]["precision"]) == (1, "bfloat16")
    cli.main(["stylise", str(network), str(photo), str(out)])
    assert Image.open(out).size == (61, 47)


@pytest.mark.parametrize(
    ("network", "photo", "out", "message"),
    [
        ("no.safetensors", "photo.png", "o.png", "no.safetensors: no such network file"),
        ("n.safetensors", "missing.png", "o.png", "missing.png: no such image file"),
        ("n.safetensors", "text.jpg", "o.png", "text.jpg: not an image"),
        ("n.safetensors", "photo.png", "o.txt", "o.txt: unknown image format"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, network, photo, out, message):
    save_network(tmp_path / "n.safetensors", dict(new_network(0).named_parameters()), {})
    pattern().save(tmp_path / "photo.png")
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(SystemExit) as exit:
        cli.main(["stylise", *(str(tmp_path / name) for name in (network, photo, out))])
    assert message in exit.value.code and "\n" not in exit.value.code
    assert not (tmp_path / out).exists()


def test_a_wrong_option_is_misuse(tmp_path, capsys):
    painting = tmp_path / "painting.png"
    pattern().save(painting)
    given = ["adapt", str(painting), str(tmp_path / "n.safetensors"), "--params", str(SMOKE)]
    with pytest.raises(SystemExit) as exit:
        cli.main([*given, "--updates", "-3"])
    assert exit.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "--updates" in lines[-1] and "-3" in lines[-1]
    assert not (tmp_path / "n.safetensors").exists()


def test_help_comes_at_once():
    done = run("--help")
    assert done.returncode == 0 and "stylise" in done.stdout
