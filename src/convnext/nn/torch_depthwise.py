"""Depthwise convolution for PyTorch on a CPU, with its own gradient.

PyTorch's gradients of a depthwise convolution are slow on a CPU (2.13, 7x7, 128 pictures): that of
the kernel takes 10 times the forward pass on 16x16 positions and 60 times on 2x2, and in bfloat16
twice as long again, with low precision. Here the gradient of the input is a convolution with the
flipped kernel, as fast as the forward pass; that of the kernel is a matrix product for few
positions, and PyTorch's in float32 otherwise.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

__all__ = ["depthwise_conv"]

# Above, the product of all pairs of positions takes longer: few pairs are within a kernel.
MOST_POSITIONS = 64


def depthwise_conv(
    x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, dilation: int = 1
) -> torch.Tensor:
    """Depthwise convolution with stride 1, padded to keep the size.

    Args:
        x: (batch, channels, rows, columns), of any memory format.
        kernel: (channels, 1, side, side).
        bias: (channels,).
        dilation: Distance between the positions that a kernel covers.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled():
        result: torch.Tensor = _OwnGradient.apply(x, kernel, bias, dilation)
        return result
    return _convolve(x, kernel, bias, dilation)


def _convolve(
    x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None, dilation: int
) -> torch.Tensor:
    around = dilation * (kernel.shape[-1] // 2)
    return conv2d(x, kernel, bias, padding=around, dilation=dilation, groups=kernel.shape[0])


class _OwnGradient(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, dilation: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.dilation = dilation
        return _convolve(x, kernel, bias, dilation)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, kernel = ctx.saved_tensors
        of_x, of_kernel, of_bias, _ = ctx.needs_input_grad
        few = x.shape[2] * x.shape[3] <= MOST_POSITIONS
        kernel_gradient = _by_products if few else _by_convolution
        return (
            _convolve(gradient, kernel.flip(2, 3), None, ctx.dilation) if of_x else None,
            kernel_gradient(gradient, x, kernel, ctx.dilation) if of_kernel else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _by_products(
    gradient: torch.Tensor, x: torch.Tensor, kernel: torch.Tensor, dilation: int
) -> torch.Tensor:
    """The kernel's gradient: products of all pairs of positions, summed by their distance."""
    batch, channels, *sides = x.shape
    # Copied here in one pass each, as the product would copy each channel separately.
    after = gradient.permute(1, 2, 3, 0).reshape(channels, -1, batch).contiguous()
    before = x.permute(1, 0, 2, 3).reshape(channels, batch, -1).contiguous()
    pairs = torch.bmm(after, before).flatten(1).to(_wide(kernel))
    table = _distances.__wrapped__ if torch.compiler.is_compiling() else _distances
    distances = table(*sides, kernel.shape[-1], dilation).to(pairs.dtype)
    return (pairs @ distances).reshape(kernel.shape).to(kernel.dtype)


@functools.lru_cache(maxsize=64)
def _distances(rows: int, columns: int, side: int, dilation: int) -> torch.Tensor:
    """(pairs of positions, side * side): 1 where a pair has that distance."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    apart = [index.flatten()[None, :] - index.flatten()[:, None] for index in (row, column)]
    down, right = (steps.div(dilation, rounding_mode="floor") + side // 2 for steps in apart)
    on_grid = (apart[0] % dilation == 0) & (apart[1] % dilation == 0)
    inside = on_grid & (down >= 0) & (down < side) & (right >= 0) & (right < side)
    taps = torch.where(inside, down * side + right, side * side).flatten()
    return torch.nn.functional.one_hot(taps, side * side + 1)[:, :-1].float()


def _by_convolution(
    gradient: torch.Tensor, x: torch.Tensor, kernel: torch.Tensor, dilation: int
) -> torch.Tensor:
    around = dilation * (kernel.shape[-1] // 2)
    options = ([1, 1], [around] * 2, [dilation] * 2, False, [0, 0], kernel.shape[0])
    wide = [tensor.to(_wide(kernel)) for tensor in (gradient, x, kernel)]
    _, found, _ = torch.ops.aten.convolution_backward(*wide, None, *options, [False, True, False])
    result: torch.Tensor = found.to(kernel.dtype)
    return result


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
