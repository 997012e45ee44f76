"""Global response normalisation for PyTorch, with its own gradient.

Autograd would keep and pass over the widest tensor of a block eight times; this gradient needs half
as many passes and keeps only the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["grn"]


def grn(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, epsilon: float, smallest: float
) -> torch.Tensor:
    """`gamma * (x * N) + beta + x`, with the norms in float32.

    Args:
        x: (batch, rows, columns, channels).
        gamma: (channels,).
        beta: (channels,).
        epsilon: Added to the mean norm.
        smallest: Minimum of the squared norms.
    """
    result: torch.Tensor = _WrittenOut.apply(x, gamma, beta, epsilon, smallest)
    return result


class _WrittenOut(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        epsilon: float,
        smallest: float,
    ) -> torch.Tensor:
        wide = x.float()
        squares = (wide * wide).sum((1, 2), keepdim=True)
        norm = squares.clamp_min(smallest).sqrt()
        mean = norm.mean(-1, keepdim=True) + epsilon
        scale = 1.0 + gamma.float() * (norm / mean)
        ctx.save_for_backward(x, gamma, norm, mean, squares > smallest)
        return torch.addcmul(beta, x, scale.to(x.dtype))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, gamma, norm, mean, above = ctx.saved_tensors
        relative = norm / mean
        scale = 1.0 + gamma.float() * relative
        wide = gradient * x  # the block's widest shape: this memory is reused below
        of_scale = wide.sum((1, 2), keepdim=True).float()
        of_gamma = (of_scale * relative).sum((0, 1, 2)).to(gamma.dtype)
        of_relative = of_scale * gamma.float()
        of_mean = (of_relative * relative).mean(-1, keepdim=True)
        of_norm = (of_relative - of_mean) / mean
        # d norm / d x = x / norm, and 0 where the minimum applies.
        direction = (of_norm / norm * above).to(x.dtype)
        of_x = torch.mul(gradient, scale.to(x.dtype), out=wide).addcmul_(x, direction)
        return of_x, of_gamma, gradient.sum((0, 1, 2)), None, None
