"""Convolutions by the kernels for either device, in float64 and on the CPU."""

import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from metastyle.core import convolutions, kernels
from metastyle.core.convolutions import conv, pad
from metastyle.core.losses import PerceptualLoss
from metastyle.core.network import new_network, transform
from metastyle.meta.bilevel import Task, meta_gradient

SUITS = ["cpu", "cuda"]


def random(*shape: int, seed: int = 0, grad: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


CASES = {  # options, input, weight
    "plain": ({}, (2, 3, 5, 6), (4, 3, 3, 3)),
    "reflected": ({"border": 1}, (2, 3, 5, 6), (4, 3, 3, 3)),
    "reflected twice": ({"border": 2}, (1, 2, 4, 5), (3, 2, 5, 5)),
    "stride": ({"border": 1, "stride": 2}, (2, 3, 6, 8), (4, 3, 3, 3)),
    "repeated": ({"border": 2, "mode": "replicate"}, (1, 2, 3, 4), (3, 2, 2, 2)),
    "flat": ({"border": 2}, (1, 2, 5, 6), (3, 2, 1, 5)),
}


@pytest.mark.parametrize("suit", SUITS)
@pytest.mark.parametrize("case", CASES)
def test_a_convolution_is_pytorchs_up_to_second_derivatives(case, suit):
    options, x, weight = CASES[case]
    x, weight = random(*x), random(*weight)

    def ours(x, weight):
        return conv(x, weight, **options, suit=suit)

    border, mode = options.get("border", 0), options.get("mode", "reflect")
    bordered = F.pad(x, [border] * 4, mode=mode)
    expected = F.conv2d(bordered, weight, stride=options.get("stride", 1))
    torch.testing.assert_close(ours(x, weight), expected, rtol=1e-12, atol=1e-12)
    assert gradcheck(ours, (x, weight))
    assert gradgradcheck(ours, (x, weight))
    # With one of the two frozen, as an input image or a network that is not trained is.
    assert gradgradcheck(lambda x: ours(x, weight.detach()), (x,))
    assert gradgradcheck(lambda weight: ours(x.detach(), weight), (weight,))


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_border_without_atomics_is_pytorchs_to_any_order(mode):
    x = random(2, 2, 4, 5)
    for border in (0, 1, 3):
        assert torch.equal(pad(x, border, mode, suit="cuda"), F.pad(x, [border] * 4, mode=mode))

    def cubed(x):
        return pad(x, 2, mode, suit="cuda") ** 3

    assert gradcheck(cubed, (x,))
    assert gradgradcheck(cubed, (x,))


@pytest.mark.parametrize("kernel", ["upsample_conv", "conv_few_outputs", "conv_few_inputs"])
def test_what_is_made_of_convolutions_is_the_same_by_either(kernel, monkeypatch):
    x, side = random(2, 3, 6, 7, grad=kernel != "conv_few_inputs"), 5 if "few" in kernel else 3
    weight, found = random(4, 3, side, side), {}
    for suit in SUITS:
        monkeypatch.setattr(convolutions, "suits", lambda _, suit=suit: suit)
        y = getattr(kernels, kernel)(x, weight)
        inputs = [t for t in (x, weight) if t.requires_grad]
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        found[suit] = [y, *first, *second]
    torch.testing.assert_close(found["cpu"], found["cuda"], rtol=1e-10, atol=1e-10)


def test_the_meta_gradient_is_the_same_by_either(loss, monkeypatch):
    """Both networks and a second-order inner step."""
    theta = dict(new_network(1).double().named_parameters())
    quick = PerceptualLoss(copy.deepcopy(loss.vgg).cpu().double(), loss.settings)
    photos = random(3, 3, 16, 16, grad=False).sigmoid()
    task, found = Task(quick.style(photos[:1]), [photos[1:2]], photos[2:]), {}
    for suit in SUITS:
        monkeypatch.setattr(convolutions, "suits", lambda _, suit=suit: suit)
        gradient, _ = meta_gradient(theta, [task], quick.of_parameters, delta=1e-5)
        found[suit] = torch.cat([g.flatten() for g in gradient.values()])
    assert (found["cpu"] - found["cuda"]).norm() < 1e-9 * found["cpu"].norm()


def test_bfloat16_computes_convolutions_and_keeps_the_rest(monkeypatch):
    seen = []

    def spy(x, weight, shape, compute=convolutions._conv):
        seen.append((x.dtype, x.is_contiguous(memory_format=torch.channels_last)))
        return compute(x, weight, shape)

    monkeypatch.setattr(convolutions, "_conv", spy)
    network = new_network(0)
    parameters = dict(network.named_parameters())
    images = random(2, 3, 16, 16, grad=False).sigmoid().float()
    normed: list[torch.Tensor] = []
    half = transform(parameters, images, precision="bfloat16", seen=normed)
    assert set(seen) == {(torch.bfloat16, True)} and len(seen) == 16
    assert {x.dtype for x in [half, *normed]} == {torch.float32}
    assert all(x.is_contiguous() for x in normed[:-1])
    half.square().mean().backward()
    assert {p.grad.dtype for p in parameters.values() if p.grad is not None} == {torch.float32}
    monkeypatch.undo()
    full = transform(parameters, images)
    assert 0 < (half - full).norm() < 0.1 * full.norm()


def test_a_cast_goes_back_to_where_it_came_from():
    x = random(1, 3, 4, 5).detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    y = convolutions._Cast.apply(x, torch.float32, torch.contiguous_format)
    assert y.is_contiguous() and y.dtype == torch.float32
    (g,) = torch.autograd.grad(y.square().sum(), x)
    assert g.dtype == torch.float64 and g.is_contiguous(memory_format=torch.channels_last)


def test_precision_is_of_the_whole_path_on_a_gpu_and_of_vgg_alone_on_a_processor(loss):
    cpu = PerceptualLoss(copy.deepcopy(loss.vgg).cpu(), loss.settings)
    assert cpu.to_precision("bfloat16").precision is None
    assert cpu.to_precision("bfloat16").vgg.weight1_1.dtype == torch.bfloat16
    whole = cpu.to_precision("bfloat16", whole=True)
    assert whole.precision == "bfloat16"
    assert whole.with_style_share(0.5).changed(range_weight=0.0).precision == "bfloat16"
    assert cpu.to_precision("float32", whole=True).precision is None


def test_the_whole_path_in_bfloat16_has_the_gradient_of_float32(loss):
    cpu = PerceptualLoss(loss.vgg, loss.settings)
    theta = dict(new_network(1).to(loss.device).named_parameters())
    photos = random(3, 3, 32, 32, grad=False).sigmoid().float().to(loss.device)
    task, flat = Task(cpu.style(photos[:1]), [photos[1:2]], photos[2:]), []
    for computed in (cpu, cpu.to_precision("bfloat16", whole=True)):
        gradient, _ = meta_gradient(theta, [task], computed.of_parameters, delta=1e-4)
        flat.append(torch.cat([g.flatten() for g in gradient.values()]))
    assert F.cosine_similarity(*flat, dim=0) > 0.95
