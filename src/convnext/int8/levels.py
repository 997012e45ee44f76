"""The quantisation levels of a linear layer in OpenVINO, and how the best are found.

Inputs become integers in 0..255, with a step and a zero level for each input channel, fixed by
calibration. The kernel times the zero levels goes into the bias, so that the integer arithmetic
needs no zero points.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convnext.graphs.fold import Linear
from convnext.int8.rounding import HIGHEST_INPUT, NARROWEST, Array, best_balance, round_kernel

__all__ = ["InputStatistics", "Levels", "find_levels", "merged_statistics"]

HEADROOM = 0.5


@dataclass(frozen=True, eq=False)
class Levels:
    """The quantisation levels of one linear layer.

    Attributes:
        low: `(in,)`: the input that becomes 0.
        step: `(in,)`: the difference between two levels.
        correction: `(out,)`: added to the bias.
        kernel: Checksum of the kernel they were computed for.
        decibels: Signal-to-noise ratio of the layer's rounded output.
    """

    low: Array
    step: Array
    correction: Array
    kernel: int
    decibels: float

    def fit(self, linear: Linear) -> bool:
        """Whether the levels were computed for this layer's kernel."""
        sizes = (*self.step.shape, *self.correction.shape)
        return sizes == linear.kernel.shape and self.kernel == checksum(linear.kernel)

    def round_inputs(self, inputs: Array) -> Array:
        """Quantise inputs `(positions, in)` to integers in 0..255."""
        whole: Array = np.clip(np.rint((inputs - self.low) / self.step), 0, HIGHEST_INPUT)
        return whole

    def round_kernel(self, kernel: Array) -> tuple[NDArray[np.int8], Array]:
        """Quantise a kernel `(in, out)`; its integers and the steps `(out,)` of its outputs."""
        return round_kernel(kernel * self.step[:, None], in_pairs=True)

    def bias(self, linear: Linear) -> Array:
        """The bias `(out,)` for quantised inputs."""
        return linear.bias + self.low @ linear.kernel + self.correction


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """Ranges and samples of a layer's inputs, from one picture or more.

    Attributes:
        low: `(in,)`: the least value to represent in each input channel.
        high: `(in,)`: the greatest.
        samples: `(positions, in)`: inputs at some positions.
    """

    low: Array
    high: Array
    samples: Array


def merged_statistics(pictures: Sequence[InputStatistics]) -> InputStatistics:
    """Merge the statistics of several pictures, with headroom for others.

    A channel with rare large values will exceed its calibrated range in other pictures, and
    clipping costs far more than wider steps. So the range is extended beyond the maximum by half
    the distance from the upper quartile of the pictures' maxima to their maximum; likewise below.
    """
    lows = np.stack([picture.low for picture in pictures])
    highs = np.stack([picture.high for picture in pictures])
    low, high = lows.min(axis=0), highs.max(axis=0)
    below = HEADROOM * (np.quantile(lows, 0.25, axis=0) - low)
    above = HEADROOM * (high - np.quantile(highs, 0.75, axis=0))
    samples = np.concatenate([picture.samples for picture in pictures])
    return InputStatistics(
        (low - below).astype(np.float32), (high + above).astype(np.float32), samples
    )


def find_levels(inputs: InputStatistics, linear: Linear) -> Levels:
    """Find the levels that change a layer's outputs least."""
    exact = inputs.samples @ linear.kernel
    power = float(np.square(exact - exact.mean(axis=0)).mean())
    ranges = np.maximum(inputs.high - inputs.low, NARROWEST)
    known = checksum(linear.kernel)

    def levels(balance: float) -> Levels:
        widths = ranges**balance * ranges.max() ** (1 - balance)
        step = (widths / HIGHEST_INPUT).astype(np.float32)
        return Levels(inputs.low, step, np.zeros_like(linear.bias), known, 0)

    def rounded(balance: float) -> Array:
        tried = levels(balance)
        kernel, steps = tried.round_kernel(linear.kernel)
        products: Array = tried.round_inputs(inputs.samples) @ kernel.astype(np.float32) * steps
        return products + inputs.low @ linear.kernel

    best = best_balance(exact, rounded)
    decibels = 10 * np.log10(power / best.noise) if best.noise and power else np.inf
    return replace(levels(best.balance), correction=best.correction, decibels=float(decibels))


def checksum(kernel: Array) -> int:
    """CRC-32 of a kernel."""
    return zlib.crc32(np.ascontiguousarray(kernel).data)
