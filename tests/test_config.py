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
from metastyle.core.crops import Augmentation
from metastyle.core.device import Compute
from metastyle.core.losses import Perceptual
from metastyle.meta.loader import MetaTraining, crops_seen
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
    "compute": Compute,
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

PAPER = "params/paper.yaml"
PHASE = {"iterations": 1, "size": 32, "inner_steps": 1}


@pytest.mark.parametrize("name", ["params.yaml", "params/smoke.yaml", PAPER])
def test_every_size_reads(name):
    path = ROOT / name
    assert set(load(path)) == {*SECTIONS, "methods", "pending"}
    for section, schema in SECTIONS.items():
        schema.read(path, section)
    for method in registry.names(path):
        registry.module(method).Settings.read(path, f"methods.{method}")


def test_paper_scale_is_the_papers():
    """As printed; of what the text leaves open, what its authors' release does."""
    settings = MetaTraining.read(ROOT / PAPER, "meta_train")
    (phase,) = settings.phases
    assert (phase.iterations, phase.size) == (100_000, 256)
    assert (phase.inner_steps, phase.inner_learning_rate, phase.order) == (1, 1e-4, "second")
    assert (phase.inner_warmup, phase.inner_clip, settings.start) == (0, None, None)
    assert (settings.styles_per_iteration, settings.contents_per_batch) == (4, 4)
    assert (settings.learning_rate, settings.inner_parameters) == (1e-3, "all")
    assert (settings.warmup, settings.style_warmup, settings.decay) == (0, 0, 0)
    assert (settings.clip_norm, settings.average_last) == (None, 0)
    assert crops_seen(settings) == (3_200_000, 3_200_000 * 256**2)
    for varied in (settings.photos, settings.artworks):
        plain = Augmentation(scale=varied.scale, aspect=varied.aspect, flip=varied.flip)
        assert varied == plain

    p = Perceptual.read(ROOT / PAPER, "perceptual")
    assert (p.content_weight, p.style_weight, p.variant) == (1, 1e5, "release")
    assert (p.range_weight, p.spike_weight) == (0, 0)
    assert p.content_layer == "relu2_2"
    assert p.style_layers == ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    assert p.layer_weights == [1] * 4
    adapt = Adaptation.read(ROOT / PAPER, "adapt")
    assert (adapt.updates, adapt.learning_rate) == (200, 1e-3)


def test_the_papers_weights_and_delta_are_those_of_the_run():
    """alpha, beta, delta and T belong to one another; only what departs from them is ours."""
    here, paper = (Perceptual.read(ROOT / name, "perceptual") for name in ("params.yaml", PAPER))
    ours = {"range_weight": 0.0, "spike_weight": 0.0}
    assert here.changed(**ours) == paper
    for phase in MetaTraining.read(ROOT / "params.yaml", "meta_train").phases:
        assert phase.inner_steps == 0 or phase.inner_learning_rate == 1e-4


@pytest.mark.parametrize("name", ["params.yaml", "params/smoke.yaml"])
def test_snapshots_are_of_iterations_of_the_run(name):
    settings = MetaTraining.read(ROOT / name, "meta_train")
    assert settings.snapshots == sorted(set(settings.snapshots))
    assert 0 in settings.snapshots and settings.snapshots[-1] <= settings.iterations


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
        ({"inner_steps": 1}, r"meta_train\.inner_steps: unknown parameter"),  # of a phase
        ({"phases": [PHASE | {"inner_steps": "two"}]}, r"phases\.0\.inner_steps: .*integer.*'two'"),
        ({"phases": [PHASE | {"order": "third"}]}, r"\.0\.order: .*'second' or 'first'.*'third'"),
        ({"phases": [PHASE, PHASE | {"delta": 1}]}, r"phases\.1\.delta: unknown parameter"),
        ({"phases": [PHASE | {"size": None}]}, r"meta_train\.phases\.0\.size: .*integer"),
        ({"phases": [PHASE | {"size": 130}]}, r"phases\.0\.size: .*multiple of 4.*130"),
        ({"phases": [PHASE | {"iterations": 0}]}, r"phases\.0\.iterations: .*greater than 0"),
        ({"phases": [PHASE | {"inner_clip": 0}]}, r"phases\.0\.inner_clip: .*greater than 0"),
        ({"photos": {"hew": 1}}, r"meta_train\.photos\.hew: unknown parameter"),
        ({"photos": {"hue": 0.9}}, r"meta_train\.photos\.hue: .*0\.5.*0\.9"),
        ({"photos": {"brightness": 0.1}}, r"meta_train\.photos\.brightness: .*got 0\.1"),
        ({"photos": {"saturation": [2, 1]}}, r"photos: .*saturation: the lower bound 2 is above"),
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
