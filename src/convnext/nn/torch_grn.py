"""Global response normalisation for PyTorch, with its own gradient.

Autograd would keep and pass over the widest tensor of a block eight times; this gradient needs half
as many passes and keeps only the input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

__all__ = ["Statistics", "grn", "grn_gradients", "grn_statistics", "normalised"]


class Statistics(NamedTuple):
    """What the gradient needs beside the input, each of `(batch, 1, 1, channels)` or less.

    Attributes:
        norm: Norm of each channel over the positions of a picture.
        mean: Mean of the norms over channels, plus epsilon.
        above: Whether the squared norm is above its minimum.
    """

    norm: torch.Tensor
    mean: torch.Tensor
    above: torch.Tensor


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


def grn_statistics(x: torch.Tensor, epsilon: float, smallest: float) -> Statistics:
    """Compute the norms of an input."""
    wide = x.float()
    squares = (wide * wide).sum((1, 2), keepdim=True)
    norm = squares.clamp_min(smallest).sqrt()
    return Statistics(norm, norm.mean(-1, keepdim=True) + epsilon, squares > smallest)


def normalised(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, statistics: Statistics
) -> torch.Tensor:
    """Compute the result from the input and its norms."""
    return torch.addcmul(beta, x, _scale(gamma, statistics).to(x.dtype))


def grn_gradients(
    gradient: torch.Tensor, x: torch.Tensor, gamma: torch.Tensor, statistics: Statistics
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of x, gamma and beta from that of the result."""
    norm, mean, above = statistics
    relative = norm / mean
    wide = gradient * x  # the block's widest shape: this memory is reused below
    of_scale = wide.sum((1, 2), keepdim=True).float()
    of_gamma = (of_scale * relative).sum((0, 1, 2)).to(gamma.dtype)
    of_relative = of_scale * gamma.float()
    of_mean = (of_relative * relative).mean(-1, keepdim=True)
    of_norm = (of_relative - of_mean) / mean
    # d norm / d x = x / norm, and 0 where the minimum applies.
    direction = (of_norm / norm * above).to(x.dtype)
    scale = _scale(gamma, statistics).to(x.dtype)
    of_x = torch.mul(gradient, scale, out=wide).addcmul_(x, direction)
    return of_x, of_gamma, gradient.sum((0, 1, 2))


def _scale(gamma: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    return 1.0 + gamma.float() * (statistics.norm / statistics.mean)


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
        statistics = grn_statistics(x, epsilon, smallest)
        ctx.save_for_backward(x, gamma, *statistics)
        return normalised(x, gamma, beta, statistics)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gamma, *statistics = ctx.saved_tensors
        return *grn_gradients(gradients[0], x, gamma, Statistics(*statistics)), None, None
