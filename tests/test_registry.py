"""Methods by name: what each of them keeps to, and what it takes to add one."""

import pytest
import torch
from conftest import SMOKE

from metastyle import baselines
from metastyle.baselines import Context, registry
from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.network import new_network

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


@pytest.mark.parametrize("name", registry.names(SMOKE))
def test_every_method_keeps_the_interface(name, loss, sets):
    adaptation = baselines.Adaptation.read(SMOKE, "adapt")
    photos, validation = sets.photos.inner[:4], sets.photos.validation
    context = Context(loss, adaptation, photos, validation, new_network(0))
    method = registry.load(name, SMOKE, context)
    assert method.parameters is None or method.parameters > 1e6
    torch.manual_seed(0)
    contents = torch.rand(2, 3, 33, 50)
    styles = [images.load(file, 48) for file in sets.artworks.train[:2]]
    first, second = (method.stylise(method.prepare(style), contents) for style in styles)
    ready = method.ready(styles[0])
    unprepared = method.stylise(ready, contents)
    for output in (first, second, unprepared):
        assert output.shape == contents.shape and output.std() > 0
        assert output.min() >= 0 and output.max() <= 1
    assert not torch.equal(first, second)
    alone = method.stylise(ready, contents[1:])
    torch.testing.assert_close(alone, unprepared[1:], rtol=1e-3, atol=1e-3)


def test_the_context_of_a_project_has_its_photos_but_no_start(project, sets, monkeypatch):
    monkeypatch.setattr(baselines.splits, "read", lambda project: sets)
    found = baselines.context(project)
    assert found.photos == sets.photos.train and found.validation == sets.photos.validation
    assert found.adaptation == baselines.Adaptation.read(project, "adapt")
    assert found.start is None and found.device == found.loss.device


def test_a_ninth_method_is_a_file_and_its_parameters(tmp_path, monkeypatch):
    (tmp_path / "tint.py").write_text(NINTH)
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    params = tmp_path / "params.yaml"
    params.write_text("methods: {tint: {share: 0.5}}")
    assert registry.names(params) == ["tint"]
    method = registry.load("tint", params, None, share=0.25, unheard_of=1)
    style, contents = torch.ones(1, 3, 4, 4), torch.zeros(2, 3, 5, 6)
    assert torch.equal(method.stylise(method.prepare(style), contents), contents + 0.25)
    with pytest.raises(InputError, match=r"share: .*'much'"):
        registry.load("tint", params, None, share="much")


@pytest.mark.parametrize("name", ["monet", "registry", "training", "quality", "_moments"])
def test_what_is_no_method_is_named(name):
    known = "adain, avatarnet, gatys, johnson, metastyle, shen, styleswap, wct"
    with pytest.raises(InputError, match=rf"methods\.{name}: unknown method; known: {known}"):
        registry.load(name, SMOKE, None)


def test_names_are_in_the_files_order(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("methods: {wct: {}, adain: {}}")
    assert registry.names(params) == ["wct", "adain"]
    params.write_text("other: {}")
    with pytest.raises(InputError, match="section 'methods' is missing"):
        registry.names(params)
