"""Calibrate a network, and build its int8 OpenVINO graph.

calibration = calibrate(network, pixels)
model = build(network, product=rounded(calibration))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError
from convnext.graphs.fold import Linear
from convnext.graphs.network import Network
from convnext.graphs.openvino import Product, build, product
from convnext.graphs.untracked_openvino import core, op, ov
from convnext.int8.calibration import Calibration
from convnext.int8.levels import InputStatistics, find_levels, merged_statistics
from convnext.int8.rounding import HIGHEST_INPUT, chosen_positions, is_rounded
from convnext.processors import available_processors

__all__ = ["calibrate", "rounded"]

Node = Any


def calibrate(
    network: Network,
    pixels: NDArray[Any],
    *,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Calibration:
    """Find the best rounding of a network's linear layers.

    Args:
        network: The network to quantise.
        pixels: Representative pictures `(pictures, height, width, channels)`: uint8 pixels, or
            normalised float32. One or two hundred are enough.
        on_progress: Called with a message before each picture and each linear layer.

    Raises:
        ArgumentError: There is no picture.
    """
    if not len(pixels):
        raise ArgumentError("Calibration needs pictures; give one or two hundred.")
    watched: dict[str, tuple[Node, Linear]] = {}

    def watch(x: Node, linear: Linear, name: str) -> Node:
        if is_rounded(name):
            watched[name] = (x, linear)
        return product(x, linear, name)

    kind: Literal["uint8", "float32"] = "uint8" if pixels.dtype == np.uint8 else "float32"
    model = build(network, (network.default_output,), input=kind, batch=1, product=watch)
    model.add_outputs([x.output(0) for x, _ in watched.values()])
    statistics = _statistics(model, list(watched), pixels, on_progress)
    layers = {}
    for name, (_, linear) in watched.items():
        on_progress(f"rounding {name}")
        layers[name] = find_levels(statistics.pop(name), linear)
    return Calibration(layers, len(pixels))


def _statistics(
    model: ov.Model, names: list[str], pixels: NDArray[Any], on_progress: Callable[[str], object]
) -> dict[str, InputStatistics]:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": available_processors(),
    }
    compiled = core().compile_model(model, "CPU", settings)
    positions = chosen_positions(len(pixels))
    found: dict[str, list[InputStatistics]] = {name: [] for name in names}
    for number, picture in enumerate(pixels):
        on_progress(f"picture {number + 1}")
        results = compiled([picture[None]], share_inputs=True, share_outputs=True)
        for index, name in enumerate(names, start=1):
            inputs = results[index].reshape(results[index].shape[1], -1)  # (in, positions)
            samples = np.ascontiguousarray(inputs[:, positions(inputs.shape[1])].T)
            found[name].append(InputStatistics(inputs.min(axis=1), inputs.max(axis=1), samples))
    return {name: merged_statistics(parts) for name, parts in found.items()}


def rounded(calibration: Calibration) -> Product:
    """The function that builds linear layers in int8, for `build`."""

    def rounded_product(x: Node, linear: Linear, name: str) -> Node:
        if not is_rounded(name):
            return product(x, linear, name)
        levels = calibration.levels(name, linear)
        kernel, steps = levels.round_kernel(linear.kernel)
        highest = levels.low + levels.step * np.float32(HIGHEST_INPUT)
        x = op.fake_quantize(
            x,
            _per_channel(levels.low),
            _per_channel(highest),
            op.constant(np.float32(0)),
            op.constant(np.float32(HIGHEST_INPUT)),
            HIGHEST_INPUT + 1,
        )
        whole = op.constant(np.ascontiguousarray(kernel.T)[:, :, None, None])  # (out, in, 1, 1)
        weights = op.multiply(
            op.convert(whole, np.float32), op.constant(steps.reshape(-1, 1, 1, 1))
        )
        none = [0, 0]
        y = op.convolution(x, weights, [1, 1], none, none, [1, 1], "valid", name=name)
        return op.add(y, _per_channel(levels.bias(linear)))

    return rounded_product


def _per_channel(values: NDArray[np.float32]) -> Node:
    return op.constant(np.ascontiguousarray(values.reshape(1, -1, 1, 1), np.float32))
