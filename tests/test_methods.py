"""Networks on disk, adaptation, blending and the methods of Table 1."""

import itertools
import json

import pytest
import torch
from conftest import ROOT, SMOKE
from safetensors.torch import save_file

from metastyle import baselines
from metastyle.core import images
from metastyle.adaptation.adapt import Adaptation, adapt, crop_size, learning_rate
from metastyle.core.crops import crops
from metastyle.core.checkpoint import compact, load_network, load_tensors, save_network, save_tensors
from metastyle.config import InputError
from metastyle.adaptation.interpolation import along, blend, cross_fade, smoothness, triangle
from metastyle.core.losses import style_target
from metastyle.baselines.gatys import optimise
from metastyle.config import read
from metastyle.evaluation.timing import measure
from metastyle.core.network import new_network, parameter_names, stylise


def parameters(network):
    return {name: p.detach() for name, p in network.named_parameters()}


def test_network_survives_the_disk_and_files_are_reproducible(tmp_path):
    network = new_network(3)
    for name in ("a", "b"):
        save_network(tmp_path / f"{name}.safetensors", parameters(network), {"z": 1, "a": 2})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = parameters(load_network(tmp_path / "a.safetensors"))
    assert all(torch.equal(again[name].cpu(), p) for name, p in parameters(network).items())


def test_a_small_file_moves_pixels_by_less_than_a_level(tmp_path, sets):
    network = load_network(ROOT / "results" / "meta_train" / "network.safetensors")
    path = tmp_path / "small.safetensors"
    save_network(path, parameters(network), {}, small=True)
    assert path.stat().st_size < 1.1 * sum(p.numel() for p in network.parameters())
    photo = images.load_square(sets["photo/held_out"][0], 64)
    moved = stylise(load_network(path), photo) - stylise(network, photo)
    assert moved.abs().mean() < 0.5 / 255


@pytest.mark.parametrize(("inputs", "levels", "kept"), [(4, 127, 127), (4, 7, 127), (128, 7, 7)])
def test_compact_filters_are_within_half_a_step_and_zeros_stay(inputs, levels, kept, tmp_path):
    filters = torch.randn(2, 5, inputs, 3, 3) * torch.logspace(-20, 3, 5)[:, None, None, None]
    filters[0, 0] = 0
    path = tmp_path / "x.safetensors"
    small = compact({"filters": filters, "vector": filters[0, :, 0, 0, 0]}, levels)
    if inputs == 4:
        assert small["filters"].abs().max() == kept
    else:  # numbers enough to meet every level
        assert small["filters"].unique().tolist() == [*range(-kept, kept + 1)]
    save_tensors(path, small, {})
    tensors, _ = load_tensors(path)
    assert tensors.keys() == {"filters", "vector"} and tensors["filters"].dtype == torch.float32
    step = filters.abs().amax((-3, -2, -1), keepdim=True) / kept
    assert ((tensors["filters"] - filters).abs() <= 0.5001 * step).all()


def test_bad_networks_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    cases = [
        (lambda: None, "no such network file"),
        (lambda: path.write_bytes(b"junk"), "not a safetensors file"),
        (lambda: save_file({"w": torch.zeros(1)}, path), "no MetaStyle metadata"),
        (
            lambda: save_file(
                {"w": torch.zeros(1)}, path, {"metastyle": json.dumps({"format": "99"})}
            ),
            "version '99' is not supported",
        ),
        (lambda: save_network(path, {"w": torch.zeros(1)}, {}), "something else"),
    ]
    for prepare, message in cases:
        prepare()
        with pytest.raises(InputError, match=message) as error:
            load_network(path)
        assert "x.safetensors" in str(error.value)


@pytest.mark.parametrize("which", ["all", "instance_norm"])
def test_adaptation_changes_what_it_may_and_learns(which, vgg, perceptual, sets):
    settings = read(SMOKE, "adapt", Adaptation)
    settings = settings.model_copy(update={"parameters": which, "updates": 6})
    start = new_network(0)
    before = {name: p.clone() for name, p in parameters(start).items()}
    style = images.load(sets["artwork/train"][0], 48)
    network, curve = adapt(start, style, sets["photo/inner"][:4], vgg, perceptual, settings)
    after = parameters(network)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # A bias that an instance norm subtracts again has no gradient, and stays.
    subtracted = {f"layers.{i}.bias" for i in (0, 3, 6, 15, 19)}
    subtracted |= {f"layers.{i}.body.{k}.bias" for i in range(9, 14) for k in (0, 3)}
    assert moved == set(parameter_names(start, which)) - subtracted
    assert all(torch.equal(before[name], p) for name, p in parameters(start).items())
    assert curve["update"].tolist() == [1, 2, 3, 4, 5, 6]
    if which == "all":
        assert curve["loss"].iloc[-2:].mean() < curve["loss"].iloc[:2].mean()


def test_learning_rate_and_crops_follow_their_schedule():
    s = read(SMOKE, "adapt", Adaptation).model_copy(
        update={"updates": 9, "warmup": 3, "learning_rate": 4.0, "sizes": [32, 64, 96]}
    )
    rates = [learning_rate(u, s.model_copy(update={"schedule": "cosine"})) for u in range(1, 10)]
    assert rates[:4] == [1, 2, 3, 4]
    assert rates[6] == pytest.approx(2)  # half way down
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[3:]))
    constant = s.model_copy(update={"schedule": "constant"})
    assert [learning_rate(u, constant) for u in (4, 9)] == [4, 4]
    assert [crop_size(u, s) for u in range(1, 10)] == [32] * 3 + [64] * 3 + [96] * 3


def test_blend_is_the_convex_combination():
    networks = [new_network(seed) for seed in range(3)]
    mixed = parameters(blend(networks, [0.2, 0.3, 0.5]))
    for name, value in mixed.items():
        a, b, c = (parameters(network)[name] for network in networks)
        torch.testing.assert_close(value, 0.2 * a + 0.3 * b + 0.5 * c)
    for weights in ([0.5, 0.6, -0.1], [0.5, 0.5], [0.5, 0.5, 0.5]):
        with pytest.raises(InputError, match="summing to 1"):
            blend(networks, weights)


def test_blend_of_one_is_itself_and_nested_blends_multiply():
    a, b, c = (new_network(seed).double() for seed in range(3))
    inner = blend([a, b], [0.25, 0.75])
    assert next(inner.parameters()).dtype == torch.float64
    nested, flat = blend([inner, c], [0.4, 0.6]), blend([a, b, c], [0.1, 0.3, 0.6])
    for name, value in parameters(nested).items():
        torch.testing.assert_close(value, parameters(flat)[name], rtol=1e-14, atol=1e-15)
        one = parameters(blend([a, b], [1, 0]))[name]
        assert torch.equal(one, parameters(a)[name])


def test_triangle_has_the_styles_at_its_corners():
    rows = triangle(3)
    assert [len(row) for row in rows] == [1, 2, 3, 4]
    assert (rows[0][0], rows[3][0], rows[3][3]) == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert rows[2][1] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    for row in rows:
        for weights in row:
            assert min(weights) >= 0 and sum(weights) == pytest.approx(1, abs=1e-12)


def test_a_jump_is_no_smooth_walk_and_a_step_is_a_distance(vgg, perceptual, sets):
    a, b = images.load_squares(sets["photo/held_out"][:2], 32).split(1)
    targets = {"style": style_target(vgg, b, perceptual)}
    jump = along(torch.cat([a, a, a, b, b]), vgg, targets, perceptual)
    assert jump["step"].iloc[1:].tolist() == pytest.approx([0, 0, jump["distance"].iloc[-1], 0])
    assert smoothness(jump) == pytest.approx({"largest": 4, "detour": 1})
    assert jump["style"].iloc[-1] == pytest.approx(0, abs=1e-9) and jump["style"].iloc[0] > 1e-6
    fade = along(cross_fade(a, b, [0, 0.25, 0.5, 0.75, 1]), vgg, targets, perceptual)
    there, back = smoothness(fade), smoothness(along(torch.cat([a, b, a, b]), vgg, {}, perceptual))
    assert 1 <= there["largest"] < 2 and there["detour"] >= 1
    assert back == pytest.approx({"largest": 1, "detour": 3})


def test_gatys_lowers_its_loss_in_just_so_many_evaluations(vgg, perceptual, sets):
    content = images.load_square(sets["photo/inner"][0], 48)
    target = style_target(vgg, images.load_square(sets["artwork/train"][0], 48), perceptual)
    image, curve = optimise(content, content, target, vgg, perceptual, updates=7)
    assert len(curve) == 7 and curve[-1] < 0.9 * curve[0]
    assert image.shape == content.shape and image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize("name", methods.names(SMOKE))
def test_every_method_keeps_the_interface(name, vgg, perceptual, sets):
    adaptation = read(SMOKE, "adapt", Adaptation)
    photos = sets["photo/inner"], sets["photo/validation"]
    resources = methods.Resources(vgg, perceptual, photos[0], new_network(0), adaptation, photos[1])
    method = methods.load(name, SMOKE, resources)
    style = images.load(sets["artwork/train"][0], 48)
    contents = torch.rand(2, 3, 33, 50)
    for state in (method.prepare(style), method.ready(style)):
        output = method.stylise(state, contents)
        assert output.shape == contents.shape
        assert output.min() >= 0 and output.max() <= 1
    assert method.parameters is None or method.parameters > 1e6


def test_unknown_method_is_named():
    with pytest.raises(
        InputError, match=r"methods\.monet: unknown method; known: .*gatys, johnson"
    ):
        methods.load("monet", SMOKE, None)


def test_measure_warms_up_and_repeats():
    calls = []
    timing = measure(lambda: calls.append(1), budget=0.0, repeats=(3, 9))
    assert timing.repeats == 3 and len(calls) == 4
    assert measure(lambda: None, budget=9.0, repeats=(3, 9)).repeats == 9
    assert timing.low <= timing.median <= timing.high
    assert timing.scaled(10).median == pytest.approx(10 * timing.median)


def test_augmentation_stays_in_range_and_varies(sets):
    settings = read(ROOT / "params.yaml", "adapt", Adaptation)
    first, second = (crops(sets["photo/inner"][:2], 40, settings.photos, seed) for seed in (1, 2))
    assert first.shape == (2, 3, 40, 40) and first.min() >= 0 and first.max() <= 1
    assert not torch.equal(first, second)
