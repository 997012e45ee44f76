"""How OpenVINO rounds a linear layer, and how good rounding is found.

- A layer's inputs become whole numbers in 0..255. What becomes 0 goes, through the kernel, into the
  bias, so that no zero point is left for the arithmetic.
- Every input channel has a step of its own, fixed before any picture comes.

It knows no runtime: what OpenVINO is to do with it is in `openvino`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convnext.graphs.fold import Linear
from convnext.int8.rounding import HIGHEST_INPUT, NARROWEST, Array, best_balance, round_kernel

__all__ = ["Levels", "Seen", "find_levels", "seen_in_all"]

HEADROOM = 0.5


@dataclass(frozen=True, eq=False)
class Levels:
    """How one linear layer is rounded.

    Attributes:
        low: `(in,)`: the input that becomes 0.
        step: `(in,)`: what one more is worth.
        correction: `(out,)`: added to the bias.
        kernel: Checksum of the kernel they were found for.
        decibels: How much stronger the layer's output is than what rounding does to it.
    """

    low: Array
    step: Array
    correction: Array
    kernel: int
    decibels: float

    def fit(self, linear: Linear) -> bool:
        """Whether they were found for this layer."""
        sizes = (*self.step.shape, *self.correction.shape)
        return sizes == linear.kernel.shape and self.kernel == checksum(linear.kernel)

    def round_inputs(self, inputs: Array) -> Array:
        """What inputs `(places, in)` become: whole numbers in 0..255."""
        whole: Array = np.clip(np.rint((inputs - self.low) / self.step), 0, HIGHEST_INPUT)
        return whole

    def round_kernel(self, kernel: Array) -> tuple[NDArray[np.int8], Array]:
        """What a kernel `(in, out)` becomes, and the step `(out,)` of each output channel."""
        return round_kernel(kernel * self.step[:, None], in_pairs=True)

    def bias(self, linear: Linear) -> Array:
        """The bias `(out,)` that goes with rounded inputs."""
        return linear.bias + self.low @ linear.kernel + self.correction


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a layer's inputs, in one picture or more.

    Attributes:
        low: `(in,)`: the least that an input channel is to be able to hold.
        high: `(in,)`: the greatest.
        rows: `(places, in)`: some of the inputs as they were.
    """

    low: Array
    high: Array
    rows: Array


def seen_in_all(pictures: Sequence[Seen]) -> Seen:
    """What was seen in several pictures, with room for others.

    A channel that now and then is far greater than usual will one day be greater than in any
    picture seen, and cutting that off costs far more than wider steps. So its range goes on beyond
    the greatest for half as far as from there to the upper quartile of what the pictures had.
    """
    lows = np.stack([picture.low for picture in pictures])
    highs = np.stack([picture.high for picture in pictures])
    low, high = lows.min(axis=0), highs.max(axis=0)
    below = HEADROOM * (np.quantile(lows, 0.25, axis=0) - low)
    above = HEADROOM * (high - np.quantile(highs, 0.75, axis=0))
    rows = np.concatenate([picture.rows for picture in pictures])
    return Seen((low - below).astype(np.float32), (high + above).astype(np.float32), rows)


def find_levels(seen: Seen, linear: Linear) -> Levels:
    """The rounding under which a layer's outputs stay closest to what they were."""
    exact = seen.rows @ linear.kernel
    power = float(np.square(exact - exact.mean(axis=0)).mean())
    ranges = np.maximum(seen.high - seen.low, NARROWEST)
    known = checksum(linear.kernel)

    def levels(balance: float) -> Levels:
        widths = ranges**balance * ranges.max() ** (1 - balance)
        step = (widths / HIGHEST_INPUT).astype(np.float32)
        return Levels(seen.low, step, np.zeros_like(linear.bias), known, 0)

    def rounded(balance: float) -> Array:
        tried = levels(balance)
        kernel, steps = tried.round_kernel(linear.kernel)
        products: Array = tried.round_inputs(seen.rows) @ kernel.astype(np.float32) * steps
        return products + seen.low @ linear.kernel

    best = best_balance(exact, rounded)
    decibels = 10 * np.log10(power / best.noise) if best.noise and power else np.inf
    return replace(levels(best.balance), correction=best.correction, decibels=float(decibels))


def checksum(kernel: Array) -> int:
    """A number that another kernel hardly has."""
    return zlib.crc32(np.ascontiguousarray(kernel).data)
