"""The int8 rounding common to all runtimes: which layers, how kernels, and the best balance.

The two linear layers of a block, nearly all of the arithmetic, are rounded; all other layers are
not. Nor is the first block, whose errors would reach all others: rounding it costs trained weights
5 dB of the first stage's output (docs/engines.md).

Each input channel has a step, which is multiplied into the kernel. The more the steps differ, the
better the inputs are rounded and the worse the kernel: the best balance is searched for each layer.
The mean shift of each output by rounding is corrected in the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BALANCES",
    "HIGHEST_INPUT",
    "NARROWEST",
    "Array",
    "Balanced",
    "best_balance",
    "chosen_positions",
    "is_rounded",
    "round_kernel",
]

Array = NDArray[np.float32]

HIGHEST_INPUT = 255
HIGHEST_KERNEL = 127
SAMPLES = 1024  # of a layer's inputs, over all pictures
NARROWEST = np.float32(1e-12)  # lower bound of a range or step, against division by 0
BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of a channel's range in its step: 0 gives all channels one step, 1 each its own."""


class Balanced(NamedTuple):
    """The best balance of a layer.

    Attributes:
        balance: One of `BALANCES`.
        correction: `(out,)`: added to the bias.
        noise: Mean square error of the outputs.
    """

    balance: float
    correction: Array
    noise: float


def is_rounded(name: str) -> bool:
    """Whether the linear layers of this block, or of this layer's block, are rounded.

    Those of the first block and of a segmentation head are not.
    """
    block = name.partition(".")[0]
    return block.startswith("stage_") and block != "stage_0_block_0"


def chosen_positions(pictures: int) -> Callable[[int], NDArray[np.int64]]:
    """A function that draws random positions to sample from a picture; the same in every run."""
    random = np.random.default_rng(0)
    each = -(-SAMPLES // pictures)
    return lambda positions: random.integers(positions, size=each)


def round_kernel(kernel: Array, *, in_pairs: bool) -> tuple[NDArray[np.int8], Array]:
    """Quantise a kernel `(in, out)`; returns it and the step `(out,)` of each output channel.

    Args:
        kernel: In float32.
        in_pairs: Whether the sum of the products of two neighbouring inputs must fit into 16 bits,
            as processors without VNNI saturate it there.
    """
    highest = np.abs(kernel).max(axis=0)
    if in_pairs:
        highest = np.maximum(highest, _greatest_pair(kernel))
    steps = highest / np.float32(HIGHEST_KERNEL)
    steps[steps == 0] = 1
    return np.rint(kernel / steps).astype(np.int8), steps


def _greatest_pair(kernel: Array) -> Array:
    """The greatest sum `(out,)` of two neighbouring inputs' weights of one sign.

    If it is scaled to 127, rounding makes it at most 128, and 128 * 255 fits into 16 bits.
    """
    pairs = np.pad(kernel, ((0, len(kernel) % 2), (0, 0))).reshape(-1, 2, kernel.shape[1])
    sums = [np.maximum(sign * pairs, 0).sum(axis=1).max(axis=0) for sign in (1, -1)]
    greatest: Array = np.maximum(*sums)
    return greatest


def best_balance(
    exact: Array, rounded: Callable[[float], Any], balances: Sequence[float] = BALANCES
) -> Balanced:
    """The balance that changes a layer's outputs least.

    Args:
        exact: The outputs `(samples, out)` without bias.
        rounded: Computes the rounded outputs for a balance.
        balances: The balances to try.
    """
    tried = []
    for balance in balances:
        error = exact - rounded(balance)
        correction = error.mean(axis=0)
        noise = float(np.square(error - correction).mean())
        tried.append(Balanced(balance, correction, noise))
    return min(tried, key=lambda each: each.noise)
