"""What every runtime's eight bits have in common: which layers, which kernels, which balance.

A block's two linear layers do nearly all the arithmetic, and they are what is rounded. The stem,
downsamplings, depthwise convolutions, norms, GRN, skip connections and the head keep the precision
of the rest, and so does the whole first block: what it gets wrong, every later one sees, and on
trained weights rounding it cost 5 dB of the first stage's output (docs/engines.md).

Inputs of a layer have a step for each channel, which goes into the kernel. How far the steps may
differ is found for each layer: inputs are rounded better for it and the kernel worse. What rounding
shifts an output by on average is taken back in the bias. It knows no runtime, and NumPy alone.
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
    "chosen_places",
    "is_rounded",
    "round_kernel",
]

Array = NDArray[np.float32]

HIGHEST_INPUT = 255
HIGHEST_KERNEL = 127
ROWS = 1024  # places, over all pictures, at which a layer's inputs are kept
NARROWEST = np.float32(1e-12)  # range or step: nothing is divided by 0
BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Powers of a channel's own range in its step: 0 gives all channels one step, 1 each its own."""


class Balanced(NamedTuple):
    """How far the steps of a layer's inputs differ, and what is left of the answers then.

    Attributes:
        balance: One of `BALANCES`.
        correction: `(out,)`: added to the bias.
        noise: Mean square of what rounding does to the outputs.
    """

    balance: float
    correction: Array
    noise: float


def is_rounded(name: str) -> bool:
    """Whether a block, or a layer of a block, is one that is rounded."""
    return name.partition(".")[0] != "stage_0_block_0"


def chosen_places(pictures: int) -> Callable[[int], NDArray[np.int64]]:
    """Which of so many places of a picture are kept: at random, and the same ones in every run."""
    random = np.random.default_rng(0)
    each = -(-ROWS // pictures)
    return lambda places: random.integers(places, size=each)


def round_kernel(kernel: Array, *, in_pairs: bool) -> tuple[NDArray[np.int8], Array]:
    """What a kernel `(in, out)` becomes, and the step `(out,)` of each output channel.

    Args:
        kernel: In float32.
        in_pairs: Whether the products of any two neighbouring inputs have to fit into 16 bits
            together: processors without VNNI add them there, and cut off what does not fit.
    """
    highest = np.abs(kernel).max(axis=0)
    if in_pairs:
        highest = np.maximum(highest, _greatest_pair(kernel))
    steps = highest / np.float32(HIGHEST_KERNEL)
    steps[steps == 0] = 1
    return np.rint(kernel / steps).astype(np.int8), steps


def _greatest_pair(kernel: Array) -> Array:
    """The greatest sum `(out,)` of two neighbouring inputs' weights of one sign.

    Where it becomes 127, rounding makes it 128 at most, and 128 * 255 fits into 16 bits.
    """
    pairs = np.pad(kernel, ((0, len(kernel) % 2), (0, 0))).reshape(-1, 2, kernel.shape[1])
    sums = [np.maximum(sign * pairs, 0).sum(axis=1).max(axis=0) for sign in (1, -1)]
    greatest: Array = np.maximum(*sums)
    return greatest


def best_balance(
    exact: Array, rounded: Callable[[float], Any], balances: Sequence[float] = BALANCES
) -> Balanced:
    """The balance under which a layer's outputs stay closest to what they were.

    Args:
        exact: Its outputs `(rows, out)` without their bias.
        rounded: From a balance to what rounding makes of them.
        balances: Those to try.
    """
    tried = []
    for balance in balances:
        error = exact - rounded(balance)
        correction = error.mean(axis=0)
        noise = float(np.square(error - correction).mean())
        tried.append(Balanced(balance, correction, noise))
    return min(tried, key=lambda each: each.noise)
