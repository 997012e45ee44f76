"""The engine on Keras: any backend, any device it has, every output.

It is the slowest one and always right: what the others are compared with, and what runs where none
of them is installed.
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

BACKENDS = ("torch", "jax", "tensorflow")  # the soonest ready first
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def installed() -> bool:
    """Whether Keras and one of its backends are there, without importing them."""
    return "keras" in sys.modules or (
        importlib.util.find_spec("keras") is not None
        and any(importlib.util.find_spec(name) for name in BACKENDS)
    )


class KerasEngine(Engine):
    """Runs a network as a Keras model of ours.

    Calls from several threads take turns: Keras is not made for more.

    Args:
        network: What to run.
        options: How. `precision="auto"` is float32; streams are not offered, nor threads on JAX.
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
        except Exception as error:  # each backend has its own for a device that it has not
            if self._device is None or isinstance(error, ConvNeXtError):
                raise
            raise ArgumentError(
                f"Keras on {keras.backend.backend()} cannot use the device {self._device!r} "
                f"({error}). Give one that it has, such as 'cpu' or 'gpu:0', or 'auto'."
            ) from error

    def run(self, batch: Array) -> Sequence[Array]:
        """Each output for a batch."""
        if batch.dtype == np.uint8:
            batch = normalise(batch, self._preprocess)
        pictures = len(batch)
        if self.name == "keras-jax":  # which compiles for each size of batch
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
    """Have Keras use a backend that is installed, unless someone chose one."""
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

        # By itself PyTorch knows of no quota, but may have been given fewer threads than that.
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
                "TensorFlow runs already and cannot change its threads; open the engine first."
            ) from error
    else:
        raise ArgumentError(
            "JAX takes as many threads as there are processors, and cannot be told otherwise. Give "
            "it fewer processors (taskset), or use another engine."
        )


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """What layers that are created in here compute in."""
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

    architecture = network.architecture
    with undrawn():
        model = build_model(
            architecture,
            input_shape=(*(network.sides or (None, None)), network.channels),
            geometry=network.geometry,
            num_classes=network.num_classes,
            include_top=bool(network.num_classes or architecture.head_hidden),
            pooling=None if architecture.head == "none" else "avg",
            classifier_activation=None,
        )
    variables = canonical_variables(model)
    assign(variables, {name: network.weights.tensors[name] for name in variables})
    return with_outputs(model, outputs, clip=network.is_clip)
