"""The engine: what every runtime is reduced to.

To bring a runtime of your own, derive from `Engine`, say what it takes and gives, and implement
`run`. Batches are checked before `run` sees them.

    class Zeros(Engine):
        def __init__(self):
            self.input = InputSpec((224, 224, 3), "uint8")
            self.outputs = ("logits",)

        def run(self, batch):
            return (np.zeros((len(batch), 1000), np.float32),)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import SMALLEST_PUBLISHED_SIDE
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.graphs.network import Network
from convnext.int8.calibration import Calibration

__all__ = ["PRECISIONS", "Engine", "EngineOptions", "InputSpec", "Precision"]

Array = NDArray[Any]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class InputSpec:
    """The batches an engine takes.

    Attributes:
        shape: Height, width and channels; None for a side that may vary.
        dtype: `"uint8"` for pixels as `convnext.images.transform.pixels` gives them, `"float32"`
            for numbers that are normalised already.
        smallest: Pixels that a side must have, where it may vary.
    """

    shape: tuple[int | None, int | None, int]
    dtype: Literal["uint8", "float32"] = "uint8"
    smallest: int = 1

    @classmethod
    def of(cls, network: Network, dtype: Literal["uint8", "float32"]) -> InputSpec:
        """What a network takes.

        Raises:
            ArgumentError: Pixels of other channels than red, green and blue.
            UnstatedError: Pixels, and it is not known how they are normalised.
        """
        if dtype == "uint8" and not network.recipe_known:
            network.weights.check_recipe()
        if dtype == "uint8" and network.channels != 3:
            raise ArgumentError(
                f"{network.weights.source} takes {network.channels} channels, and there is no "
                "recipe for their pixels. Normalise them as in training and give float32 "
                '(input="float32").'
            )
        if network.sides:
            return cls((*network.sides, network.channels), dtype)
        return cls((None, None, network.channels), dtype, SMALLEST_PUBLISHED_SIDE)

    def check(self, batch: Any) -> None:
        """Refuse what is no such batch.

        Raises:
            ArgumentTypeError: It is no array, or of another dtype.
            ArgumentError: It has another shape.
        """
        if not isinstance(batch, np.ndarray):
            raise ArgumentTypeError(
                f"A batch is a NumPy array of pictures, not {type(batch).__name__}."
            )
        if batch.dtype != self.dtype:
            wanted = {
                "uint8": "pixels in 0..255 as uint8: it normalises them itself",
                "float32": "normalised pictures as float32: see convnext.images.transform",
            }[self.dtype]
            raise ArgumentTypeError(f"Got a batch of {batch.dtype}; this engine takes {wanted}.")
        fits = batch.ndim == 4 and all(
            wanted in (None, side) for wanted, side in zip(self.shape, batch.shape[1:], strict=True)
        )
        if not fits:
            sides = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise ArgumentError(
                f"Got a batch of shape {batch.shape}; this engine takes (pictures, {sides})."
            )
        if min(batch.shape[1:3]) < self.smallest and None in self.shape:
            raise ArgumentError(
                f"Got a batch of shape {batch.shape}; each side must have {self.smallest} pixels "
                "or more. Enlarge the pictures, or open the engine for their size."
            )


class Engine(ABC):
    """Runs a network. Safe to call from several threads at once.

    Attributes:
        input: What batches look like.
        outputs: Names of what it gives for each batch, in order.
        name: The runtime, such as `"openvino"`.
        precision: What it computes in, such as `"bfloat16"`.
    """

    input: InputSpec
    outputs: tuple[str, ...]
    name: str = "custom"
    precision: str = "float32"

    @abstractmethod
    def run(self, batch: Array) -> Sequence[Array]:
        """Each output for a batch of one picture or more that has been checked, as float32."""

    def predict(self, batch: Array) -> Array:
        """The first output for a batch of pictures; a batch of none gives a result of none."""
        return self.predict_all(batch)[self.outputs[0]]

    def predict_all(self, batch: Array) -> dict[str, Array]:
        """Every output by its name."""
        self.input.check(batch)
        if len(batch):
            results = self.run(np.ascontiguousarray(batch))
        else:  # no runtime agrees with another on what that means
            height, width, channels = self.input.shape
            side = max(self.input.smallest, SMALLEST_PUBLISHED_SIDE)
            one = np.zeros((1, height or side, width or side, channels), self.input.dtype)
            results = [result[:0] for result in self.run(one)]
        return dict(zip(self.outputs, results, strict=True))

    def __repr__(self) -> str:
        return f"<{self.name} engine, {self.precision}, {', '.join(self.outputs)}>"


@dataclass(frozen=True)
class EngineOptions:
    """How a network is to be run.

    Attributes:
        outputs: Which of `convnext.graphs.network.OUTPUTS`.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        precision: What to compute in; `"auto"` is the fastest that keeps the answers.
        device: The runtime's name of a device, or `"auto"`.
        threads: How many; None for as many processors as this process may use.
        streams: How many pieces of a batch at once; None for whatever suits one caller best.
        calibration: How `"int8"` rounds; nothing else needs it.

    Raises:
        ArgumentError: One of them is unknown, or no such number.
    """

    outputs: tuple[str, ...] = ("logits",)
    input: Literal["uint8", "float32"] = "uint8"
    precision: Precision = "auto"
    device: str = "auto"
    threads: int | None = None
    streams: int | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise ArgumentTypeError(
                f"device is the runtime's name of a device, or 'auto'; got {self.device!r}."
            )
        for name in ("threads", "streams"):
            count = getattr(self, name)
            if count is not None and (not isinstance(count, int) or count < 1):
                raise ArgumentError(f"{name} must be 1 or more, or None; got {count!r}.")
        if self.input not in ("uint8", "float32"):
            raise UnknownNameError("input", self.input, ("uint8", "float32"))
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
