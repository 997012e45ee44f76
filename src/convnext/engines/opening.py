"""`open_engine` and `quantize`: the registry of engines, and the choice among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from convnext.engines.base import Engine, EngineOptions, Precision
from convnext.engines.quantizing import calibration_of, check_calibration, quantize_network
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    MissingDependencyError,
    UnknownNameError,
)
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess, stated_recipe
from convnext.images.sources import Sources
from convnext.int8.calibration import Calibration
from convnext.weights.load import CanonicalWeights, read_weights

__all__ = [
    "ENGINES",
    "Runtime",
    "choose_runtime",
    "open_engine",
    "opened_network",
    "quantize",
]


@dataclass(frozen=True)
class Runtime:
    """A kind of engine.

    Attributes:
        installed: Returns whether its packages are installed, without importing them.
        extras: Extras of this package that install them; any one suffices.
        open: Creates the engine.
        int8: Whether it computes in int8; calibration is skipped for those that refuse it.
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
    "onnxruntime": Runtime(_onnxruntime_installed, ("onnxruntime",), _open_onnxruntime, int8=True),
    "keras": Runtime(_keras_installed, ("torch", "jax", "tensorflow"), _open_keras),
}
"""All engines by name, in the order in which `"auto"` tries them."""


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
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    output_stride: int | None = None,
) -> Engine:
    """Open an engine for a model.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, weights from `read_weights`, or a Keras model of this
            package.
        engine: One of `ENGINES`, or `"auto"` for the first that is installed.
        precision: `"auto"` is the fastest on this machine that keeps the predicted classes.
        device: The runtime's name of a device.
        threads: Number of threads; by default the number of processors this process may use.
        streams: Pieces of a batch computed at once; by default the fastest for one caller.
        outputs: One or more of `convnext.graphs.network.OUTPUTS`.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        size: Side of the pictures; by default that of the weights. Not for a Keras model.
        any_size: Whether to take batches of any picture size from 32 pixels on.
        calibration: For `"int8"`: pictures such as the model will see (for example a folder), the
            result of `quantize`, or its file.
        preprocess: Replaces the weights' preprocessing: a `Preprocess`, or one of
            `convnext.images.recipe.NORMALISATIONS`.
        architecture: Traits that a weights file does not state, see `read_weights`.
        output_stride: 8 or 16 for larger feature maps by dilation, see
            `convnext.architecture.Architecture.dilated`.

    Returns:
        A thread-safe engine.

    Raises:
        MissingDependencyError: The engine's runtime is not installed.
        ArgumentError: An option is invalid, or the engine does not support it.

    Example:
        engine = open_engine("convnext_tiny.fb_in1k")
        logits = engine.predict(pixels)  # uint8 [n, 224, 224, 3] -> float32 [n, 1000]
    """
    runtime = choose_runtime(engine, precision)
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    options = EngineOptions(names, input, precision, device, threads, streams)
    check_calibration(calibration, precision)
    _check_size(model, size, any_size)
    with opened_network(
        model,
        size,
        any_size=any_size,
        preprocess=preprocess,
        architecture=architecture,
        output_stride=output_stride,
    ) as network:
        network.check_outputs(names)
        if calibration is not None and runtime.int8:
            options = replace(options, calibration=calibration_of(network, calibration))
        return runtime.open(network, options)


def quantize(
    model: Any,
    pictures: Sources,
    *,
    size: int | None = None,
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Calibration:
    """Calibrate a model for int8, and measure its agreement with float32.

    Args:
        model: See `open_engine`.
        pictures: Pictures such as the model will see, for example a folder. A hundred are enough;
            at most 256 are used.
        size: Side of the pictures; by default that of the weights.
        preprocess: See `open_engine`.
        architecture: See `open_engine`.
        on_progress: Called with each step before it begins.

    Returns:
        The `calibration` for `open_engine`; its `save` writes it to a file.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ArgumentError: No picture can be read.

    Example:
        calibration = quantize("convnext_tiny.fb_in1k", "photos/")
        print(calibration.agreement)
        engine = open_engine("convnext_tiny.fb_in1k", precision="int8", calibration=calibration)
    """
    choose_runtime("openvino")
    _check_size(model, size, any_size=False)
    with opened_network(model, size, preprocess=preprocess, architecture=architecture) as network:
        return quantize_network(network, pictures, on_progress)


@contextmanager
def opened_network(
    model: Any,
    size: int | None = None,
    *,
    any_size: bool = False,
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    output_stride: int | None = None,
) -> Iterator[Network]:
    """Open a model's network for the duration of the context; see `open_engine`.

    A Keras model keeps its picture size; `size` changes only its preprocessing.

    Raises:
        ConvNeXtError: The weights cannot be read, or an argument is invalid.
    """
    with ExitStack() as stack:
        if isinstance(model, str | os.PathLike):
            source = model if isinstance(model, str) else Path(model)
            model = stack.enter_context(read_weights(source, architecture=architecture))
        if isinstance(model, CanonicalWeights):
            base = model.recipe or Preprocess()
            recipe = _sized(base if preprocess is None else stated_recipe(preprocess, base), size)
            network = Network.of_weights(model, recipe.size, any_size=any_size)
            network = replace(network, recipe_known=network.recipe_known or preprocess is not None)
        elif hasattr(model, "get_layer"):
            network = Network.of_model(model)
            base = network.preprocess
            recipe = _sized(base if preprocess is None else stated_recipe(preprocess, base), size)
        else:
            raise ArgumentTypeError(
                "A model must be a published checkpoint's name, a weights file, weights from "
                f"read_weights or a Keras model of this package, not {type(model).__name__}."
            )
        yield replace(network, preprocess=recipe).dilated(output_stride)


def choose_runtime(engine: str, precision: str = "auto") -> Runtime:
    """Find the engine of a name, or with `"auto"` the first that is installed.

    Raises:
        UnknownNameError: There is no engine of that name.
        MissingDependencyError: Its packages are not installed.
    """
    if engine == "auto":
        for runtime in ENGINES.values():
            if runtime.installed() and (runtime.int8 or precision != "int8"):
                return runtime
        what = "An engine for int8" if precision == "int8" else "An engine to run a model"
        first = next(iter(ENGINES.values()))
        raise MissingDependencyError(what, *first.extras)
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ("auto", *ENGINES))
    runtime = ENGINES[engine]
    if not runtime.installed():
        raise MissingDependencyError(f"The runtime of the engine {engine!r}", *runtime.extras)
    return runtime


def _sized(preprocess: Preprocess, size: int | None) -> Preprocess:
    if size is None:
        return preprocess
    if not isinstance(size, int):
        raise ArgumentTypeError(f"size must be the side of the pictures in pixels, not {size!r}.")
    return replace(preprocess, size=size)


def _check_size(model: Any, size: int | None, any_size: bool) -> None:
    if hasattr(model, "get_layer") and (size is not None or any_size):
        raise ArgumentError("A Keras model has its own input size; leave out size and any_size.")
