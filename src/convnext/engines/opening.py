"""`open_engine`: from a name, a file or a model to something that answers.

It knows which engines there are and which to prefer, and nothing of how they work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from convnext.engines.base import PRECISIONS, Engine, EngineOptions, Precision
from convnext.engines.quantizing import calibration_of, quantize_network
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    MissingDependencyError,
    UnknownNameError,
)
from convnext.graphs.network import Network
from convnext.images.sources import Sources
from convnext.int8.calibration import Calibration
from convnext.weights.load import CanonicalWeights, read_weights

__all__ = ["ENGINES", "open_engine", "quantize"]


@dataclass(frozen=True)
class Runtime:
    """One engine there is.

    Attributes:
        installed: Whether what it needs is there, found out without importing it.
        extras: What to install if not.
        open: Makes the engine.
        int8: Whether it computes in eight bits; others say so themselves, before anyone calibrates.
    """

    installed: Callable[[], bool]
    extras: tuple[str, ...]
    open: Callable[[Network, EngineOptions], Engine]
    int8: bool = False


def _openvino_installed() -> bool:
    return find_spec("openvino") is not None


def _open_openvino(network: Network, options: EngineOptions) -> Engine:
    from convnext.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(network, options)


def _onnxruntime_installed() -> bool:
    return find_spec("onnxruntime") is not None and find_spec("onnx") is not None


def _open_onnxruntime(network: Network, options: EngineOptions) -> Engine:
    from convnext.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(network, options)


def _keras_installed() -> bool:
    from convnext.engines.keras import installed

    return installed()


def _open_keras(network: Network, options: EngineOptions) -> Engine:
    from convnext.engines.keras import KerasEngine

    return KerasEngine(network, options)


ENGINES: Mapping[str, Runtime] = {
    "openvino": Runtime(_openvino_installed, ("openvino",), _open_openvino, int8=True),
    "onnxruntime": Runtime(_onnxruntime_installed, ("onnxruntime",), _open_onnxruntime),
    "keras": Runtime(_keras_installed, ("torch", "jax", "tensorflow"), _open_keras),
}
"""Every engine by its name, in the order in which `"auto"` tries them."""


def open_engine(  # noqa: PLR0913
    model: Any,
    engine: str = "auto",
    *,
    precision: Precision = "auto",
    device: str = "auto",
    threads: int | None = None,
    streams: int | None = None,
    outputs: str | tuple[str, ...] = "logits",
    input: Literal["uint8", "float32"] = "uint8",
    size: int | None = None,
    any_size: bool = False,
    calibration: Calibration | Sources | None = None,
) -> Engine:
    """Make a model ready to answer.

    Args:
        model: The name of a published checkpoint, a weights file in any layout, weights from
            `read_weights`, or a Keras model of ours.
        engine: One of `ENGINES`, or `"auto"` for the first that is installed.
        precision: `"auto"` is the fastest that keeps the answers on this machine.
        device: The runtime's name of a device.
        threads: How many; by default as many processors as this process may use.
        streams: How many pieces of a batch at once; by default what suits one caller best.
        outputs: One or more of `convnext.graphs.network.OUTPUTS`.
        input: `"uint8"` to take pixels, `"float32"` to take pictures that are normalised already.
        size: Side of the pictures; by default that of the weights. Not for a Keras model, which
            has its own.
        any_size: Whether batches of every picture size are taken, from 32 pixels on.
        calibration: What `"int8"` needs: pictures such as the model will see (a folder, say), what
            `quantize` made of them, or its file.

    Returns:
        An engine, ready to be called from any number of threads.

    Raises:
        MissingDependencyError: The engine's runtime is not installed.
        ArgumentError: An option is unknown, or the engine has it not.

    Example:
        engine = open_engine("convnext_tiny.fb_in1k")
        logits = engine.predict(pixels)  # uint8 [n, 224, 224, 3] -> float32 [n, 1000]
    """
    runtime = _choose(engine, precision)
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    options = EngineOptions(names, input, precision, device, threads, streams)
    _check(options)
    with _network(model, size, any_size) as network:
        return _open(runtime, network, options, calibration)


def quantize(
    model: Any,
    pictures: Sources,
    *,
    size: int | None = None,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Calibration:
    """Find how a model is rounded to eight bits, and what that does to its answers.

    Args:
        model: What `open_engine` takes.
        pictures: Some such as the model will see: a folder, say. A hundred or two are enough, and
            no more than 256 are used.
        size: Side of the pictures; by default that of the weights.
        on_progress: Called with each step before it begins.

    Returns:
        What `open_engine` takes as its calibration. Its `save` keeps it.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ArgumentError: No picture can be read.

    Example:
        calibration = quantize("convnext_tiny.fb_in1k", "photos/")
        print(calibration.agreement)
        engine = open_engine("convnext_tiny.fb_in1k", precision="int8", calibration=calibration)
    """
    _choose("openvino")
    with _network(model, size) as network:
        return quantize_network(network, pictures, on_progress)


@contextmanager
def _network(model: Any, size: int | None, any_size: bool = False) -> Iterator[Network]:
    """The network that is meant, as long as its weights can be read."""
    if isinstance(model, str | os.PathLike):
        source = model if isinstance(model, str) else Path(model)
        with read_weights(source) as weights:
            yield Network.of_weights(weights, size, any_size=any_size)
    elif isinstance(model, CanonicalWeights):
        yield Network.of_weights(model, size, any_size=any_size)
    elif not hasattr(model, "get_layer"):
        raise ArgumentTypeError(
            "An engine runs a published checkpoint's name, a weights file, weights from "
            f"read_weights or a Keras model of this package, not {type(model).__name__}."
        )
    elif size is not None or any_size:
        raise ArgumentError("A Keras model has its own input size; leave out size and any_size.")
    else:
        yield Network.of_model(model)


def _open(runtime: Runtime, network: Network, options: EngineOptions, calibration: Any) -> Engine:
    network.check_outputs(options.outputs)
    if calibration is not None and options.precision != "int8":
        raise ArgumentError(f'A calibration is for precision="int8", not {options.precision!r}.')
    if calibration is not None and runtime.int8:
        options = replace(options, calibration=calibration_of(network, calibration))
    return runtime.open(network, options)


def _choose(engine: str, precision: str = "auto") -> Runtime:
    if engine == "auto":
        for runtime in ENGINES.values():
            if runtime.installed() and (runtime.int8 or precision != "int8"):
                return runtime
        what = "What int8 needs" if precision == "int8" else "Anything that could run a model"
        first = next(iter(ENGINES.values()))
        raise MissingDependencyError(what, *first.extras)
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ("auto", *ENGINES))
    runtime = ENGINES[engine]
    if not runtime.installed():
        raise MissingDependencyError(f"What the engine {engine!r} needs", *runtime.extras)
    return runtime


def _check(options: EngineOptions) -> None:
    if not isinstance(options.device, str):
        raise ArgumentTypeError(
            f"device is the runtime's name of a device, or 'auto'; got {options.device!r}."
        )
    for name in ("threads", "streams"):
        count = getattr(options, name)
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ArgumentError(f"{name} must be 1 or more, or None; got {count!r}.")
    if options.input not in ("uint8", "float32"):
        raise UnknownNameError("input", options.input, ("uint8", "float32"))
    if options.precision not in PRECISIONS:
        raise UnknownNameError("precision", options.precision, PRECISIONS)
