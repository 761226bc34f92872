"""The quick kernels against PyTorch's own layers: values, first and second derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from metastyle.core import kernels
from metastyle.core.losses import PerceptualLoss
from metastyle.core.network import new_network
from metastyle.core.splits import Data
from metastyle.core.vgg import load_vgg
from metastyle.meta import reference
from metastyle.meta.bilevel import Task, meta_gradient


def random(*shape: int, seed: int = 0, grad: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def reflected(x, border=1):
    return F.pad(x, [border] * 4, mode="reflect")


FROZEN = random(4, 3, 3, 3, grad=False), random(4, grad=False)
CASES = {
    "conv": (
        lambda x, w: kernels.conv(x, w, border=1),
        lambda x, w: F.conv2d(reflected(x), w),
        [random(2, 3, 5, 6), random(4, 3, 3, 3)],
    ),
    "conv with stride": (
        lambda x, w: kernels.conv(x, w, stride=2, border=1),
        lambda x, w: F.conv2d(reflected(x), w, stride=2),
        [random(2, 3, 6, 8), random(4, 3, 3, 3)],
    ),
    "conv to few outputs": (
        kernels.conv_few_outputs,
        lambda x, w: F.conv2d(reflected(x, 2), w),
        [random(2, 4, 6, 7), random(3, 4, 5, 5)],
    ),
    "conv of few inputs": (
        lambda w: kernels.conv_few_inputs(random(2, 3, 6, 7, grad=False), w),
        lambda w: F.conv2d(reflected(random(2, 3, 6, 7, grad=False), 2), w),
        [random(4, 3, 5, 5)],
    ),
    "conv after doubling": (
        kernels.upsample_conv,
        lambda x, w: F.conv2d(reflected(F.interpolate(x, scale_factor=2)), w),
        [random(2, 2, 4, 3), random(3, 2, 3, 3)],
    ),
    "norm and relu": (
        kernels.norm_relu,
        lambda x, a, b: F.relu(F.instance_norm(x, weight=a, bias=b)),
        [random(2, 3, 4, 5), random(3), random(3, seed=1)],
    ),
    "norm": (
        lambda x, a, b: kernels.norm_relu(x, a, b, relu=False),
        lambda x, a, b: F.instance_norm(x, weight=a, bias=b),
        [random(2, 3, 4, 5), random(3), random(3, seed=1)],
    ),
    "gram": (kernels.gram, reference.gram, [random(2, 3, 4, 5)]),
    "frozen conv and relu": (
        lambda x: kernels.frozen_conv_relu(x, *FROZEN),
        lambda x: F.relu(F.conv2d(x, *FROZEN, padding=1)),
        [random(2, 3, 5, 6)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_kernel_is_the_layer_up_to_second_derivatives(case):
    quick, plain_one, inputs = CASES[case]
    torch.testing.assert_close(quick(*inputs), plain_one(*inputs), rtol=1e-12, atol=1e-12)
    assert gradcheck(quick, inputs)
    assert gradgradcheck(quick, inputs)


def test_meta_gradient_by_parts_is_the_plain_one(project, loss):
    """The whole of it in float64: network, VGG, Gram, inner step, second order."""
    network = new_network(1).double()
    theta = dict(network.named_parameters())
    weights = project.root / Data.read(project, "data").vgg
    settings = loss.settings.changed(spike_limit=2.0)  # so that every term counts
    quick = PerceptualLoss(load_vgg(weights).double(), settings)
    slow = load_vgg(weights, reference.PlainVGG16).double()
    photos = random(7, 3, 32, 32, grad=False).sigmoid()
    target = PerceptualLoss(slow, settings).style(photos[:1])
    task = Task(target, [photos[1:4]], photos[4:])
    options = {"delta": 1e-6}  # from a random start the second-order part is then some per cent
    ours, _ = meta_gradient(theta, [task], quick.of_parameters, **options)
    plain_loss = reference.plain_loss(network, slow, settings)
    expected, _ = reference.meta_gradient(theta, [task], plain_loss, **options)
    first, _ = meta_gradient(theta, [task], quick.of_parameters, order="first", **options)

    def flat(gradient):
        return torch.cat([gradient[name].flatten() for name in theta])

    error = (flat(ours) - flat(expected)).norm() / flat(expected).norm()
    dropped = (flat(first) - flat(expected)).norm() / flat(expected).norm()
    assert error < 1e-9 < 1e-3 < dropped
