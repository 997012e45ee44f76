"""Quantise a model for LiteRT: adapt its parameters, then round the linear layers of its file.

A kernel is stored with a step for each output channel; the interpreter computes the step of the
inputs at run time, for each position. Other choices lose accuracy: one range for each tensor, as
LiteRT does by itself, breaks V2, and rounding the convolutions costs trained weights 13 dB
(docs/export.md). From calibration pictures two things are found for each rounded layer:

- factors that shrink its largest input channels, which set the step of all: the norm or GRN before
  it is divided by them, and the kernel multiplied
- the mean shift of its outputs by rounding, which is subtracted from the bias
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from convnext.errors import ExportError
from convnext.int8.rounding import (
    BALANCES,
    HIGHEST_INPUT,
    NARROWEST,
    Array,
    best_balance,
    chosen_positions,
    is_rounded,
    round_kernel,
)
from convnext.nn.model import Block
from convnext.nn.operations import SMALLEST_SQUARED_NORM

__all__ = ["prepare", "round_linear_layers"]

OLDEST_OPERATOR = 12  # first version of the linear operator with a step for each output channel
OLDEST_RUNTIME = b"2.17.0"  # the first runtime with it
ALIGNMENT = 16  # of constants, required by the format's schema


def prepare(model: Any, batches: Iterable[Array]) -> None:
    """Change a model's parameters so that rounding its file changes its outputs least.

    Args:
        model: A Keras model of this package, on TensorFlow.
        batches: Representative inputs; one or two hundred pictures are enough.
    """
    blocks = [block for block in _blocks(model) if is_rounded(block.name)]
    every = [np.asarray(batch, np.float32) for batch in batches]
    positions = chosen_positions(sum(map(len, every)))
    linear = [layer for block in blocks for layer in (block.pwconv1, block.pwconv2)]
    with ExitStack() as watching:
        samples = [watching.enter_context(_inputs_of(layer, positions)) for layer in linear]
        for batch in every:
            model(tf.constant(batch), training=False)
    for block in blocks:
        factors = _balance(block.pwconv1, np.concatenate(samples.pop(0)), BALANCES)
        block.norm.gamma.assign(block.norm.gamma.numpy() / factors)
        block.norm.beta.assign(block.norm.beta.numpy() / factors)
        # In V1 no layer before the second linear layer could be divided without extra cost.
        balances = (0.0,) if block.grn is None else BALANCES
        factors = _balance(block.pwconv2, np.concatenate(samples.pop(0)), balances)
        if block.grn is not None:
            block.grn = _DividedGRN(block.grn, factors)


def _blocks(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, Block)]


@contextmanager
def _inputs_of(linear: Any, positions: Callable[[int], Any]) -> Iterator[list[Array]]:
    """Record samples of a layer's inputs, `(positions, in)` for each picture.

    A block calls its layers by `call`, so that is wrapped.
    """
    rows: list[Array] = []
    call = linear.call

    def watched(x: Any, training: bool | None = None) -> Any:
        for picture in x.numpy().reshape(len(x), -1, x.shape[-1]):
            rows.append(picture[positions(len(picture))])
        return call(x, training)

    linear.call = watched
    try:
        yield rows
    finally:
        del linear.call


def _balance(linear: Any, rows: Array, balances: tuple[float, ...]) -> Array:
    """Balance and correct a linear layer; returns the divisors `(in,)` of its inputs."""
    kernel: Array = linear.kernel.numpy()
    ranges = np.maximum(np.ptp(rows, axis=0), NARROWEST)
    ranges /= np.exp(np.log(ranges).mean())

    def rounded(balance: float) -> Array:
        factors = ranges**balance
        whole, steps = round_kernel(kernel * factors[:, None], in_pairs=False)
        products: Array = _round_inputs(rows / factors) @ (whole * steps)
        return products

    best = best_balance(rows @ kernel, rounded, balances)
    factors: Array = ranges**best.balance
    linear.kernel.assign(kernel * factors[:, None])
    linear.bias.assign(linear.bias.numpy() + best.correction)
    return factors


def _round_inputs(rows: Array) -> Array:
    """Quantise and restore inputs as the interpreter does: a step and zero point for each row.

    The range always includes zero, so that zero stays exact.
    """
    low = np.minimum(rows.min(axis=1, keepdims=True), 0)
    high = np.maximum(rows.max(axis=1, keepdims=True), 0)
    step = np.maximum((high - low) / HIGHEST_INPUT, NARROWEST)
    zero = np.rint(-low / step)
    rounded: Array = (np.clip(np.rint(rows / step) + zero, 0, HIGHEST_INPUT) - zero) * step
    return rounded


class _DividedGRN:
    """Global response normalisation with outputs divided by a factor for each channel."""

    def __init__(self, grn: Any, factors: Array) -> None:
        self.one = 1 / factors
        self.gamma = grn.gamma.numpy() / factors
        self.beta = grn.beta.numpy() / factors
        self.epsilon = grn.epsilon

    def call(self, x: Any) -> Any:
        """Normalise `(batch, height, width, channels)`."""
        squares = tf.reduce_sum(tf.square(x), (1, 2), keepdims=True)
        norm = tf.sqrt(tf.maximum(squares, SMALLEST_SQUARED_NORM))
        relative = norm / (tf.reduce_mean(norm, -1, keepdims=True) + self.epsilon)
        return x * (self.one + self.gamma * relative) + self.beta


def round_linear_layers(content: bytes, model: Any) -> bytes:
    """Quantise the kernels of the blocks in a float32 LiteRT file.

    Args:
        content: The file.
        model: The model it was converted from, after `prepare`.

    Raises:
        ExportError: The layers of the file are not those of the model.
    """
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    [graph] = file.subgraphs
    linear = schema.BuiltinOperator.FULLY_CONNECTED
    codes = [code for code in file.operatorCodes if code.builtinCode == linear]
    found = [op for op in graph.operators if file.operatorCodes[op.opcodeIndex] in codes]
    blocks = _blocks(model)
    has_head = any(layer.name == "head" for layer in model.layers)
    if len(found) != 2 * len(blocks) + has_head:
        raise ExportError(
            f"The LiteRT file has {len(found)} linear layers, but the model has "
            f"{2 * len(blocks) + has_head}, so it cannot be quantised. Please report this with the "
            "version of TensorFlow."
        )
    rounded = np.repeat([is_rounded(block.name) for block in blocks], 2)
    for operator in itertools.compress(found, rounded):
        tensor = graph.tensors[operator.inputs[1]]
        if tensor.type == schema.TensorType.FLOAT32:
            _round_tensor(file, tensor)
        operator.builtinOptions.asymmetricQuantizeInputs = True
    for code in codes:
        code.version = max(code.version, OLDEST_OPERATOR)
    _state_oldest_runtime(file)
    return _packed(file)


def _round_tensor(file: Any, tensor: Any) -> None:
    kernel = np.frombuffer(bytes(file.buffers[tensor.buffer].data), np.float32)
    whole, steps = round_kernel(kernel.reshape(tensor.shape).T, in_pairs=False)
    buffer = schema.BufferT()
    buffer.data = whole.T.reshape(-1).view(np.uint8)
    file.buffers.append(buffer)
    tensor.buffer = len(file.buffers) - 1
    tensor.type = schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = steps
    tensor.quantization.zeroPoint = np.zeros(len(steps), np.int64)
    tensor.quantization.quantizedDimension = 0


def _state_oldest_runtime(file: Any) -> None:
    for entry in file.metadata or ():
        if entry.name == b"min_runtime_version":
            padded = OLDEST_RUNTIME.ljust(ALIGNMENT, b"\0")
            file.buffers[entry.buffer].data = np.frombuffer(padded, np.uint8)


@dataclass(frozen=True, eq=False)
class _Constant:
    """A buffer packed with the alignment of the schema, unlike the generated class."""

    data: NDArray[np.uint8] | None

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write the buffer; the generated classes call this method."""
        data = None
        if self.data is not None and len(self.data):
            builder.Prep(ALIGNMENT, len(self.data))
            data = builder.CreateNumpyVector(self.data)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        packed: int = schema.BufferEnd(builder)
        return packed


def _packed(file: Any) -> bytes:
    used = {tensor.buffer for graph in file.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in file.metadata or ()}
    file.buffers = [
        _Constant(buffer.data if index in used else None)
        for index, buffer in enumerate(file.buffers)
    ]
    content: bytes = flatbuffer_utils.convert_object_to_bytearray(file)
    return content
