"""The depthwise convolution for PyTorch on a CPU, with a gradient that sums in float32.

Why it exists: in bfloat16, PyTorch's own gradient of a depthwise kernel takes three times as long
as in float32 (2.13, 7x7, 16 to 128 pictures), and adds up over all positions in few digits. The
forward pass and the gradient of the input are PyTorch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import conv2d

__all__ = ["depthwise_conv"]


def depthwise_conv(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Stride 1, padded so that the size stays.

    Args:
        x: (batch, channels, rows, columns), of any memory format.
        kernel: (channels, 1, side, side).
        bias: (channels,).
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.is_grad_enabled():
        result: torch.Tensor = _FloatGradient.apply(x, kernel, bias)
        return result
    return conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=kernel.shape[0])


class _FloatGradient(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        return conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=kernel.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, kernel = ctx.saved_tensors
        of_x, of_kernel, of_bias = ctx.needs_input_grad
        padding = kernel.shape[-1] // 2
        channels = kernel.shape[0]
        options = ([channels], [1, 1], [padding] * 2, [1, 1], False, [0, 0], channels)
        backward = torch.ops.aten.convolution_backward
        x_gradient = None
        if of_x:
            x_gradient = backward(gradient, x, kernel, *options, [True, False, False])[0]
        wide = (gradient.float(), x.float(), kernel.float())
        _, *of_parameters = backward(*wide, *options, [False, of_kernel, of_bias])
        return x_gradient, *of_parameters
