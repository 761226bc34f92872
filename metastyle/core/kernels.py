"""Differentiable operations that cost less than PyTorch's own, up to their second derivatives.

They compute what torch.nn computes, up to rounding; tests/test_kernels.py holds them to it.
What they leave out or rearrange:

- `frozen_conv_relu`: keeps its output alone, which is all that both derivatives of ReLU need.
- `norm_relu`: the second derivative of an instance norm as one affine combination.
- `upsample_conv`: nearest-neighbour doubling and a 3x3 convolution at the low resolution.
- `conv_few_outputs`, `conv_few_inputs`: a 9x9 convolution to or from three channels as a 1x9 one.
- `gram`: its gradient as one matrix product, not two.
"""

from functools import cache

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from metastyle.core.convolutions import conv

_aten = torch.ops.aten
EPSILON = 1e-5  # torch.nn.InstanceNorm2d's


class _FrozenConvRelu(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        y = F.conv2d(x, weight, bias, padding=1).relu_()
        ctx.save_for_backward(y, weight)
        return y

    @staticmethod
    def backward(ctx, g):
        return _FrozenConvReluGradient.apply(g, *ctx.saved_tensors), None, None


class _FrozenConvReluGradient(Function):
    @staticmethod
    def forward(ctx, g, y, weight):
        ctx.save_for_backward(y, weight)
        return F.conv_transpose2d(_aten.threshold_backward(g, y, 0), weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, u):
        y, weight = ctx.saved_tensors
        return _aten.threshold_backward(F.conv2d(u, weight, padding=1), y, 0), None, None


def frozen_conv_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(conv2d(x, weight, bias)), 3x3 with zero padding; weight and bias get no gradient."""
    return _FrozenConvRelu.apply(x, weight, bias)


def _maps(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (1, N C, H, W), whose batch norm is the instance norm of x."""
    return x.reshape(1, -1, *x.shape[2:])


class _Norm(Function):
    @staticmethod
    def forward(ctx, x, scale, shift, relu):
        affine = scale.repeat(len(x)), shift.repeat(len(x))
        y, mean, inverse = torch.native_batch_norm(_maps(x), *affine, None, None, True, 0, EPSILON)
        y = y.view_as(x)
        if relu:
            y.relu_()
        ctx.save_for_backward(x, scale, mean, inverse, y if relu else None)
        return y

    @staticmethod
    def backward(ctx, g):
        x, scale, mean, inverse, y = ctx.saved_tensors
        if y is not None:
            g = _Masked.apply(g, y)
        return *_NormGradients.apply(g, x, scale, mean, inverse), None


class _Masked(Function):
    """g where y > 0; y is not differentiated, ReLU having no second derivative."""

    @staticmethod
    def forward(ctx, g, y):
        ctx.save_for_backward(y)
        return _aten.threshold_backward(g, y, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx, u):
        return _aten.threshold_backward(u, *ctx.saved_tensors, 0), None


def _norm_gradients(g, x, scale, mean, inverse):
    """a P g with P the projection off 1 and z, a = scale / deviation, z the normalised x; and
    the sums of g z and of g over each map: what batch norm's own derivative computes."""
    given = _maps(g), _maps(x), scale.repeat(len(x)), None, None, mean, inverse
    gx, gz, g1 = _aten.native_batch_norm_backward(*given, True, EPSILON, [True] * 3)
    return gx.view_as(x), gz, g1


class _NormGradients(Function):
    @staticmethod
    def forward(ctx, g, x, scale, mean, inverse):
        gx, gz, g1 = _norm_gradients(g, x, scale, mean, inverse)
        ctx.save_for_backward(g, x, scale, mean, inverse, gz, g1)
        n, c = x.shape[:2]
        return gx, gz.view(n, c).sum(0), g1.view(n, c).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, u, u_scale, u_shift):
        """Derivative of s = <u, a P g> + <u_scale, gz> + <u_shift, g1> by g, x and scale."""
        g, x, scale, mean, inverse, gz, g1 = ctx.saved_tensors
        n, c, h, w = x.shape
        size = h * w
        maps = (n, c, 1, 1)
        aPu, uz, u1 = _norm_gradients(u, x, scale, mean, inverse)
        uz, u1, gz, g1 = (t.view(maps) / size for t in (uz, u1, gz, g1))  # means over a map
        ug = (u * g).mean((2, 3), keepdim=True)
        mean, inverse = mean.view(maps), inverse.view(maps)
        a, s = scale.view(1, c, 1, 1) * inverse, u_scale.view(1, c, 1, 1)

        inner = ug - u1 * g1 - uz * gz  # <u, P g> / size
        scale_gradient = (inverse * size * inner).sum(0).flatten()
        # By x, through z (cotangent q = -a (gz u + uz g) + s g) and through the deviation.
        of_u, of_g = -a * gz, s - a * uz
        q1 = of_u * u1 + of_g * g1
        qz = of_u * uz + of_g * gz
        of_z = -inverse * (qz + a * inner)
        of_x, constant = of_z * inverse, -inverse * q1 - of_z * inverse * mean
        x_gradient = torch.addcmul(constant, x, of_x)
        x_gradient.addcmul_(u, inverse * of_u).addcmul_(g, inverse * of_g)
        # By g: a P u + s z + u_shift.
        g_gradient = aPu.addcmul_(x, s * inverse)
        g_gradient += u_shift.view(1, c, 1, 1) - s * inverse * mean
        return g_gradient, x_gradient, scale_gradient, None, None


def norm_relu(x: Tensor, scale: Tensor, shift: Tensor, *, relu: bool = True) -> Tensor:
    """Instance norm with scale and shift (C,), then ReLU unless told otherwise."""
    return _Norm.apply(x, scale, shift, relu)


class _Gram(Function):
    @staticmethod
    def forward(ctx, pixels):
        ctx.save_for_backward(pixels)
        return pixels.transpose(1, 2) @ pixels

    @staticmethod
    def backward(ctx, g):
        (pixels,) = ctx.saved_tensors
        return pixels @ (g + g.transpose(1, 2))


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W): (N, C, H, W) -> (N, C, C)."""
    n, c, h, w = features.shape
    return _Gram.apply(features.permute(0, 2, 3, 1).reshape(n, h * w, c)) / (c * h * w)


@cache
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which taps of a row of three fall on which pixel: by phase, pixel and tap. Made once: what
    is replayed as a CUDA graph must bring nothing from the CPU."""
    taps = [[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]
    return torch.tensor(taps, dtype=dtype, device=device)


def upsample_conv(x: Tensor, weight: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """conv(reflection_pad(double(x), 1), weight), doubling by nearest neighbours.

    An output pixel sees only two by two different pixels of x, so each of its four phases is
    a 2x2 convolution of x itself, whose kernel sums the taps that fall on the same pixel; the
    reflected border of the doubled image repeats the border of x.
    """
    n, outputs, (h, w) = x.shape[0], weight.shape[0], x.shape[2:]
    taps = _taps(weight.dtype, weight.device)
    phases = torch.einsum("yik,xjl,ockl->yxocij", taps, taps, weight)
    kernels = phases.reshape(4 * outputs, *phases.shape[3:])
    y = conv(x, kernels, border=1, mode="replicate", dtype=dtype)
    y = y.view(n, 2, 2, outputs, h + 1, w + 1)
    rows = []
    for i in range(2):
        columns = [y[:, i, j, :, i : i + h, j : j + w] for j in range(2)]
        rows.append(torch.stack(columns, -1).view(n, outputs, h, 2 * w))
    return torch.stack(rows, 3).view(n, outputs, 2 * h, 2 * w)


def conv_few_outputs(x: Tensor, weight: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """conv(x, weight, border=k // 2) for few outputs: one channel per output and row of the
    kernel, then the sum over rows."""
    outputs, inputs, k, _ = weight.shape
    rows = weight.permute(2, 0, 1, 3).reshape(k * outputs, inputs, 1, k)
    y = conv(x, rows, border=k // 2, dtype=dtype).unflatten(1, (k, outputs))
    return torch.stack([y[:, i, :, i : i + x.shape[2]] for i in range(k)]).sum(0)


def conv_few_inputs(x: Tensor, weight: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """conv(x, weight, border=k // 2) for few inputs: one channel per input and kernel row."""
    outputs, inputs, k, _ = weight.shape
    padded = F.pad(x, [k // 2] * 4, mode="reflect")
    rows = torch.cat([padded[:, :, i : i + x.shape[2]] for i in range(k)], 1)
    return conv(rows, weight.permute(0, 2, 1, 3).reshape(outputs, k * inputs, 1, k), dtype=dtype)
