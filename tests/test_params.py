"""params.yaml: types, messages, and the three sizes that are shipped."""

import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMOKE

from metastyle import baselines, config
from metastyle.core import splits
from metastyle.adaptation.adapt import Adaptation
from metastyle.studies.speed import Benchmark
from metastyle.studies.comparison import Comparison
from metastyle.config import InputError
from metastyle.plots import MetaFigure
from metastyle.studies.recipes import Frontier
from metastyle.adaptation.interpolation import Interpolation
from metastyle.studies.starts import Learning
from metastyle.core.losses import Perceptual
from metastyle.config import load, read
from metastyle.studies.pixels import Pixels
from metastyle.baselines.training import Pretraining
from metastyle.studies.recipes import Recipes
from metastyle.baselines.quality import Baselines
from metastyle.studies.gallery import StylesFigure
from metastyle.evaluation.timing import Table1
from metastyle.meta.train import MetaTraining
from metastyle.studies.ablations import Trials
from metastyle.evaluation.claims import Verdict
from metastyle.adaptation.video import Video
from metastyle.adaptation.adapt import AdaptStyles, Validation

SECTIONS = {
    "paths": project.Paths,
    "data": splits.Data,
    "perceptual": Perceptual,
    "meta_train": MetaTraining,
    "meta_figure": MetaFigure,
    "adapt": Adaptation,
    "adapt_styles": AdaptStyles,
    "trials": Trials,
    "validation": Validation,
    "recipes": Recipes,
    "frontier": Frontier,
    "benchmark": Benchmark,
    "table1": Table1,
    "pretrain": Pretraining,
    "baselines": Baselines,
    "comparison": Comparison,
    "verdict": Verdict,
    "interpolation": Interpolation,
    "video": Video,
    "learning": Learning,
    "pixels": Pixels,
    "styles_figure": StylesFigure,
}


@pytest.mark.parametrize("name", ["params.yaml", "params/smoke.yaml", "params/paper.yaml"])
def test_every_size_reads(name):
    path = ROOT / name
    assert set(load(path)) == {*SECTIONS, "methods"}
    for section, schema in SECTIONS.items():
        read(path, section, schema)
    for method in methods.names(path):
        module = import_module(f"metastyle.methods.{method}")
        read(path, f"methods.{method}", module.Settings)


def test_paper_scale_is_the_papers():
    settings = read(ROOT / "params" / "paper.yaml", "meta_train", MetaTraining)
    assert (settings.iterations, settings.size, settings.inner_steps) == (100_000, 256, 1)
    assert (settings.styles_per_iteration, settings.contents_per_batch) == (4, 4)
    assert (settings.learning_rate, settings.inner_parameters) == (1e-3, "all")
    assert (settings.decay, settings.clip_norm, settings.average_last) == (0, None, 0)
    perceptual = read(ROOT / "params" / "paper.yaml", "perceptual", Perceptual)
    assert (perceptual.variant, perceptual.range_weight) == ("paper", 0)


def changed(tmp_path, section, **values):
    content = load(SMOKE)
    for key, value in values.items():
        content[section][key] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("text", ["1e-5", "1e5", "1e-06", "0.5"])
def test_numbers_that_yaml_leaves_as_text(tmp_path, text):
    path = changed(tmp_path, "meta_train", learning_rate=text)
    assert read(path, "meta_train", MetaTraining).learning_rate == float(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner_step": 2}, r"params\.yaml: meta_train\.inner_step: unknown parameter"),
        ({"inner_steps": "two"}, r"meta_train\.inner_steps: .*integer.*'two'"),
        ({"order": "third"}, r"meta_train\.order: .*'second' or 'first'.*'third'"),
        ({"photos": {"hew": 1}}, r"meta_train\.photos\.hew: unknown parameter"),
        ({"size": None}, r"meta_train\.size: .*integer"),
        ({"size": 130}, r"meta_train\.size: .*multiple of 4.*130"),
        ({"iterations": -1}, r"meta_train\.iterations: .*greater than or equal to 0"),
        ({"photos": {"hue": 0.9}}, r"meta_train\.photos\.hue: .*0\.5.*0\.9"),
    ],
)
def test_wrong_values_name_file_and_key(tmp_path, values, message):
    with pytest.raises(InputError, match=message) as error:
        read(changed(tmp_path, "meta_train", **values), "meta_train", MetaTraining)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "schema", "values", "message"),
    [
        ("perceptual", Perceptual, {"layer_weights": [1, 1]}, "one number per entry of style_la"),
        (
            "data", splits.Data,
            {"artwork_split": {"held_out": 6, "held_out_historical": 11, "validation": 5,
                               "validation_historical": 3, "works_per_artist": 2}},
            r"data\.artwork_split: .*held_out_historical is a part of held_out",
        ),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other_are_named(tmp_path, section, schema, values, message):
    with pytest.raises(InputError, match=message):
        read(changed(tmp_path, section, **values), section, schema)


def test_missing_file_section_and_key(tmp_path):
    with pytest.raises(InputError, match="no such parameter file"):
        read(tmp_path / "none.yaml", "adapt", Adaptation)
    (tmp_path / "a.yaml").write_text("adapt: {seed: 1}\n")
    with pytest.raises(InputError, match=r"a\.yaml: section 'table1' is missing"):
        read(tmp_path / "a.yaml", "table1", Table1)
    with pytest.raises(InputError, match=r"adapt\.updates: parameter is missing"):
        read(tmp_path / "a.yaml", "adapt", Adaptation)
    (tmp_path / "b.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load(tmp_path / "b.yaml")


def test_a_params_file_that_was_made_is_no_base_for_another(tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("smoke.yaml", "paper.yaml"):
        shutil.copy(ROOT / "params" / name, tmp_path / "params")
    command = [sys.executable, "-m", "metastyle.cli", "params"]
    subprocess.run([*command, "params/smoke.yaml"], cwd=tmp_path, check=True)
    assert load(tmp_path / "params.yaml")["meta_train"]["iterations"] == 3
    assert read(tmp_path / "params.yaml", "paths", project.Paths).outputs == Path("results")
    again = subprocess.run(
        [*command, "params/paper.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode == 1
    assert "git checkout params.yaml" in again.stderr and len(again.stderr.splitlines()) == 1


def test_conda_uses_the_one_list_of_dependencies():
    project_list = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "git", "make", "pip"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable ."]}
    fixed = {"torch", "torchvision", "jupyterlab", "papermill", "matplotlib", "pandas", "nbval"}
    assert fixed | {"dvc"} <= set(project_list)
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert set(project_list) <= pinned
