"""What is to be exported, in every respect, once all questions are answered.

It can be described in JSON, so that a process of its own can do it. It knows the network and
nothing of formats' files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convnext.exports.formats import FORMATS, Format
from convnext.graphs.network import Network

__all__ = ["INPUT", "Answer", "Array", "Job", "Writer"]

Array = NDArray[Any]
Answer = Callable[[Array], Array]
"""From a batch of what the artefact takes to its output, as float32."""

INPUT = "images"


@dataclass(frozen=True, eq=False)
class Job:
    """One export.

    Attributes:
        network: Weights, recipe and geometry.
        format: Name of the format.
        output: One of `convnext.graphs.network.OUTPUTS`.
        precision: What the file is written in.
        batch: How many pictures at once; None for any number.
        pixels: Whether it takes pixels in 0..255 and normalises them itself.
        softmax: Whether logits become probabilities.
        drop_path_rate: Of the last block, when trained on.
        calibration: Pictures for eight bits, `(n, height, width, channels)`: pixels, or normalised
            already if they are float32.
    """

    network: Network
    format: str
    output: str = "logits"
    precision: str = "float32"
    batch: int | None = None
    pixels: bool = False
    softmax: bool = False
    drop_path_rate: float = 0.0
    calibration: Array | None = None

    @property
    def kind(self) -> Format:
        """Its format's row."""
        return FORMATS[self.format]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pictures that the artefact takes."""
        return np.dtype(self.kind.pixels if self.pixels else "float32")

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Of the batches that the artefact takes."""
        height, width = self.network.sides or (None, None)
        return self.batch, height, width, self.network.channels


class Writer(Protocol):
    """What a module that writes a format offers."""

    RUNTIME: str

    def write(self, job: Job, target: Path) -> None:
        """Write the artefact, whose files lie beside each other and begin with `target`."""

    def opened(self, job: Job, target: Path) -> Answer:
        """The artefact in its own runtime, whose name is `RUNTIME`."""
