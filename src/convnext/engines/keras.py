"""The Keras engine, on any backend and its devices: the slowest engine, and the reference.

Used where no other engine is installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from convnext.engines.base import Array, Engine, EngineOptions, InputSpec
from convnext.errors import ArgumentError, ConvNeXtError, MissingDependencyError, UnknownNameError
from convnext.graphs.network import Network
from convnext.images.transform import normalise
from convnext.processors import available_processors
from convnext.weights.canonical import canonical_variables
from convnext.weights.load import assign

__all__ = ["KerasEngine", "choose_backend", "installed"]

BACKENDS = ("torch", "jax", "tensorflow")  # fastest to import first
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def installed() -> bool:
    """Whether Keras and one of its backends are installed; does not import them."""
    return "keras" in sys.modules or (
        importlib.util.find_spec("keras") is not None
        and any(importlib.util.find_spec(name) for name in BACKENDS)
    )


class KerasEngine(Engine):
    """Runs a network as a Keras model.

    Concurrent calls wait for each other, as Keras models are not thread-safe.

    Args:
        network: The network.
        options: Options; `precision="auto"` is float32. Streams, and threads on JAX, are refused.
    """

    def __init__(self, network: Network, options: EngineOptions) -> None:
        precision = "float32" if options.precision == "auto" else options.precision
        if precision not in POLICIES:
            raise UnknownNameError("precision of the Keras engine", precision, POLICIES)
        choose_backend()
        import keras

        _use_threads(keras.backend.backend(), options)
        self.name = f"keras-{keras.backend.backend()}"
        self.precision = precision
        self.outputs = options.outputs
        self.input = InputSpec.of(network, options.input)
        self._preprocess = network.preprocess
        self._device = None if options.device == "auto" else options.device
        self._lock = threading.Lock()
        try:
            with self._placed(), _policy(POLICIES[precision]):
                self._model = _build(network, options.outputs)
        except Exception as error:  # each backend has its own error for an unknown device
            if self._device is None or isinstance(error, ConvNeXtError):
                raise
            raise ArgumentError(
                f"Keras on {keras.backend.backend()} cannot use the device {self._device!r} "
                f"({error}). Use one it has, such as 'cpu' or 'gpu:0', or 'auto'."
            ) from error

    def run(self, batch: Array) -> Sequence[Array]:
        """Compute each output for a batch."""
        if batch.dtype == np.uint8:
            batch = normalise(batch, self._preprocess)
        pictures = len(batch)
        if self.name == "keras-jax":  # which compiles for each batch size
            padding = (1 << (pictures - 1).bit_length()) - pictures
            batch = np.pad(batch, ((0, padding), (0, 0), (0, 0), (0, 0)))
        with self._lock, self._placed():
            results = self._model.predict_on_batch(batch)
        results = results if isinstance(results, list) else [results]
        return [np.asarray(result[:pictures], np.float32) for result in results]

    @contextmanager
    def _placed(self) -> Iterator[None]:
        import keras

        if self._device is None:
            yield
            return
        with keras.device(self._device):
            yield


def choose_backend() -> None:
    """Select an installed backend of Keras, unless one is configured or imported."""
    if not installed():
        raise MissingDependencyError("Keras with a backend", *BACKENDS)
    chosen = "KERAS_BACKEND" in os.environ or Path("~/.keras/keras.json").expanduser().exists()
    if "keras" not in sys.modules and not chosen:
        os.environ["KERAS_BACKEND"] = next(b for b in BACKENDS if importlib.util.find_spec(b))


def _use_threads(backend: str, options: EngineOptions) -> None:
    if options.streams not in (None, 1):
        raise ArgumentError("The Keras engine runs one batch at a time: streams must be 1 or None.")
    if backend == "torch":
        import torch

        # PyTorch ignores quotas, but may have been set to fewer threads.
        most = min(torch.get_num_threads(), available_processors())
        torch.set_num_threads(options.threads or most)
    elif options.threads is None:
        return
    elif backend == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        except RuntimeError as error:
            raise ArgumentError(
                "TensorFlow cannot change its threads once it runs. Open the engine first."
            ) from error
    else:
        raise ArgumentError(
            "JAX uses as many threads as there are processors. Leave out threads, and limit "
            "the processors (taskset), or use another engine."
        )


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Set the dtype policy of layers that are created in this context."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(network: Network, outputs: tuple[str, ...]) -> Any:
    from convnext.nn.initializers import undrawn
    from convnext.nn.model import build_model, with_outputs
    from convnext.nn.segmenter import build_segmenter

    architecture, head = network.architecture, network.segmentation
    shape = (*(network.sides or (None, None)), network.channels)
    with undrawn():
        if head is not None:
            model = build_segmenter(
                architecture,
                head,
                network.num_classes,
                input_shape=shape,
                geometry=network.geometry,
            )
        else:
            model = build_model(
                architecture,
                input_shape=shape,
                geometry=network.geometry,
                num_classes=network.num_classes,
                include_top=bool(network.num_classes or architecture.head_hidden),
                pooling=None if architecture.head == "none" else "avg",
                classifier_activation=None,
            )
    variables = canonical_variables(model)
    assign(variables, {name: network.weights.tensors[name] for name in variables})
    return with_outputs(model, outputs, clip=network.is_clip)
