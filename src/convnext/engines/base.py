"""The base class of engines, their input and their options.

For another runtime, derive from `Engine`, set `input` and `outputs`, and implement `run`, which is
called with checked batches.

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
        dtype: `"uint8"` for pixels as from `convnext.images.transform.pixels`, `"float32"` for
            normalised pictures.
        smallest: Smallest side in pixels, where it may vary.
    """

    shape: tuple[int | None, int | None, int]
    dtype: Literal["uint8", "float32"] = "uint8"
    smallest: int = 1

    @classmethod
    def of(cls, network: Network, dtype: Literal["uint8", "float32"]) -> InputSpec:
        """Create the specification of a network's input.

        Raises:
            ArgumentError: The dtype is uint8, and the pictures are not red, green and blue.
            UnstatedError: The dtype is uint8, and the normalisation of pixels is unknown.
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
        """Check that an array is a batch as specified.

        Raises:
            ArgumentTypeError: It is no array, or has another dtype.
            ArgumentError: It has another shape.
        """
        if not isinstance(batch, np.ndarray):
            raise ArgumentTypeError(
                f"A batch is a NumPy array of pictures, not {type(batch).__name__}."
            )
        if batch.dtype != self.dtype:
            wanted = {
                "uint8": "pixels in 0..255 as uint8, which it normalises itself",
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
    """Runs a network; thread-safe.

    Attributes:
        input: The batches it takes.
        outputs: Names of its outputs, in order.
        name: The runtime, such as `"openvino"`.
        precision: The precision of the computation, such as `"bfloat16"`.
    """

    input: InputSpec
    outputs: tuple[str, ...]
    name: str = "custom"
    precision: str = "float32"

    @abstractmethod
    def run(self, batch: Array) -> Sequence[Array]:
        """Compute each output, in float32, for a checked batch of at least one picture."""

    def predict(self, batch: Array) -> Array:
        """Compute the first output for a batch of any number of pictures, including none."""
        return self.predict_all(batch)[self.outputs[0]]

    def predict_all(self, batch: Array) -> dict[str, Array]:
        """Compute all outputs, by name."""
        self.input.check(batch)
        if len(batch):
            results = self.run(np.ascontiguousarray(batch))
        else:  # runtimes differ for an empty batch
            height, width, channels = self.input.shape
            side = max(self.input.smallest, SMALLEST_PUBLISHED_SIDE)
            one = np.zeros((1, height or side, width or side, channels), self.input.dtype)
            results = [result[:0] for result in self.run(one)]
        return dict(zip(self.outputs, results, strict=True))

    def __repr__(self) -> str:
        return f"<{self.name} engine, {self.precision}, {', '.join(self.outputs)}>"


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        outputs: Some of `convnext.graphs.network.OUTPUTS`.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        precision: Of the computation; `"auto"` is the fastest that keeps the predicted classes.
        device: The runtime's name of a device, or `"auto"`.
        threads: Number of threads; None for the number of processors this process may use.
        streams: Pieces of a batch computed at once; None for the fastest for one caller.
        calibration: The calibration of `"int8"`.

    Raises:
        ArgumentError: An option is invalid.
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
                f"device must be the runtime's name of a device, or 'auto'; got {self.device!r}."
            )
        for name in ("threads", "streams"):
            count = getattr(self, name)
            if count is not None and (not isinstance(count, int) or count < 1):
                raise ArgumentError(f"{name} must be 1 or more, or None; got {count!r}.")
        if self.input not in ("uint8", "float32"):
            raise UnknownNameError("input", self.input, ("uint8", "float32"))
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)

    def required_calibration(self) -> Calibration:
        """The calibration.

        Raises:
            ArgumentError: There is none.
        """
        if self.calibration is None:
            raise ArgumentError(
                "int8 needs a calibration. Set calibration= to a folder of pictures such as the "
                "model will see, or to the file of `convnext quantize PICTURES --model MODEL`."
            )
        return self.calibration
