"""Updates of many parameters together on PyTorch, in a few of its calls.

Keras computes clipping, AdamW and moving averages in several passes over memory, some of them with
calls for each parameter: more time than the gradients take where pictures are small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.optim.adamw import adamw

__all__ = ["adamw_step", "clipped", "clipped_together", "move_averages", "nesterov_step"]

Tensors = Sequence[torch.Tensor]

FUSED_DEVICES = ("cpu", "cuda", "mps")


@torch.no_grad()  # type: ignore[untyped-decorator]
def adamw_step(  # noqa: PLR0913
    values: Tensors,
    gradients: Tensors,
    means: Tensors,
    squares: Tensors,
    largest: Tensors = (),
    *,
    done: float = math.inf,
    rate: float,
    betas: tuple[float, float],
    decay: float,
    epsilon: float,
) -> None:
    """Update parameters and their moments in place, by PyTorch's fused kernel where it has one.

    Args:
        values: The parameters.
        gradients: Of each.
        means: Mean of each parameter's gradients.
        squares: Mean of their squares.
        largest: Largest mean of squares so far, for AMSGrad; empty without it.
        done: Number of updates before; infinite for no bias correction.
        rate: The learning rate.
        betas: Decay of the means and of the squares.
        decay: Weight decay, multiplied by the learning rate.
        epsilon: Added to the root of the squares.
    """
    if not values:
        return
    steps = torch.full((len(values),), done, device=values[0].device).unbind()
    # The kernel reads memory in order: a gradient has to have its parameter's memory format.
    gradients = [g.to(v.dtype).contiguous() for g, v in zip(gradients, values, strict=True)]
    adamw(
        list(values),
        gradients,
        list(means),
        list(squares),
        list(largest),
        list(steps),
        fused=values[0].device.type in FUSED_DEVICES,
        amsgrad=bool(largest),
        beta1=betas[0],
        beta2=betas[1],
        lr=rate,
        weight_decay=decay,
        eps=epsilon,
        maximize=False,
    )


@torch.no_grad()  # type: ignore[untyped-decorator]
def clipped(gradients: Tensors, norm: float) -> list[torch.Tensor]:
    """Scale down each gradient whose norm is larger."""
    norms = torch._foreach_norm(list(gradients))
    factors = [norm / found.clamp_min(norm) for found in norms]
    return list(torch._foreach_mul(list(gradients), factors))


@torch.no_grad()  # type: ignore[untyped-decorator]
def clipped_together(gradients: Tensors, norm: float) -> list[torch.Tensor]:
    """Scale down all gradients by one factor if their common norm is larger."""
    found = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    # Not finite if the norm is not, as in Keras, so that a failed step does not go unnoticed.
    factor = norm / found.clamp_min(norm) + (found - found)
    return list(torch._foreach_mul(list(gradients), factor))


@torch.no_grad()  # type: ignore[untyped-decorator]
def move_averages(averages: Tensors, values: Tensors, momentum: float) -> None:
    """Move averages towards values, in place."""
    torch._foreach_lerp_(list(averages), list(values), 1 - momentum)


@torch.no_grad()  # type: ignore[untyped-decorator]
def nesterov_step(gradients: Tensors, means: Tensors, momentum: float) -> list[torch.Tensor]:
    """Move means towards gradients, in place, and gradients towards these means."""
    if not means:
        return []
    gradients = [g.to(m.dtype).contiguous() for g, m in zip(gradients, means, strict=True)]
    torch._foreach_lerp_(list(means), gradients, 1 - momentum)
    return list(torch._foreach_lerp(gradients, list(means), momentum))
