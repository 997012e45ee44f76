"""The inverted bottleneck of a block for training with PyTorch on a CPU, with its own gradient.

Autograd keeps the hidden layer, the widest tensor of a network, before and after GELU, after GRN,
and the output before layer scale: two thirds of a training step's memory. This gradient keeps the
hidden layer before GELU alone and computes the others again, some pictures at a time, so that they
stay in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu

from convnext.nn.torch_grn import Statistics, grn_gradients, grn_statistics, normalised

__all__ = ["SMALLEST", "Bottleneck", "bottleneck"]

SMALLEST = 2**20  # elements of a hidden layer, 4 MiB, from which keeping less of it pays
PRODUCTS = 8  # a part's elements, beside those of the kernel's gradient that it is added to


class Bottleneck(NamedTuple):
    """Parameters of a bottleneck.

    Attributes:
        kernel_1: (channels, hidden).
        bias_1: (hidden,).
        kernel_2: (hidden, channels).
        bias_2: (channels,).
        gamma: GRN's factors, (hidden,); None without GRN.
        beta: GRN's shifts, (hidden,); None without GRN.
        scale: Layer scale, (channels,); None without it.
    """

    kernel_1: torch.Tensor
    bias_1: torch.Tensor
    kernel_2: torch.Tensor
    bias_2: torch.Tensor
    gamma: torch.Tensor | None = None
    beta: torch.Tensor | None = None
    scale: torch.Tensor | None = None


def bottleneck(
    x: torch.Tensor, parameters: Bottleneck, epsilon: float, smallest: float
) -> torch.Tensor:
    """Linear layer, exact GELU, GRN if any, linear layer, layer scale if any.

    Args:
        x: (batch, rows, columns, channels).
        parameters: Of the layers.
        epsilon: GRN's, see `convnext.nn.torch_grn`.
        smallest: GRN's.
    """
    kernel, scale = parameters.kernel_2, parameters.scale
    # Layer scale costs a few passes over the kernel inside, and over the positions outside.
    inside = scale is None or x.numel() > kernel.numel()
    layers = parameters if inside else parameters._replace(scale=None)
    result: torch.Tensor = _OwnGradient.apply(x, epsilon, smallest, *layers)
    return result if inside else result * scale


class _OwnGradient(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, epsilon: float, smallest: float, *given: torch.Tensor | None
    ) -> torch.Tensor:
        layers = Bottleneck(*given)
        batch, width = x.shape[0], x.shape[-1]
        rows = x.reshape(batch, -1, width)
        bias, kernel = _scaled(layers.bias_2, layers), _scaled(layers.kernel_2, layers)
        hidden = x.new_empty(*rows.shape[:2], layers.kernel_1.shape[1])
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        found = []
        for part in _parts(hidden, kernel):
            flat = hidden[part].flatten(0, 1)
            torch.addmm(layers.bias_1, rows[part].flatten(0, 1), layers.kernel_1, out=flat)
            active = gelu(hidden[part])
            if layers.gamma is not None:
                maps = active[:, :, None]
                found.append(grn_statistics(maps, epsilon, smallest))
                active = normalised(maps, layers.gamma, layers.beta, found[-1])
            torch.addmm(bias, active.view_as(flat), kernel, out=out[part].flatten(0, 1))
        statistics = [torch.cat(parts) for parts in zip(*found, strict=True)]
        ctx.save_for_backward(rows, hidden, *layers, *statistics)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, hidden, *saved = ctx.saved_tensors
        count = len(Bottleneck._fields)
        layers, statistics = Bottleneck(*saved[:count]), saved[count:]
        of_x = torch.empty_like(rows, memory_format=torch.contiguous_format)
        gradient = gradients[0].reshape(rows.shape)
        kernel = _scaled(layers.kernel_2, layers)
        kernel_1 = bias_1 = kernel_2 = gamma = beta = scale = None
        for part in _parts(hidden, kernel):
            before, given = hidden[part].flatten(0, 1), gradient[part].flatten(0, 1)
            after = active = gelu(before)
            maps = active.view_as(hidden[part])[:, :, None]
            if layers.gamma is not None:
                of_part = Statistics(*(whole[part] for whole in statistics))
                after = normalised(maps, layers.gamma, layers.beta, of_part).view_as(before)
            kernel_2 = _plus_product(kernel_2, after.t(), given)
            wide = torch.mm(given, kernel.t(), out=after)
            if layers.gamma is not None:
                wide, more_gamma, more_beta = grn_gradients(
                    wide.view_as(maps), maps, layers.gamma, of_part
                )
                wide = wide.view_as(before)
                gamma, beta = _plus(gamma, more_gamma), _plus(beta, more_beta)
            torch.ops.aten.gelu_backward.grad_input(wide, before, grad_input=wide)
            bias_1 = _plus(bias_1, wide.sum(0))
            kernel_1 = _plus_product(kernel_1, rows[part].flatten(0, 1).t(), wide)
            torch.mm(wide, layers.kernel_1.t(), out=of_x[part].flatten(0, 1))
        # So far of the second layer's product with layer scale, from which the scale's follows.
        bias_2 = gradient.sum((0, 1))
        if layers.scale is not None:
            scale = (kernel_2 * layers.kernel_2).sum(0) + bias_2 * layers.bias_2
        bias_2, kernel_2 = _scaled(bias_2, layers), _scaled(kernel_2, layers)
        found = Bottleneck(kernel_1, bias_1, kernel_2, bias_2, gamma, beta, scale)
        return of_x.view(gradients[0].shape), None, None, *found


def _parts(hidden: torch.Tensor, kernel: torch.Tensor) -> list[slice]:
    """Slices of pictures: few enough for the cache, and enough beside the kernel's gradient."""
    batch, most = len(hidden), max(SMALLEST, PRODUCTS * kernel.numel())
    if hidden.dtype != torch.float32:  # sums over parts would be rounded too often
        return [slice(batch)]
    count = min(batch, max(1, round(hidden.numel() / most)))
    step = -(-batch // count)
    return [slice(start, start + step) for start in range(0, batch, step)]


def _plus(total: torch.Tensor | None, more: torch.Tensor) -> torch.Tensor:
    return more if total is None else total.add_(more)


def _plus_product(total: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b if total is None else total.addmm_(a, b)


def _scaled(tensor: Any, layers: Bottleneck) -> Any:
    """Multiply by layer scale, if there is one."""
    return tensor if layers.scale is None else tensor * layers.scale
