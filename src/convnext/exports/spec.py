"""The specification of an export, and the interface of the modules that write formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convnext.exports.formats import FORMATS, Format
from convnext.graphs.network import Network
from convnext.int8.calibration import Calibration

__all__ = ["INPUT", "Array", "ExportSpec", "Predict", "Writer"]

Array = NDArray[Any]
Predict = Callable[[Array], Array]
"""Runs an exported file: from a batch to its output, in float32."""

INPUT = "images"


@dataclass(frozen=True, eq=False)
class ExportSpec:
    """The network and all options of an export.

    Attributes:
        network: Weights, preprocessing and geometry.
        format: Name of the format.
        output: One of `convnext.graphs.network.OUTPUTS`.
        precision: Precision of the file.
        batch: Batch size; None for any.
        pixels: Whether the file takes pixels in 0..255 and normalises them itself.
        softmax: Whether the file turns logits into probabilities.
        drop_path_rate: Of the last block, in training.
        calibration: For int8: a calibration, or pictures `(n, height, width, channels)`: pixels, or
            normalised if float32.
    """

    network: Network
    format: str
    output: str = "logits"
    precision: str = "float32"
    batch: int | None = None
    pixels: bool = False
    softmax: bool = False
    drop_path_rate: float = 0.0
    calibration: Array | Calibration | None = None

    @property
    def kind(self) -> Format:
        """The format."""
        return FORMATS[self.format]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the file's input."""
        return np.dtype(self.kind.pixels if self.pixels else "float32")

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Shape of the file's input."""
        height, width = self.network.sides or (None, None)
        return self.batch, height, width, self.network.channels


class Writer(Protocol):
    """Interface of the modules that write a format; `RUNTIME` names its runtime."""

    RUNTIME: str

    def write(self, spec: ExportSpec, target: Path) -> None:
        """Write the target, and any files beside it with the same stem."""

    def opened(self, spec: ExportSpec, target: Path) -> Predict:
        """Load the target in its runtime."""
