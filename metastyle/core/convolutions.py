"""Convolutions with cheap first and second derivatives, by kernels that suit the device.

`conv` computes what padding and torch.nn.functional.conv2d compute, up to rounding. Its second
derivative computes no gradient of weights that are frozen, and both derivatives come from the
bilinear identities, not from PyTorch's own double backward. What suits whom:

- oneDNN (CPU) is quickest at the gradient of weights as the convolution that it is, one whose
  kernel is a whole feature map; cuDNN is very slow at that, and has a kernel of its own for it.
- PyTorch's gradient of a reflected or repeated border adds up with atomics on CUDA; there a
  border is slices put together, whose gradient is plain sums.

Both branches run on either device, so that the one for CUDA is tested without a GPU.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_aten = torch.ops.aten
Mode = Literal["reflect", "replicate"]
Suit = Literal["cpu", "cuda"]


def suits(x: Tensor) -> Suit:
    """The kernels for a tensor: those for its device."""
    return "cuda" if x.is_cuda else "cpu"


class _Shape(NamedTuple):
    """How a convolution meets its input: its stride, the border added to every side, and whose
    kernels compute it."""

    stride: int
    border: int
    mode: Mode
    suit: Suit


def pad(x: Tensor, border: int, mode: Mode, *, suit: Suit | None = None) -> Tensor:
    """A border of so many pixels around (N, C, H, W), reflected or repeated."""
    if (suit or suits(x)) == "cpu":
        return F.pad(x, [border] * 4, mode=mode)
    for dim in (2, 3) if border else ():
        size = x.shape[dim]
        if mode == "reflect":
            before, after = (
                x.narrow(dim, start, border).flip(dim) for start in (1, size - 1 - border)
            )
        else:
            shape = [border if d == dim else -1 for d in range(4)]
            before, after = (x.narrow(dim, start, 1).expand(shape) for start in (0, size - 1))
        x = torch.cat([before, x, after], dim)
    return x


def _unpad(g: Tensor, x: Tensor, shape: _Shape) -> Tensor:
    """Gradient by x of its bordered copy, for that copy's gradient g."""
    border = shape.border
    if not border:
        return g
    if shape.suit == "cpu":
        reflected = shape.mode == "reflect"
        back = _aten.reflection_pad2d_backward if reflected else _aten.replication_pad2d_backward
        return back(g, x, [border] * 4)
    for dim in (3, 2):
        size = g.shape[dim] - 2 * border
        before, inside, after = g.split([border, size, border], dim)
        g = inside.clone()
        if shape.mode == "reflect":
            g.narrow(dim, 1, border).add_(before.flip(dim))
            g.narrow(dim, size - 1 - border, border).add_(after.flip(dim))
        else:
            g.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
            g.narrow(dim, size - 1, 1).add_(after.sum(dim, keepdim=True))
    return g


def _conv(x: Tensor, weight: Tensor, shape: _Shape) -> Tensor:
    padded = pad(x, shape.border, shape.mode, suit=shape.suit)
    return F.conv2d(padded, weight, stride=shape.stride)


def _conv_gradients(
    g: Tensor, x: Tensor, weight: Tensor, shape: _Shape, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of `_conv` with respect to x and weight, for the output's gradient g."""
    gx = gw = None
    to_x, to_weight = wanted
    padded = pad(x, shape.border, shape.mode, suit=shape.suit) if any(wanted) else x

    def native(*mask: bool) -> list[Tensor | None]:
        fixed = None, [shape.stride] * 2, [0, 0], [1, 1], False, [0, 0], 1
        return _aten.convolution_backward(g, padded, weight, *fixed, [*mask, False])

    if shape.suit == "cuda":
        gx, gw, _ = native(*wanted) if any(wanted) else (None, None, None)
        return _unpad(gx, x, shape) if to_x else None, gw
    if to_x:
        if weight.shape[2] == 1:  # oneDNN is slow at this for 1x9 kernels
            wide = F.pad(g, [weight.shape[3] - 1] * 2)
            gx = F.conv2d(wide, weight.flip(3).transpose(0, 1))
        else:
            gx = native(True, False)[0]
        gx = _unpad(gx, x, shape)
    if to_weight:
        if shape.stride == 1:
            gw = F.conv2d(padded.transpose(0, 1), g.transpose(0, 1)).transpose(0, 1)
        else:
            gw = native(False, True)[1]
    return gx, gw


class _Conv(Function):
    @staticmethod
    def forward(ctx, x, weight, shape):
        ctx.save_for_backward(x, weight)
        ctx.shape = shape
        return _conv(x, weight, shape)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return *_ConvGradients.apply(g, x, weight, ctx.shape, ctx.needs_input_grad[:2]), None


class _ConvGradients(Function):
    @staticmethod
    def forward(ctx, g, x, weight, shape, wanted):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        ctx.shape = shape
        return _conv_gradients(g, x, weight, shape, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx, ux, uw):
        """The answers are bilinear: <ux, gx> + <uw, gw> = <g, conv(ux, weight) + conv(x, uw)>."""
        g, x, weight = ctx.saved_tensors
        to_g, to_x, to_weight = ctx.needs_input_grad[:3]
        pairs = [(ux, weight)] * (ux is not None) + [(x, uw)] * (uw is not None)
        g_gradient = None
        for a, b in pairs if to_g else ():
            part = _conv(a, b, ctx.shape)
            g_gradient = part if g_gradient is None else g_gradient.add_(part)
        x_gradient = weight_gradient = None
        if to_x and uw is not None:
            x_gradient, _ = _conv_gradients(g, x, uw, ctx.shape, (True, False))
        if to_weight and ux is not None:
            _, weight_gradient = _conv_gradients(g, ux, weight, ctx.shape, (False, True))
        return g_gradient, x_gradient, weight_gradient, None, None


class _Cast(Function):
    """Another number format and memory format at once, there and back."""

    @staticmethod
    def forward(ctx, x, dtype, memory):
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ctx.back = x.dtype, torch.channels_last if last else torch.contiguous_format
        return x.to(dtype, memory_format=memory)

    @staticmethod
    def backward(ctx, g):
        return _Cast.apply(g, *ctx.back), None, None


def conv(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int = 1,
    border: int = 0,
    mode: Mode = "reflect",
    dtype: torch.dtype | None = None,
    suit: Suit | None = None,
) -> Tensor:
    """Convolution without bias: (N, I, H, W), (O, I, k, l) -> (N, O, ., .).

    x is first given a border of so many pixels; its bordered copy is not kept.

    Args:
        dtype: in which to compute, derivatives too, channels-last; x's own if None. The answer
            has x's.
        suit: whose kernels; those of x's device if None.
    """
    shape = _Shape(stride, border, mode, suit or suits(x))
    if dtype in (None, x.dtype):
        return _Conv.apply(x, weight, shape)
    x16, weight = (_Cast.apply(t, dtype, torch.channels_last) for t in (x, weight))
    return _Cast.apply(_Conv.apply(x16, weight, shape), x.dtype, torch.contiguous_format)
