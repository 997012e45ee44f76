"""Eight bits in LiteRT: what is rounded, and how a model is readied so that it loses least by it.

A block's two linear layers do nearly all the arithmetic, and they alone are rounded, but for those
of the first block, as in OpenVINO's eight bits (`convnext.graphs.quantize`). A kernel is stored
with a step for each output channel. The interpreter finds the step of what goes in while it runs,
one for each place of each picture, so nothing that flows between layers has a fixed range. LiteRT's
own choice, to round everything with one range a tensor, loses the answer of V2, and rounding the
convolutions too costs trained weights 13 dB (docs/export.md has the numbers).

Pictures tell two things about each rounded layer:

- how much smaller to make its greatest input channels, which set the step for all: the norm or GRN
  before it takes the factors, and the kernel makes up for them
- by how much rounding shifts its outputs on average, which the bias takes back

It knows LiteRT's files and the model's layers, and nothing of jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from convnext.errors import ExportError
from convnext.nn.model import Block
from convnext.nn.operations import SMALLEST_SQUARED_NORM

__all__ = ["prepare", "round_linear_layers"]

Array = NDArray[np.float32]

ROWS = 1024  # places, over all pictures, at which a layer's inputs are kept
BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Powers of a channel's range in what it is divided by: 1 makes all ranges the same."""

HIGHEST = 127
STEPS = 255
UNROUNDED = 1  # blocks at the beginning, whose errors every later one sees
OLDEST_OPERATOR = 12  # version of the linear operator that has a step for each output channel
OLDEST_RUNTIME = b"2.17.0"  # the first runtime that has it
ALIGNMENT = 16  # of constants, as the format's schema asks


@dataclass(frozen=True, eq=False)
class _Seen:
    """Inputs of a block's two linear layers at some places, `(places, channels)`."""

    first: list[Array]
    second: list[Array]


def prepare(model: Any, batches: Iterable[Array]) -> None:
    """Change parameters so that the rounded file answers closest to what the model answers now.

    Args:
        model: A Keras model of ours, on TensorFlow.
        batches: What it takes, such as it will see; a hundred or two pictures are enough.
    """
    blocks = _rounded_blocks(model)
    seen = {block.name: _Seen([], []) for block in blocks}
    random = np.random.default_rng(0)
    every = [np.asarray(batch, np.float32) for batch in batches]
    each = -(-ROWS // sum(map(len, every)))
    for batch in every:
        _watch(model, batch, seen, lambda places: random.integers(places, size=each))
    for block in blocks:
        rows = seen.pop(block.name)
        factors = _ready(block.pwconv1, np.concatenate(rows.first), BALANCES)
        block.norm.gamma.assign(block.norm.gamma.numpy() / factors)
        block.norm.beta.assign(block.norm.beta.numpy() / factors)
        # Before V1's second layer there is nothing that could take factors at no cost.
        balances = (0.0,) if block.grn is None else BALANCES
        factors = _ready(block.pwconv2, np.concatenate(rows.second), balances)
        if block.grn is not None:
            block.grn = _DividedGRN(block.grn, factors)


def _rounded_blocks(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, Block)][UNROUNDED:]


def _watch(model: Any, batch: Array, seen: dict[str, _Seen], choose: Callable[[int], Any]) -> None:
    """Run the model layer by layer and keep some of what linear layers are given."""

    def rows(x: Any) -> Iterator[Array]:
        for picture in x.numpy().reshape(len(x), -1, x.shape[-1]):
            yield picture[choose(len(picture))]

    x = tf.constant(batch)
    for layer in model.layers[1:]:
        if layer.name not in seen:
            x = layer(x)
            continue
        branch = layer.norm.call(layer.dwconv.call(x))
        seen[layer.name].first.extend(rows(branch))
        branch = layer.pwconv1.call(branch)
        if layer.grn is not None:
            branch = layer.grn.call(branch)
        seen[layer.name].second.extend(rows(branch))
        branch = layer.pwconv2.call(branch)
        if layer.layer_scale is not None:
            branch = layer.layer_scale.call(branch)
        x = x + branch


def _ready(linear: Any, rows: Array, balances: tuple[float, ...]) -> Array:
    """Balance and correct a linear layer; what its inputs `(in,)` are to be divided by."""
    kernel: Array = linear.kernel.numpy()
    exact = rows @ kernel
    ranges = np.maximum(np.ptp(rows, axis=0), np.float32(1e-12))
    ranges /= np.exp(np.log(ranges).mean())
    best = None
    for balance in balances:
        factors: Array = ranges**balance
        rounded = _round_inputs(rows / factors) @ _rounded_kernel(kernel * factors[:, None])
        error = exact - rounded
        shift = error.mean(axis=0)
        noise = float(np.square(error - shift).mean())
        if best is None or noise < best[0]:
            best = noise, factors, shift
    assert best is not None
    _, factors, shift = best
    linear.kernel.assign(kernel * factors[:, None])
    linear.bias.assign(linear.bias.numpy() + shift)
    return factors


def _round_inputs(rows: Array) -> Array:
    """What the interpreter makes of inputs: eight bits, and for each row a step and a zero point.

    The range always holds zero, so that zero stays zero.
    """
    low = np.minimum(rows.min(axis=1, keepdims=True), 0)
    high = np.maximum(rows.max(axis=1, keepdims=True), 0)
    step = np.maximum((high - low) / STEPS, np.float32(1e-12))
    zero = np.rint(-low / step)
    rounded: Array = (np.clip(np.rint(rows / step) + zero, 0, STEPS) - zero) * step
    return rounded


def _rounded_kernel(kernel: Array) -> Array:
    whole, steps = _round_kernel(kernel.T)
    rounded: Array = (whole * steps[:, None]).T
    return rounded


def _round_kernel(kernel: Array) -> tuple[NDArray[np.int8], Array]:
    """A kernel `(out, in)` in whole numbers, and the step `(out,)` of each output channel."""
    steps = np.abs(kernel).max(axis=1) / np.float32(HIGHEST)
    steps[steps == 0] = 1
    return np.rint(kernel / steps[:, None]).astype(np.int8), steps


class _DividedGRN:
    """Global response normalisation whose results are divided by a factor for each channel.

    Args:
        grn: The layer.
        factors: One for each channel.
    """

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
    """A LiteRT file of a model in float32, with its blocks' kernels in eight bits.

    Args:
        content: The file.
        model: What it was converted from, readied by `prepare`.

    Raises:
        ExportError: The file holds other layers than the model.
    """
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    [graph] = file.subgraphs
    linear = schema.BuiltinOperator.FULLY_CONNECTED
    codes = [code for code in file.operatorCodes if code.builtinCode == linear]
    found = [op for op in graph.operators if file.operatorCodes[op.opcodeIndex] in codes]
    blocks = UNROUNDED + len(_rounded_blocks(model))
    has_head = any(layer.name == "head" for layer in model.layers)
    if len(found) != 2 * blocks + has_head:
        raise ExportError(
            f"LiteRT's file has {len(found)} linear layers where the model has "
            f"{2 * blocks + has_head}, so eight bits do not know their place. Please report this, "
            "with the version of TensorFlow."
        )
    for operator in found[2 * UNROUNDED : 2 * blocks]:
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
    whole, steps = _round_kernel(kernel.reshape(tensor.shape))
    buffer = schema.BufferT()
    buffer.data = whole.reshape(-1).view(np.uint8)
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
    """A buffer that is packed where the schema wants it, which the generated one is not."""

    data: NDArray[np.uint8] | None

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Write it; the name is the generated classes'."""
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
