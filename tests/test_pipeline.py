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
from closure import closure
from conftest import ROOT
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from traitlets.config import PyFileConfigLoader

from metastyle import baselines
from metastyle.pipeline.run import clean
from metastyle.config import load

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# A ninth method: this file and its lines in params.yaml are all it takes.
NINTH = """
from metastyle.baselines import Method, Printed
from metastyle.config import Section

class Settings(Section):
    share: float

def build(settings, resources):
    mean = lambda style: style.mean((2, 3), keepdim=True)
    return Method(
        label="A tint", parameters=3, styles="any", updates=1, prepare=mean, ready=mean,
        stylise=lambda tint, contents: contents.lerp(tint, settings.share),
        printed=Printed("not there", {}),
    )
"""
# What is measured on the reader's machine, and the figures that show it.
MACHINE = {"machine", "table1", "frontier"}


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
    for k, file in enumerate(sorted((ROOT / "data" / "artworks").iterdir())):
        copy = folder / "art" / f"room {k % 3}" / f"{k:04d}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    run(sys.executable, "-m", "metastyle.cli", "params", "params/smoke.yaml", cwd=folder)
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["data"]["artworks"] = "art"
    values["methods"]["tint"] = {"share": 0.5}
    values["comparison"]["methods"]["tint"] = "data/vgg16.safetensors"
    (folder / "metastyle" / "methods" / "tint.py").write_text(NINTH)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    run("dvc", "init", "--no-scm", "--quiet", cwd=folder)
    run("dvc", "repro", "--quiet", cwd=folder, METASTYLE_CACHE=str(folder.parent / "cache"))
    return folder


def items(stage: dict, params: Path = ROOT / "params.yaml") -> list[str]:
    """What a stage loops over; one empty name if it is no loop."""
    found = stage.get("foreach", [""])
    if isinstance(found, str):
        keys, found = found.removeprefix("${").removesuffix("}").split("."), load(params)
        for key in keys:
            found = found[key]
    return list(found)


def rendered_names(params: Path = ROOT / "params.yaml") -> set[str]:
    """The notebooks that stages leave in rendered/."""
    names = set()
    for stage in STAGES.values():
        _, _, module, source, *more = stage.get("do", stage)["cmd"].split()
        if module == "metastyle.execute":
            output = more[0] if more else source
            for item in items(stage, params):
                names.add(output.replace("${item}", item).replace("${key}", item))
    return names


def test_every_notebook_has_a_stage():
    named = {stage.get("do", stage)["cmd"].split()[3] for stage in STAGES.values()}
    # Notebook 10 is run by `make bench`, not by the pipeline.
    assert {path.stem for path in NOTEBOOKS} == named - {"results/machine.json"} | {"10_speed"}


def loaded_methods(name: str, item: str) -> list[str]:
    """The methods that a stage's notebook loads by name."""
    if name in ("images", "pretrain"):
        return [item]
    every = {"table1": methods.names(ROOT / "params.yaml")}
    every["baselines"] = items(STAGES["pretrain"])
    every["comparison"] = ["wct"]
    return every.get(name, [])


@pytest.mark.parametrize("name", [name for name in STAGES if name != "machine"])
def test_stage_depends_on_what_it_imports(name):
    body = STAGES[name].get("do", STAGES[name])
    notebook = body["cmd"].split()[3]
    shared, needed = set(), set()
    for item in items(STAGES[name]):
        deps = [dep.replace("${item}", item).replace("${key}", item) for dep in body["deps"]]
        assert f"notebooks/{notebook}.ipynb" in deps
        listed = {dep for dep in deps if dep.startswith("metastyle/")}
        imported = closure(ROOT / "notebooks" / f"{notebook}.ipynb", loaded_methods(name, item))
        assert imported <= listed
        shared, needed = shared | listed, needed | imported
    assert shared == needed  # the items of a loop list what any of them needs


def test_no_stage_depends_on_a_time_or_a_rendered_notebook():
    for name, stage in STAGES.items():
        deps = stage.get("do", stage)["deps"]
        assert not [
            dep
            for dep in deps
            if dep.startswith(("rendered", "results/table1", "results/frontier"))
        ], name
        if name not in MACHINE:
            assert "results/machine.json" not in deps, name


def test_every_rendered_notebook_is_small_and_names_no_folder_of_a_machine():
    rendered = {path.stem for path in (ROOT / "rendered").glob("[!.]*.ipynb")}
    assert rendered == rendered_names() | {"10_speed"}
    for path in (ROOT / "rendered").glob("[!.]*.ipynb"):
        text = path.read_text()
        assert len(text) < 3e6, path.name
        # Not in the pictures, whose letters are random and now and then say "/tmp/".
        read = re.sub(r'"image/\w+": "[^"]*"', "", text)
        for trace in (str(Path.home()), str(ROOT), "papermill", "/tmp/"):
            assert trace not in read, (path.name, trace)


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
    for name in ("splits.csv", "meta_train/network.safetensors", "adapt/curves.csv"):
        assert (smoke / "results" / name).is_file()
    rendered = {path.stem for path in (smoke / "rendered").glob("*.ipynb")}
    assert rendered == rendered_names(smoke / "params.yaml")
    assert not (smoke / "scratch").exists()


def test_a_ninth_method_is_a_file_and_its_parameters(smoke):
    for name in ("06_images_tint", "07_table1", "08_comparison"):
        assert re.search(r"\btint\b|A tint", (smoke / "rendered" / f"{name}.ipynb").read_text())
    measures = (smoke / "results" / "images" / "tint" / "metrics.csv").read_text()
    assert len(measures.splitlines()) > 1


def test_a_second_run_does_nothing_but_the_fingerprint(smoke):
    before = {p: p.stat().st_mtime_ns for p in (smoke / "rendered").iterdir()}
    output = run("dvc", "repro", cwd=smoke)
    ran = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert ran == {"machine"}
    assert before == {p: p.stat().st_mtime_ns for p in (smoke / "rendered").iterdir()}


def test_results_made_again_are_the_same(smoke):
    stages = ("meta_train", "adapt", "interpolation")
    before = yaml.safe_load((smoke / "dvc.lock").read_text())
    cache = str(smoke.parent / "another cache")
    run("dvc", "repro", "--quiet", "-f", "-s", *stages, cwd=smoke, METASTYLE_CACHE=cache)
    assert yaml.safe_load((smoke / "dvc.lock").read_text()) == before


def test_a_change_of_weights_touches_one_stage(smoke):
    original = (smoke / "params.yaml").read_text()
    values = yaml.safe_load(original)
    values["interpolation"]["weights"] = [0.0, 0.5, 1.0]
    (smoke / "params.yaml").write_text(yaml.safe_dump(values))
    try:
        assert changed_stages(smoke) == {"interpolation", "machine"}
    finally:
        (smoke / "params.yaml").write_text(original)


def test_metrics_and_plots_are_there(smoke):
    metrics = json.loads(run("dvc", "metrics", "show", "--json", cwd=smoke))
    assert "results/meta_train/metrics.json" in json.dumps(metrics)
    run("dvc", "plots", "show", "--out", str(smoke.parent / "plots"), cwd=smoke)
    assert (smoke.parent / "plots" / "index.html").is_file()


def test_fresh_clone_has_everything_but_the_machines_times(clone):
    assert changed_stages(clone) <= MACHINE


def test_a_bad_parameter_stops_a_stage_with_one_clear_line(smoke):
    original = (smoke / "params.yaml").read_text()
    values = yaml.safe_load(original)
    values["interpolation"]["weihgts"] = []
    (smoke / "params.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "metastyle.execute", "09_interpolation"]
    try:
        done = subprocess.run(command, cwd=smoke, capture_output=True, text=True)
    finally:
        (smoke / "params.yaml").write_text(original)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "interpolation.weihgts: unknown parameter" in last and "09_interpolation" in last
