"""Calibrate a network for int8 from pictures, and compare its outputs with float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convnext.engines.base import EngineOptions, InputSpec, Precision
from convnext.errors import ArgumentError, MissingDependencyError
from convnext.graphs.agreement import agreement
from convnext.graphs.network import Network
from convnext.images.batches import batches
from convnext.images.sources import Sources
from convnext.int8.calibration import Calibration, names_calibration

__all__ = ["calibration_of", "check_calibration", "quantize_network"]

PICTURES = 256  # more take longer without better results
COMPARED_MAPS = 8  # pictures of a segmentation model


def quantize_network(
    network: Network,
    pictures: Sources | NDArray[Any],
    on_progress: Callable[[str], object] = lambda _: None,
) -> Calibration:
    """Create a calibration, with its agreement with float32 on the same pictures.

    Args:
        network: The network to calibrate.
        pictures: Sources for `convnext.images.sources.iterate`, or a batch of pixels; only the
            first `PICTURES` are used.
        on_progress: Called with each step before it begins.

    Raises:
        ArgumentError: No picture can be read, or the network does not take such pictures.
        MissingDependencyError: OpenVINO is not installed.
    """
    if find_spec("openvino") is None:
        raise MissingDependencyError("OpenVINO, which calibration needs,", "openvino")
    from convnext.engines.openvino import OpenVINOEngine
    from convnext.int8.openvino import calibrate

    pixels = _pixels(network, pictures)
    kind: Literal["uint8", "float32"] = "uint8" if pixels.dtype == np.uint8 else "float32"
    InputSpec.of(network, kind).check(pixels)
    calibration = calibrate(network, pixels, on_progress=on_progress)
    # Of a segmentation model each position is compared, and a few pictures have many.
    output = network.default_output if network.segmentation is None else "scores"
    compared = pixels if network.segmentation is None else pixels[:COMPARED_MAPS]
    answers = []
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        on_progress(f"answers in {precision}")
        options = EngineOptions((output,), kind, precision, calibration=calibration)
        answer = OpenVINOEngine(network, options).predict(compared)
        width = answer.shape[-1] if output == "scores" else answer[0].size
        answers.append(answer.reshape(-1, width))
    exact, rounded = answers
    return replace(calibration, agreement=agreement(rounded, exact))


def calibration_of(network: Network, given: Any) -> Calibration:
    """Turn a calibration, its file, or pictures into a calibration."""
    if isinstance(given, Calibration):
        return given
    if names_calibration(given):
        return Calibration.load(Path(given))
    return quantize_network(network, given)


def check_calibration(calibration: object, precision: str) -> None:
    """Refuse a calibration for another precision than int8.

    Raises:
        ArgumentError: There is a calibration, and the precision is not int8.
    """
    if calibration is not None and precision != "int8":
        raise ArgumentError(
            f"A calibration is for precision='int8', not {precision!r}. Leave it out."
        )


def _pixels(network: Network, pictures: Sources | NDArray[Any]) -> NDArray[Any]:
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        return pictures[:PICTURES]
    read = [pixels for pixels in _first(network, pictures) if len(pixels)]
    if not read:
        raise ArgumentError(
            f"No picture can be read from {pictures!r}. Calibration needs pictures such as the "
            "model will see, for example a folder."
        )
    return np.concatenate(read)


def _first(network: Network, pictures: Any) -> Iterator[NDArray[np.uint8]]:
    found = 0
    for batch in batches(pictures, network.preprocess):
        yield batch.pixels[: PICTURES - found]
        found += len(batch.pixels)
        if found >= PICTURES:
            return
