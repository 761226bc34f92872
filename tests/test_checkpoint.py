"""Networks on disk: what comes back, how small a file may be, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from metastyle.config import InputError
from metastyle.core import images
from metastyle.core.checkpoint import (
    SCALE,
    compact,
    load_network,
    load_tensors,
    save_network,
    save_tensors,
)
from metastyle.core.network import new_network, stylise


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
    network = new_network(0)
    path = tmp_path / "small.safetensors"
    save_network(path, parameters(network), {}, small=True)
    assert path.stat().st_size < 1.1 * sum(p.numel() for p in network.parameters())
    photo = images.load_square(sets.photos.held_out[0], 64)
    moved = stylise(load_network(path), photo) - stylise(network, photo)
    assert moved.abs().mean() < 1 / 255


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
    other, old = ({"metastyle": json.dumps({"format": f})} for f in ("99", "1"))
    cases = [
        (lambda: None, "no such network file"),
        (lambda: path.write_bytes(b"junk"), "not a safetensors file"),
        (lambda: save_file({"w": torch.zeros(1)}, path), "no MetaStyle metadata"),
        (lambda: save_file({"w": torch.zeros(1)}, path, other), "'99' is not supported; .* '2'"),
        (lambda: save_network(path, {"w": torch.zeros(1)}, {}), "something else"),
        (lambda: save_file({"w": torch.zeros(1)}, path, old), r"other VGG-16 weights \(format 1\)"),
        *(
            (lambda text=text: save_file({"w": torch.zeros(1)}, path, text), "metadata is damaged")
            for text in ({"metastyle": "[1]"}, {"metastyle": '"2"'}, {"metastyle": "{"})
        ),
    ]
    for prepare, message in cases:
        prepare()
        with pytest.raises(InputError, match=message) as error:
            load_network(path)
        assert "x.safetensors" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, small, value):
    path, weights = tmp_path / "x.safetensors", parameters(new_network(0))
    name = "layers.1.bias"
    weights[name] = weights[name].clone()
    weights[name][3] = value
    save_network(path, weights, {}, small=small)
    with pytest.raises(InputError, match=rf"x\.safetensors: {name} holds no finite numbers"):
        load_network(path)
    load_tensors(path)  # tensors may hold anything: logs do


def test_integers_are_no_weights(tmp_path):
    path, weights = tmp_path / "x.safetensors", parameters(new_network(0))
    save_network(path, weights | {"layers.1.bias": torch.zeros(32, dtype=torch.int8)}, {})
    with pytest.raises(InputError, match=r"layers\.1\.bias holds no finite numbers"):
        load_network(path)


@pytest.mark.parametrize(
    "scale",
    [
        {"layers.9.weight": torch.ones(128, 1, 1, 1)},  # of a tensor that is not there
        {"layers.3.weight": torch.ones(7, 1, 1, 1)},
        {"layers.3.weight": torch.ones(1)},
        {"layers.1.bias": torch.ones(1)},  # of no filter
    ],
)
def test_scales_that_do_not_fit_are_refused(tmp_path, scale):
    path, weights = tmp_path / "x.safetensors", compact(parameters(new_network(0)))
    (name,) = scale
    save_tensors(path, weights | {SCALE + name: scale[name]}, {})
    with pytest.raises(InputError, match=rf"the scale of {name} does not fit it; replace the file"):
        load_network(path)
