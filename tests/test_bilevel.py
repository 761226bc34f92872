"""The meta-gradient against the chain rule with explicit Hessians, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from metastyle.core.kernels import gram
from metastyle.meta import bilevel, reference
from metastyle.meta.bilevel import Task

DELTA = 0.01
NORM = ["1.weight", "1.bias"]  # of the instance norm below


def tiny_network() -> nn.Module:
    """Smooth everywhere, so that second derivatives exist; 27 parameters."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True), nn.Tanh(), nn.Conv2d(2, 1, 1)]
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def loss(parameters, style, contents):
    """The tiny network's loss, a mean over the contents."""
    p = parameters
    x = F.conv2d(contents, p["0.weight"], p["0.bias"])
    x = torch.tanh(F.instance_norm(x, weight=p["1.weight"], bias=p["1.bias"]))
    output = F.conv2d(x, p["3.weight"], p["3.bias"])
    content = (output - contents[..., 1:-1, 1:-1]).square().mean()
    grams = gram(torch.cat([output, output**2], 1))
    value = content + 3 * (grams - style).square().sum((1, 2)).mean()
    return value, value.detach()


def make_tasks(steps: int) -> list[Task]:
    generator = torch.Generator().manual_seed(1)

    def contents():
        return torch.rand(3, 1, 7, 7, dtype=torch.float64, generator=generator)

    return [
        Task(torch.full((2, 2), level).double(), [contents() for _ in range(steps)], contents())
        for level in (0.2, 0.7)
    ]


def by_hand(flat, style, contents):
    """The loss of the tiny network from elementary operations, parameters in one vector.

    No InstanceNorm2d: PyTorch 2.14's torch.func.hessian has it wrong, almost by half.
    """
    parts = flat.split([18, 2, 2, 2, 2, 1])
    weight, bias, scale, shift, last, last_bias = parts
    x = F.conv2d(contents, weight.view(2, 1, 3, 3)) + bias.view(1, 2, 1, 1)
    centred = x - x.mean((2, 3), keepdim=True)
    x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    x = torch.tanh(x * scale.view(1, 2, 1, 1) + shift.view(1, 2, 1, 1))
    output = (x * last.view(1, 2, 1, 1)).sum(1, keepdim=True) + last_bias
    content = (output - contents[:, :, 1:-1, 1:-1]).square().mean()
    features = torch.cat([output, output * output], 1)
    c, h, w = features.shape[1:]
    grams = torch.einsum("nihw,njhw->nij", features, features) / (c * h * w)
    return content + 3 * (grams - style).square().sum((1, 2)).mean()


def by_chain_rule(network, tasks, order, inner, clip=float("inf")):
    """v_T = grad L(w_T; query); v_{t-1} = v_t - delta H_{t-1} P v_t, P projecting on `inner`.

    Works on one flat vector, with dense Hessians from forward over reverse differentiation.
    """
    sizes = [(name, p.numel()) for name, p in network.named_parameters()]
    mask = torch.cat([torch.full((size,), float(name in inner)) for name, size in sizes]).double()
    theta = parameters_to_vector(network.parameters()).detach()
    total = torch.zeros_like(theta)
    for task in tasks:

        def value(flat, contents, task=task):
            return by_hand(flat, task.style, contents)

        path, rates = [theta], []
        for support in task.supports:
            gradient = mask * torch.func.grad(value)(path[-1], support)
            rates.append(DELTA * min(1.0, clip / gradient.norm().item()))
            path.append(path[-1] - rates[-1] * gradient)
        v = torch.func.grad(value)(path[-1], task.query)
        if order == "second":
            steps = [*zip(path[:-1], task.supports, rates, strict=True)]
            for w, support, rate in reversed(steps):
                v = v - rate * torch.func.hessian(value)(w, support) @ (mask * v)
        total += v
    return total


@pytest.mark.parametrize("styles", [1, 2])
@pytest.mark.parametrize("meta_gradient", [bilevel.meta_gradient, reference.meta_gradient])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize("which", ["all", "instance_norm"])
def test_meta_gradient_is_the_chain_rule(styles, meta_gradient, steps, order, which):
    network, tasks = tiny_network(), make_tasks(steps)[:styles]
    theta = dict(network.named_parameters())
    inner = list(theta) if which == "all" else NORM
    # Three images a batch on two or more cores: some graphs are kept, some are made again.
    gradient, reports = meta_gradient(theta, tasks, loss, delta=DELTA, order=order, inner=inner)
    expected = by_chain_rule(network, tasks, order, inner)
    torch.testing.assert_close(
        parameters_to_vector(gradient.values()), expected, rtol=1e-10, atol=1e-12
    )
    assert len(reports) == len(tasks)

    # The comparison has teeth: the other order is far from the tolerance.
    other = by_chain_rule(network, tasks, {"second": "first", "first": "second"}[order], inner)
    assert (other - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize("which", ["all", "instance_norm"])
def test_a_limit_on_inner_gradients_is_a_shorter_step_in_both_orders(order, which):
    network, tasks = tiny_network(), make_tasks(2)
    theta = dict(network.named_parameters())
    options = {"inner": list(theta) if which == "all" else NORM, "order": order}
    lengths = [
        torch.stack([p.norm() for name, p in found.items() if name in options["inner"]]).norm()
        for task in tasks
        for found, _ in [reference.meta_gradient(
            theta, [task._replace(supports=[], query=task.supports[0])], loss, delta=0.0
        )]
    ]  # fmt: skip
    clip = sum(lengths).item() / 2  # binds for one of the two styles
    found, _ = bilevel.meta_gradient(theta, tasks, loss, delta=DELTA, clip=clip, **options)
    expected = by_chain_rule(network, tasks, order, options["inner"], clip)
    torch.testing.assert_close(
        parameters_to_vector(found.values()), expected, rtol=1e-10, atol=1e-12
    )
    free = by_chain_rule(network, tasks, order, options["inner"])
    assert (free - expected).norm() > 1e-4 * expected.norm()


@pytest.mark.parametrize("steps", [1, 3])
def test_probes_are_the_losses_before_and_after(steps):
    network, tasks = tiny_network(), make_tasks(steps)
    theta = dict(network.named_parameters())
    options = {"delta": DELTA, "order": "first"}
    gradient, outcomes = bilevel.meta_gradient(theta, tasks, loss, probe=True, **options)
    for task, outcome in zip(tasks, outcomes, strict=True):
        adapted = reference.inner_steps(theta, task, loss, delta=DELTA, order="first", inner=theta)
        for found, batch in ((outcome.support, task.supports[0]), (outcome.query, task.query)):
            expected = [loss(w, task.style, batch)[0].item() for w in (theta, adapted)]
            assert found == pytest.approx(expected, rel=1e-12)
        assert outcome.report.item() == pytest.approx(outcome.query[1])
    plain, unasked = bilevel.meta_gradient(theta, tasks, loss, **options)
    assert all(torch.equal(plain[name], gradient[name]) for name in theta)
    assert {(outcome.support, outcome.query) for outcome in unasked} == {(None, None)}
    joint = [task._replace(supports=[]) for task in tasks]
    _, outcomes = bilevel.meta_gradient(theta, joint, loss, probe=True, **options)
    assert {(outcome.support, outcome.query) for outcome in outcomes} == {(None, None)}


def test_directions_on_a_quadratic():
    """L(w; s, b) = 1/2 (w - s)' D (w - s) + b' w, of which every gradient is known:
    first order (I - delta D) g + b-terms; the exact one multiplies it by (I - delta D)."""
    curvature = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)

    def quadratic(parameters, style, batch):
        apart = parameters["w"] - style
        value = (curvature * apart.square()).sum() / 2 + (batch @ parameters["w"]).mean()
        return value, value.detach()

    theta = {"w": torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)}
    style = torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64)
    support, query = torch.tensor([[0.1, 0.0, 0.3], [0.2, 0.5, 0.0]]).double().split(1)
    task, delta = bilevel.Task(style, [support], query), 0.1
    joint = curvature * (theta["w"] - style) + query[0]
    moved = theta["w"] - delta * (curvature * (theta["w"] - style) + support[0])
    first = curvature * (moved - style) + query[0]
    exact = (1 - delta * curvature) * first

    def cosine(a, b):
        return ((a @ b) / (a.norm() * b.norm())).item()

    found = bilevel.directions(theta, [task], quadratic, delta=delta)
    share = (delta * curvature * first).norm() / exact.norm()
    expected = cosine(exact, joint), cosine(exact, first), share.item()
    assert found == pytest.approx(expected, rel=1e-12)
    assert found.joint < 0.99 and found.first_order < 0.999
    # Two tasks: of the sums. No step: all the same.
    twice = bilevel.directions(theta, [task, task], quadratic, delta=delta)
    assert twice == pytest.approx(expected, rel=1e-12)
    assert bilevel.directions(theta, [task], quadratic, delta=0.0) == pytest.approx((1, 1, 0))


def test_forward_over_reverse_is_the_chain_rule(monkeypatch):
    monkeypatch.setitem(loss.__globals__, "gram", reference.gram)  # ours knows no forward mode
    network, tasks = tiny_network(), make_tasks(1)
    theta = dict(network.named_parameters())
    found = reference.forward_over_reverse(theta, tasks, loss, delta=DELTA)
    expected = by_chain_rule(network, tasks, "second", list(theta))
    torch.testing.assert_close(
        parameters_to_vector(found.values()), expected, rtol=1e-10, atol=1e-12
    )


def test_instance_norm_parameters_alone_move_in_the_inner_loop():
    network, (task, _) = tiny_network(), make_tasks(2)
    theta = dict(network.named_parameters())
    adapted = reference.inner_steps(theta, task, loss, delta=DELTA, order="second", inner=NORM)
    moved = {name for name in theta if not torch.equal(theta[name], adapted[name])}
    assert moved == set(NORM)
