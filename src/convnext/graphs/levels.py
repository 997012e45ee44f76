"""How linear layers are rounded to eight bits, and how good rounding is found: NumPy alone.

- A layer's inputs become whole numbers in 0..255. What becomes 0 goes, through the kernel, into the
  bias, so that no zero point is left for the arithmetic.
- Every input channel has a step of its own, which goes into the kernel. How far the steps may
  differ (`BALANCES`) is found for each layer: inputs are rounded better for it and the kernel
  worse.
- A kernel has a step for each output channel, such that the products of any two neighbouring inputs
  fit into 16 bits together. Processors without VNNI add them there, and cut off what does not fit.
- What rounding shifts an output by on average is taken back in the bias.

A calibration is small: two numbers for each input channel and one for each output channel. The
rounded kernels follow from it and the weights. It knows no runtime.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError, WeightsFileError
from convnext.graphs.agreement import Agreement
from convnext.graphs.fold import Linear
from convnext.weights.files import LazyTensor, WeightsFile, open_weights, write_weights

__all__ = [
    "HIGHEST_INPUT",
    "Calibration",
    "Levels",
    "Seen",
    "check_name",
    "find_levels",
    "names_calibration",
    "seen_in_all",
]

Array = NDArray[np.float32]

HIGHEST_INPUT = 255
HIGHEST_KERNEL = 127
BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Powers of a channel's own range in its step: 0 gives all channels one step, 1 each its own."""

HEADROOM = 0.5
FORMAT = "convnext calibration, version 2"
SUFFIX = ".safetensors"
DAMAGES = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading a calibration raises that is not as it was written."""


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
        scaled = kernel * self.step[:, None]
        steps = np.maximum(np.abs(scaled).max(axis=0), _greatest_pair(scaled)) / HIGHEST_KERNEL
        steps[steps == 0] = 1
        return np.rint(scaled / steps).astype(np.int8), steps

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


def _greatest_pair(kernel: Array) -> Array:
    """The greatest sum `(out,)` of two neighbouring inputs' weights of one sign.

    Where it becomes 127, rounding makes it 128 at most, and 128 * 255 fits into 16 bits.
    """
    pairs = np.pad(kernel, ((0, len(kernel) % 2), (0, 0))).reshape(-1, 2, kernel.shape[1])
    sums = [np.maximum(sign * pairs, 0).sum(axis=1).max(axis=0) for sign in (1, -1)]
    greatest: Array = np.maximum(*sums)
    return greatest


def find_levels(seen: Seen, linear: Linear) -> Levels:
    """The rounding under which a layer's outputs stay closest to what they were."""
    exact = seen.rows @ linear.kernel
    power = float(np.square(exact - exact.mean(axis=0)).mean())
    ranges = np.maximum(seen.high - seen.low, np.float32(1e-12))
    best: Levels | None = None
    for balance in BALANCES:
        widths = ranges**balance * ranges.max() ** (1 - balance)
        tried = Levels(
            seen.low,
            (widths / HIGHEST_INPUT).astype(np.float32),
            np.zeros_like(linear.bias),
            checksum(linear.kernel),
            0,
        )
        kernel, steps = tried.round_kernel(linear.kernel)
        rounded = tried.round_inputs(seen.rows) @ kernel.astype(np.float32) * steps
        error = exact - (rounded + seen.low @ linear.kernel)
        correction = error.mean(axis=0)
        noise = float(np.square(error - correction).mean())
        decibels = 10 * np.log10(power / noise) if noise and power else np.inf
        if best is None or decibels > best.decibels:
            best = Levels(tried.low, tried.step, correction, tried.kernel, float(decibels))
    assert best is not None
    return best


def checksum(kernel: Array) -> int:
    """A number that another kernel hardly has."""
    return zlib.crc32(np.ascontiguousarray(kernel).data)


def names_calibration(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether what a caller gave is the name of a calibration's file, and not pictures."""
    return isinstance(given, str | os.PathLike) and str(given).lower().endswith(SUFFIX)


def check_name(path: str | Path) -> None:
    """Refuse a file's name that no reader would know for a calibration's.

    Raises:
        ArgumentError: It ends in something else.
    """
    if not names_calibration(path):
        raise ArgumentError(
            f"{path} would be taken for pictures. Name a file that ends in {SUFFIX}."
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """How every linear layer of one set of weights is rounded.

    Attributes:
        layers: By a layer's name, `stage_0_block_1.pwconv1`.
        pictures: How many it was found with.
        agreement: Of the rounded network's answers with those in float32, on these pictures.
    """

    layers: Mapping[str, Levels]
    pictures: int
    agreement: Agreement | None = None

    def levels(self, name: str, linear: Linear) -> Levels:
        """Those of a layer.

        Raises:
            ArgumentError: They were found for other weights.
        """
        levels = self.layers.get(name)
        if levels is None or not levels.fit(linear):
            raise ArgumentError(
                f"The calibration is of other weights: {name} differs. Calibrate with these "
                "weights: convnext quantize."
            )
        return levels

    def save(self, path: str | Path) -> None:
        """Write it to a .safetensors file.

        Raises:
            ArgumentError: Its name ends in something else.
            WeightsError: The file cannot be written.
        """
        check_name(path)
        tensors, layers = {}, {}
        for name, levels in self.layers.items():
            for part in ("low", "step", "correction"):
                tensors[f"{name}.{part}"] = LazyTensor.from_array(getattr(levels, part))
            layers[name] = {"kernel": levels.kernel, "decibels": levels.decibels}
        facts = {
            "layers": layers,
            "pictures": self.pictures,
            "agreement": asdict(self.agreement) if self.agreement else None,
        }
        about = {"format": FORMAT, "calibration": json.dumps(facts)}
        write_weights(path, tensors, about, format="safetensors")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            WeightsError: The file is missing, damaged or something else.
        """
        with open_weights(path) as file:
            if file.metadata.get("format") != FORMAT:
                raise WeightsFileError(
                    f"{path} holds no calibration. `convnext quantize` makes one, from a model "
                    "and some pictures."
                )
            try:
                facts = json.loads(file.metadata["calibration"])
                layers = {
                    name: _levels(file, name, layer) for name, layer in facts["layers"].items()
                }
                agreed = Agreement(**facts["agreement"]) if facts["agreement"] else None
                return cls(layers, int(facts["pictures"]), agreed)
            except DAMAGES as error:
                raise WeightsFileError(f"{path}: the calibration is damaged ({error}).") from error


def _levels(file: WeightsFile, name: str, facts: Mapping[str, Any]) -> Levels:
    low, step, correction = (
        file.tensors[f"{name}.{part}"].read().copy() for part in ("low", "step", "correction")
    )
    for array in (low, step, correction):
        if array.ndim != 1 or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name} has something else than rows of finite float32")
    if low.shape != step.shape or (step <= 0).any():
        raise ValueError(f"{name} has not one positive step for each input")
    return Levels(low, step, correction, int(facts["kernel"]), float(facts["decibels"]))
