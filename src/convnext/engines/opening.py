"""`open_engine`: from a name, a file or a model to something that answers.

It knows which engines there are and which to prefer, and nothing of how they work.
"""

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
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    output_stride: int | None = None,
) -> Engine:
    """Make a model ready to answer.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, weights from `read_weights`, or a Keras model of ours.
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
        preprocess: What is done to pixels, if not what the weights say: a `Preprocess`, or one of
            `convnext.images.recipe.NORMALISATIONS`.
        architecture: What a file does not say of its network, see `read_weights`.
        output_stride: 8 or 16 for feature maps of so much of each side, by dilation, see
            `convnext.architecture.Architecture.dilated`.

    Returns:
        An engine, ready to be called from any number of threads.

    Raises:
        MissingDependencyError: The engine's runtime is not installed.
        ArgumentError: An option is unknown, or the engine has it not.

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
    """Find how a model is rounded to eight bits, and what that does to its answers.

    Args:
        model: What `open_engine` takes.
        pictures: Some such as the model will see: a folder, say. A hundred or two are enough, and
            no more than 256 are used.
        size: Side of the pictures; by default that of the weights.
        preprocess: See `open_engine`.
        architecture: See `open_engine`.
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
    """The network that is meant, as long as its weights can be read.

    A Keras model keeps its own sides, whatever size its recipe is given.

    Raises:
        ConvNeXtError: The weights cannot be read, or an argument is something else.
    """
    with ExitStack() as held:
        if isinstance(model, str | os.PathLike):
            source = model if isinstance(model, str) else Path(model)
            model = held.enter_context(read_weights(source, architecture=architecture))
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
                "A model is a published checkpoint's name, a weights file, weights from "
                f"read_weights or a Keras model of this package, not {type(model).__name__}."
            )
        yield replace(network, preprocess=recipe).dilated(output_stride)


def choose_runtime(engine: str, precision: str = "auto") -> Runtime:
    """The engine of a name, or with `"auto"` the first that is installed.

    Raises:
        UnknownNameError: There is none of that name.
        MissingDependencyError: What it needs is not installed.
    """
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


def _sized(preprocess: Preprocess, size: int | None) -> Preprocess:
    if size is None:
        return preprocess
    if not isinstance(size, int):
        raise ArgumentTypeError(f"size is the side of the pictures in pixels, not {size!r}.")
    return replace(preprocess, size=size)


def _check_size(model: Any, size: int | None, any_size: bool) -> None:
    if hasattr(model, "get_layer") and (size is not None or any_size):
        raise ArgumentError("A Keras model has its own input size; leave out size and any_size.")
