"""params.yaml: types, messages, and the three sizes that are shipped."""

import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMOKE

from metastyle import cli
from metastyle.adaptation.adapt import Adaptation
from metastyle.baselines import registry, training
from metastyle.config import InputError, Paths, Project, load
from metastyle.core import splits
from metastyle.core.losses import Perceptual
from metastyle.meta.loader import MetaTraining
from metastyle.studies import (
    ablations,
    adapt,
    adapt_chapter,
    baselines,
    comparison,
    gallery,
    interpolation,
    meta_train_chapter,
    pixels,
    recipes,
    speed,
    starts,
    table1,
    validation,
    video,
)

SECTIONS = {
    "paths": Paths,
    "data": splits.Data,
    "perceptual": Perceptual,
    "meta_train": MetaTraining,
    "validation": validation.Validation,
    "meta_train_chapter": meta_train_chapter.MetaTrainChapter,
    "adapt": Adaptation,
    "adapt_styles": adapt.AdaptStyles,
    "recipes": recipes.Recipes,
    "adapt_chapter": adapt_chapter.AdaptChapter,
    "gallery": gallery.Gallery,
    "comparison": comparison.Comparison,
    "table1": table1.Table1,
    "starts": starts.Starts,
    "pixels": pixels.Pixels,
    "interpolation": interpolation.Interpolation,
    "video": video.Video,
    "ablations": ablations.Ablations,
    "pretrain": training.Pretraining,
    "baselines": baselines.Baselines,
    "speed": speed.Speed,
}


@pytest.mark.parametrize("name", ["params.yaml", "params/smoke.yaml", "params/paper.yaml"])
def test_every_size_reads(name):
    path = ROOT / name
    assert set(load(path)) == {*SECTIONS, "methods"}
    for section, schema in SECTIONS.items():
        schema.read(path, section)
    for method in registry.names(path):
        registry.module(method).Settings.read(path, f"methods.{method}")


def test_paper_scale_is_the_papers():
    settings = MetaTraining.read(ROOT / "params" / "paper.yaml", "meta_train")
    assert (settings.iterations, settings.size, settings.inner_steps) == (100_000, 256, 1)
    assert (settings.styles_per_iteration, settings.contents_per_batch) == (4, 4)
    assert (settings.learning_rate, settings.inner_parameters) == (1e-3, "all")
    assert (settings.decay, settings.clip_norm, settings.average_last) == (0, None, 0)
    perceptual = Perceptual.read(ROOT / "params" / "paper.yaml", "perceptual")
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
    assert MetaTraining.read(path, "meta_train").learning_rate == float(text)


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
        MetaTraining.read(changed(tmp_path, "meta_train", **values), "meta_train")
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
        schema.read(changed(tmp_path, section, **values), section)


def test_missing_file_section_and_key(tmp_path):
    with pytest.raises(InputError, match="no such parameter file"):
        Adaptation.read(tmp_path / "none.yaml", "adapt")
    (tmp_path / "a.yaml").write_text("adapt: {seed: 1}\n")
    with pytest.raises(InputError, match=r"a\.yaml: section 'pixels' is missing"):
        pixels.Pixels.read(tmp_path / "a.yaml", "pixels")
    with pytest.raises(InputError, match=r"adapt\.updates: parameter is missing"):
        Adaptation.read(tmp_path / "a.yaml", "adapt")
    (tmp_path / "b.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load(tmp_path / "b.yaml")


def test_one_line_for_every_bad_extends_and_include(tmp_path):
    (tmp_path / "self.yaml").write_text("extends: self.yaml\n")
    (tmp_path / "gone.yaml").write_text("extends: no.yaml\n")
    (tmp_path / "folder.yaml").write_text("extends: .\n")
    (tmp_path / "list.yaml").write_text("extends: [a, b]\n")
    (tmp_path / "include.yaml").write_text("include: a.yaml\n")
    for name, message in {
        "self": "extends or includes itself",
        "gone": r"no\.yaml: no such parameter file",
        "folder": "no such parameter file",
        "list": "must name one parameter file",
        "include": "must be a list of parameter files",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            load(tmp_path / f"{name}.yaml")
        assert "\n" not in str(error.value)


def test_other_files_sections_are_added_and_can_be_changed(tmp_path):
    (tmp_path / "more.yaml").write_text("a: {x: 1, y: 2}\n")
    (tmp_path / "params.yaml").write_text("include: [more.yaml]\nb: {z: 3}\n")
    (tmp_path / "small.yaml").write_text("extends: params.yaml\na: {y: 5}\n")
    assert load(tmp_path / "params.yaml") == {"a": {"x": 1, "y": 2}, "b": {"z": 3}}
    assert load(tmp_path / "small.yaml") == {"a": {"x": 1, "y": 5}, "b": {"z": 3}}


def test_a_changed_section_is_validated_again():
    settings = Adaptation.read(SMOKE, "adapt")
    assert settings.changed(updates=7).updates == 7
    with pytest.raises(InputError, match=r"^updates: .*greater than or equal to 0, got -3$"):
        settings.changed(updates=-3)
    with pytest.raises(InputError, match=r"^update: unknown parameter"):
        settings.changed(update=3)


def test_a_project_stands_for_its_parameter_file(tmp_path):
    project = Project(SMOKE)
    assert (project.root, project.inputs) == (ROOT, ROOT / "results")
    assert Adaptation.read(project, "adapt") == Adaptation.read(SMOKE, "adapt")
    (tmp_path / "params.yaml").write_text("paths: {inputs: a, outputs: b}\n")
    with pytest.raises(InputError, match=r"no dvc\.yaml above it"):
        Project(tmp_path / "params.yaml")


def test_a_size_that_was_made_is_no_base_for_another(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "dvc.yaml").touch()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    cli.main(["params", "params/smoke.yaml"])
    made = Path("params.yaml")
    for section in ("meta_train", "ablations", "recipes"):
        assert load(made)[section] == load(SMOKE)[section]
    assert "ablations:" in Path("params/ablations.yaml").read_text()
    assert Paths.read(made, "paths").outputs == Path("results")
    with pytest.raises(SystemExit, match=r"git checkout params\.yaml"):
        cli.main(["params", "params/paper.yaml"])


def test_conda_uses_the_one_list_of_dependencies():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "git", "make", "pip"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable ."]}
    fixed = {"torch", "torchvision", "jupyterlab", "papermill", "matplotlib", "pandas", "nbval"}
    assert fixed | {"dvc"} <= set(listed)
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert set(listed) <= pinned
