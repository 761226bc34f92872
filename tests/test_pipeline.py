"""The pipeline as a user runs it: real clones, real `dvc` processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from traitlets.config import PyFileConfigLoader

from metastyle.pipeline import pending
from metastyle.pipeline.code import stages
from metastyle.pipeline.run import clean, place

pytestmark = pytest.mark.pipeline

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BENCH = "13_speed"  # run by `make bench`, not by the pipeline
# A ninth method: this file and its lines in params.yaml are all it takes.
NINTH = """
from metastyle.baselines import Method, Printed
from metastyle.config import Section

class Settings(Section):
    share: float

def build(settings, context):
    mean = lambda style: style.mean((2, 3), keepdim=True)
    return Method(
        label="A tint", parameters=3, styles="any", updates=1, prepare=mean, ready=mean,
        stylise=lambda tint, contents: contents.lerp(tint, settings.share),
        printed=Printed("not there", {}),
    )
"""
# What is checked or measured on the reader's machine, and what is made of it.
MACHINE = {"code", "machine", "table1", "adapt_chapter", "claims"}


def run(*command, cwd: Path, **env) -> str:
    """Standard output of a command; its standard error is shown when it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def changed_stages(folder: Path) -> set[str]:
    return set(json.loads(run("dvc", "status", "--json", cwd=folder)))


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A fresh clone of the last commit, after `dvc pull`."""
    folder = tmp_path_factory.mktemp("clone") / "metastyle"
    run("git", "clone", "--quiet", f"file://{ROOT}", str(folder), cwd=ROOT)
    run("dvc", "pull", "--quiet", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """A copy of the work tree outside the checkout, with small parameters, no results and one
    method more."""
    folder = tmp_path_factory.mktemp("smoke") / "metastyle"
    folder.mkdir()
    for name in ("metastyle", "notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data").symlink_to(ROOT / "data")
    # The reader's own artworks: nested folders, names that are numbers, unknown artists.
    for k, file in enumerate(sorted((ROOT / "data" / "artworks").iterdir())[:59]):
        copy = folder / "art" / f"room {k % 3}" / f"{k:04d}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    run(sys.executable, "-m", "metastyle.cli", "params", "params/smoke.yaml", cwd=folder)
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["data"]["artworks"] = "art"
    values["methods"]["tint"] = {"share": 0.5}
    tint = {"made_of": values["data"]["vgg"], "section": "methods.tint"}
    values["comparison"]["methods"]["tint"] = tint
    (folder / "metastyle" / "baselines" / "tint.py").write_text(NINTH)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    run("dvc", "init", "--no-scm", "--quiet", cwd=folder)
    run("dvc", "repro", "--quiet", cwd=folder, METASTYLE_CACHE=str(folder.parent / "cache"))
    return folder


def rendered_names(root: Path = ROOT) -> set[str]:
    """The notebooks that stages leave in rendered/."""
    commands = {name: stage.get("do", stage)["cmd"].split()[4:] for name, stage in STAGES.items()}
    names = set()
    for stage in stages(root):
        options = commands[stage.name.removesuffix(f"_{stage.item}")]
        values = {options[1]: stage.item} if options else {}
        names.add(place(stage.notebook, values).as_posix())
    return names


def rendered_files(root: Path) -> set[str]:
    folder = root / "rendered"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*.ipynb")}


def test_what_waits_for_the_reference_run_is_frozen_and_says_so():
    stands = {name for name, stage in STAGES.items() if stage.get("do", stage).get("frozen")}
    assert stands == pending.pending()
    text = (ROOT / "dvc.yaml").read_text()
    assert pending.frozen(text, stands) == text
    for name in rendered_files(ROOT):
        first = nbformat.read(ROOT / "rendered" / name, as_version=4).cells[0].source
        waits = any(Path(name).stem.startswith(source) for source in pending.notebooks())
        assert (first == pending.NOTE) == waits, name


def test_every_notebook_has_a_stage():
    commands = [stage.get("do", stage)["cmd"].split() for stage in STAGES.values()]
    run = {command[3] for command in commands if command[2] == "metastyle.pipeline.run"}
    assert {path.stem for path in NOTEBOOKS} == run | {BENCH}


def test_every_stage_depends_on_its_code_and_no_file_of_it():
    for name, stage in STAGES.items():
        if name in ("code", "machine"):
            continue
        deps = stage.get("do", stage)["deps"]
        item = {"images": "_${key}", "pretrain": "_${key}"}.get(name, "_${item}")
        assert f"results/code/{name}{item if 'foreach' in stage else ''}.txt" in deps, name
        assert not [dep for dep in deps if dep.startswith(("metastyle", "notebooks"))], name


def test_no_stage_depends_on_a_time_or_a_rendered_notebook():
    times = ("rendered", "results/table1", "results/adapt_chapter")
    for name, stage in STAGES.items():
        deps = stage.get("do", stage).get("deps", [])
        assert not [dep for dep in deps if dep.startswith(times)], name
        if name not in MACHINE:
            assert "results/machine.json" not in deps, name


def test_every_rendered_notebook_is_small_and_names_no_folder_of_a_machine():
    assert rendered_files(ROOT) == rendered_names() | {f"{BENCH}.ipynb"}
    for name in rendered_files(ROOT):
        text = (ROOT / "rendered" / name).read_text()
        assert len(text) < 3e6, name
        # Not in the pictures, whose letters are random and now and then say "/tmp/".
        read = re.sub(r'"image/\w+": "[^"]*"', "", text)
        for trace in (str(Path.home()), str(ROOT), "papermill", "/tmp/"):
            assert trace not in read, (name, trace)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1 and 'params = "../params/smoke.yaml"' in tagged[0].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            check = "check" in cell.metadata.get("tags", [])
            assert bool(cell.outputs) == check, cell.source[:80]
            assert cell.execution_count == (1 if check else None)


@pytest.mark.filterwarnings("ignore:Overriding existing pre_save_hook")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saving_in_jupyterlab_leaves_a_source_as_it_was(path, tmp_path):
    shutil.copy(path, tmp_path)
    config = PyFileConfigLoader("lab_config.py", str(ROOT / "tools")).load_config()
    lab = LargeFileManager(root_dir=str(tmp_path), config=config)
    model = lab.get(path.name)
    model["content"]["metadata"]["language_info"] = {"name": "python"}
    for k, cell in enumerate(model["content"]["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = k
            if "check" not in cell["metadata"].get("tags", []):
                cell["outputs"] = [nbformat.v4.new_output("stream", text="ran")]
    lab.save(model, path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_clean_drops_traces(tmp_path):
    cell = nbformat.v4.new_code_cell(
        "1", metadata={"papermill": {"duration": 1}, "tags": ["check"]}
    )
    cell.outputs = [nbformat.v4.new_output("stream", text=f"{tmp_path}/a and {Path.home()}/b")]
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {"x": 1}})
    cleaned = nbformat.writes(clean(notebook, tmp_path))
    assert "papermill" not in cleaned and str(tmp_path) not in cleaned
    assert "./a and ~/b" in cleaned and "check" in cleaned


def test_smoke_pipeline_makes_everything(smoke):
    for name in ("splits.csv", "meta_train/network.safetensors", "claims/starts.json"):
        assert (smoke / "results" / name).is_file()
    assert rendered_files(smoke) == rendered_names(smoke)
    assert not (smoke / "scratch").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checks_hold_in_the_smoke_pipeline(smoke, path):
    """What `pytest --nbval` compares for chapters, compared for runs without running them again."""
    if path.stem == BENCH or not re.match(r"\d+[a-z]_", path.stem):
        pytest.skip("pytest --nbval runs it")
    stored = nbformat.read(path, as_version=4).cells
    for file in sorted((smoke / "rendered" / "runs").glob(f"{path.stem}*.ipynb")):
        made = nbformat.read(file, as_version=4).cells
        printed = [text(cell) for cell in made if "check" in cell.metadata.get("tags", [])]
        assert printed and "False" not in "".join(printed), file.name
        assert len(printed) == sum("check" in cell.metadata.get("tags", []) for cell in stored)


def text(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_a_ninth_method_is_a_file_and_its_parameters(smoke):
    for name in ("runs/05a_images_tint", "06_table1", "05_comparison"):
        assert re.search(r"\btint\b|A tint", (smoke / "rendered" / f"{name}.ipynb").read_text())
    measures = (smoke / "results" / "images" / "tint" / "metrics.csv").read_text()
    assert len(measures.splitlines()) > 1


def test_a_second_run_does_nothing_but_look(smoke):
    before = {p: p.stat().st_mtime_ns for p in (smoke / "rendered").rglob("*.ipynb")}
    output = run("dvc", "repro", cwd=smoke)
    ran = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert ran == {"machine", "code"}
    assert before == {p: p.stat().st_mtime_ns for p in (smoke / "rendered").rglob("*.ipynb")}


def test_results_made_again_are_the_same(smoke):
    stages = ("meta_train", "adapt", "interpolation")
    before = yaml.safe_load((smoke / "dvc.lock").read_text())
    cache = str(smoke.parent / "another cache")
    run("dvc", "repro", "--quiet", "-f", "-s", *stages, cwd=smoke, METASTYLE_CACHE=cache)
    assert yaml.safe_load((smoke / "dvc.lock").read_text()) == before


def stale_after(folder: Path, file: str, old: str, new: str) -> set[str]:
    """The stages that a change makes stale, `machine` and `code`, which always run, left out."""
    path = folder / file
    original = path.read_text()
    assert original.count(old) == 1
    path.write_text(original.replace(old, new))
    try:
        run("dvc", "repro", "--quiet", "code", cwd=folder)
        return changed_stages(folder) - {"machine", "code"}
    finally:
        path.write_text(original)


def test_a_comment_in_the_loss_makes_nothing_stale(smoke):
    old = '"""The perceptual loss'
    new = '"""Another docstring.\n\nThe perceptual loss'
    assert stale_after(smoke, "metastyle/core/losses.py", old, new) == set()


def test_a_constant_in_the_loss_makes_stale_what_uses_it(smoke):
    found = stale_after(smoke, "metastyle/core/losses.py", "0.5 - 1 / 255", "0.5 - 2 / 255")
    using = {
        stage.name.replace(f"_{stage.item}", f"@{stage.item}") if stage.item else stage.name
        for stage in stages(smoke)
        if "core/losses.py" in (smoke / "results" / "code" / f"{stage.name}.txt").read_text()
    }
    assert found == using and "meta_train" in found and "data" not in found


@pytest.mark.parametrize(
    ("old", "new", "stale", "fresh"),
    [
        ("clip: data/clip.mp4", "clip: data/other.mp4", {"video"}, None),
        ("weights:\n  - 0.0\n  - 0.2", "weights:\n  - 0.0\n  - 0.1", {"interpolation"}, None),
        (
            "adapt:\n  contents_per_batch: 1", "adapt:\n  contents_per_batch: 2",
            {"adapt", "validation", "images@metastyle"},
            {"images@gatys", "starts@metastyle", "starts@scratch"},
        ),
    ],
)  # fmt: skip
def test_a_parameter_makes_stale_what_uses_it(smoke, old, new, stale, fresh):
    found = stale_after(smoke, "params.yaml", old, new)
    if fresh is None:
        assert found == stale
    else:
        assert stale <= found and not fresh & found


def test_a_notebook_saved_by_another_editor_makes_nothing_stale(smoke):
    path = smoke / "notebooks" / "08_pixels.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["editor"] = "another"
    notebook["cells"][-1]["metadata"]["collapsed"] = True
    original = path.read_text()
    path.write_text(json.dumps(notebook, indent=3))
    run("dvc", "repro", "--quiet", "code", cwd=smoke)
    assert changed_stages(smoke) <= {"machine", "code"}
    path.write_text(original)


def test_metrics_and_plots_are_there(smoke):
    metrics = json.loads(run("dvc", "metrics", "show", "--json", cwd=smoke))
    for name in ("results/meta_train/metrics.json", "results/claims/comparison.json"):
        assert name in json.dumps(metrics)
    run("dvc", "plots", "show", "--out", str(smoke.parent / "plots"), cwd=smoke)
    assert (smoke.parent / "plots" / "index.html").is_file()


def test_fresh_clone_has_everything_but_the_machines_times(clone):
    run("dvc", "repro", "--quiet", "code", cwd=clone)
    # What waits is frozen, and `dvc repro` stops where an output of it is missing.
    assert changed_stages(clone) <= MACHINE - pending.pending()


def test_a_bad_parameter_stops_a_stage_with_one_clear_line(smoke):
    original = (smoke / "params.yaml").read_text()
    values = yaml.safe_load(original)
    values["interpolation"]["weihgts"] = []
    (smoke / "params.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "metastyle.pipeline.run", "09_interpolation"]
    try:
        done = subprocess.run(command, cwd=smoke, capture_output=True, text=True)
    finally:
        (smoke / "params.yaml").write_text(original)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "interpolation.weihgts: unknown parameter" in last and "09_interpolation" in last
