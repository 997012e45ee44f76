"""Build an OpenVINO graph directly from canonical weights, without a framework.

Its operators are those that ran fastest (docs/engines.md has the measurements):

- Tensors are NCHW, which the CPU plug-in stores channels last, so that nothing is transposed
  between blocks. Linear layers are 1x1 convolutions, with which OpenVINO fuses bias, GELU and skip.
- A norm is a mean, a subtraction and `NormalizeL2` over channels, whose factor `sqrt(channels)` is
  folded into the next weights.
- GRN's norm is `ReduceL2`, which sums in float32 for any precision.
- A convolution over enlarged maps is computed at their own sizes, see `_Emitter.fuse`.
- The mean pixel is subtracted before the transposition, as OpenVINO would transpose 8-bit pixels
  twice.

Another `product` replaces the linear layers of blocks, for example to quantise or observe them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from convnext.graphs.fold import (
    Affine,
    Folded,
    Linear,
    folded,
    length_factor,
    pixel_mean,
    steps_to,
)
from convnext.graphs.network import Network
from convnext.graphs.untracked_openvino import op, ov
from convnext.images.resizing import enlarged, shifted
from convnext.steps import (
    GRN,
    GRN_EPSILON,
    Activation,
    AddEnlarged,
    Aside,
    BinPool,
    Conv,
    Depthwise,
    Enlarge,
    Fuse,
    Norm,
    Pads,
    Pool,
    Residual,
    Take,
    Tap,
    Unit,
)
from convnext.steps import Linear as LinearStep

__all__ = ["Product", "build", "product"]

CHANNELS, PLACES = [1], [2, 3]  # of NCHW
SHORTEST = 1e-12  # minimum of the length that a vector is divided by, as in PyTorch

Node = Any
Product = Callable[[Node, Linear, str], Node]
"""Applies a linear layer over channels, given by its constants and name, to an NCHW node."""


def product(x: Node, linear: Linear, name: str) -> Node:
    """A linear layer over channels as a 1x1 convolution."""
    return _convolution(x, Linear(linear.kernel[None, None], linear.bias), name)


def build(
    network: Network,
    outputs: tuple[str, ...] = ("logits",),
    *,
    input: Literal["uint8", "float32"] = "uint8",
    batch: int | None = None,
    softmax: bool = False,
    product: Product = product,
) -> ov.Model:
    """Build an OpenVINO model from pictures, channels last, to outputs.

    Args:
        network: The network.
        outputs: Some of `convnext.graphs.network.OUTPUTS`. Feature maps are channels last.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        batch: Batch size; None for any, which is a little slower.
        softmax: Whether to turn logits into probabilities.
        product: Adds the linear layers of blocks.

    Raises:
        WeightsError: A weight is not finite.

    Example:
        with read_weights("convnext_tiny.fb_in1k") as weights:
            model = build(Network.of_weights(weights))
        openvino.save_model(model, "tiny.xml")
    """
    network.check_outputs(outputs)
    sides = network.sides or (-1, -1)
    pictures = op.parameter(
        [batch or -1, *sides, network.channels], np.dtype(input).type, name="pictures"
    )
    x, from_pixels = pictures, input == "uint8"
    if from_pixels:
        x = op.subtract(op.convert(x, np.float32), _constant(pixel_mean(network)))
    x = op.transpose(x, _ints(0, 3, 1, 2))  # (B, channels, H, W)
    emit = _Emitter(product, pictures=x)
    for node in folded(network, steps_to(network.steps, outputs), from_pixels=from_pixels):
        x = emit(x, node)
    taps = {name: emit.outputs[name] for name in outputs}
    if softmax and "logits" in taps:
        taps["logits"] = op.softmax(taps["logits"], 1)
    chosen = []
    for name in outputs:
        result = op.result(taps[name], name=name)
        result.output(0).get_tensor().set_names({name})
        chosen.append(result)
    return ov.Model(chosen, [pictures], network.architecture.name)


class _Emitter:
    """Adds the nodes of each step to a graph; a method for each kind of step.

    Args:
        product: Adds linear layers over the channels of a map.
        pictures: The input, channels first.

    Attributes:
        outputs: The outputs by name; maps are channels last.
    """

    def __init__(self, product: Product, pictures: Node) -> None:
        self.product = product
        self.pictures = pictures
        self.outputs: dict[str, Node] = {}
        self.named: dict[str, Node] = {}  # the values at taps
        self.factors: dict[str, float] = {}  # missing factors of the outputs of norms, by name
        self.pooled = False  # whether the current value is vectors, not maps

    def __call__(self, x: Node, node: Folded) -> Node:
        """Add a step; returns its output."""
        return EMITTERS[type(node.step)](self, x, node)

    def conv(self, x: Node, node: Folded) -> Node:
        """A dense convolution."""
        step = node.step
        return _convolution(
            x, self._rescaled(node), step.name, step.stride, step.dilation, step.pads
        )

    def depthwise(self, x: Node, node: Folded) -> Node:
        """A convolution of each channel."""
        step, linear = node.step, node.linear
        assert linear is not None
        side, _, channels = linear.kernel.shape
        kernel = linear.kernel.transpose(2, 0, 1).reshape(channels, 1, 1, side, side)
        around, dilations = [step.dilation * (side // 2)] * 2, [step.dilation] * 2
        y = op.group_convolution(
            x, _constant(kernel), [1, 1], around, around, dilations, name=step.name
        )
        return op.add(y, _per_channel(linear.bias))

    def norm(self, x: Node, node: Folded) -> Node:
        """A norm, divided by `sqrt(channels)` in most forms: `factors` has the missing factor."""
        step = node.step
        if step.kind == "layer" and self.pooled:
            x = op.mvn(x, _ints(1), True, step.epsilon, "inside_sqrt")
        elif step.kind == "simple":
            centred = _centred(x)
            power = op.reduce_sum(op.multiply(centred, centred), _ints(*CHANNELS), keep_dims=True)
            variance = op.multiply(power, _scalar(1 / (step.width - 1)))
            x = op.divide(x, op.sqrt(op.add(variance, _scalar(step.epsilon))))
        else:
            if step.kind == "layer" and not node.centred:
                x = _centred(x)
            x = op.normalize_l2(x, _ints(*CHANNELS), step.width * step.epsilon, "add")
            self.factors[step.name] = length_factor(step)
        return self._scaled(x, node.affine, step)

    def linear(self, x: Node, node: Folded) -> Node:
        """A linear layer over channels, of a map or of vectors."""
        linear, name = self._rescaled(node), node.step.name
        if not self.pooled:
            return self.product(x, linear, name)
        kernel = np.ascontiguousarray(linear.kernel.T)
        return op.add(
            op.matmul(x, _constant(kernel), False, True, name=name), _constant(linear.bias)
        )

    def activation(self, x: Node, node: Folded) -> Node:
        """An activation."""
        return ACTIVATIONS[node.step.kind](x)

    def grn(self, x: Node, node: Folded) -> Node:
        """Global response normalisation with its skip."""
        norm = op.reduce_l2(x, _ints(*PLACES), keep_dims=True)  # (B, 4 dim, 1, 1)
        mean = op.reduce_mean(norm, _ints(*CHANNELS), keep_dims=True)
        relative = op.divide(norm, op.add(mean, _scalar(GRN_EPSILON)))
        scale = op.add(op.multiply(relative, _per_channel(node.gamma)), _scalar(1))
        return op.multiply(x, scale)

    def pool(self, x: Node, node: Folded) -> Node:
        """The mean over positions; later steps compute vectors."""
        del node
        self.pooled = True
        return op.reduce_mean(x, _ints(*PLACES), keep_dims=False)  # (B, dim)

    def tap(self, x: Node, node: Folded) -> Node:
        """An output: a map with channels last, or a vector; with scale and shift of its norm."""
        name = node.step.name
        self.named[name] = y = self._scaled(x, node.affine, node.behind)
        self.outputs[name] = y if self.pooled else op.transpose(y, _ints(0, 2, 3, 1))
        return x

    def unit(self, x: Node, node: Folded) -> Node:
        """Vectors divided by their length."""
        del node
        return op.normalize_l2(x, _ints(1), SHORTEST**2, "max")

    def take(self, x: Node, node: Folded) -> Node:
        """A value at an earlier tap."""
        del x
        return self.named[node.step.name]

    def bin_pool(self, x: Node, node: Folded) -> Node:
        """The means over a grid of bins."""
        return op.adaptive_avg_pool(x, _ints(node.step.bins, node.step.bins))

    def add_enlarged(self, x: Node, node: Folded) -> Node:
        """The sum with an earlier map, resized."""
        return op.add(x, _resized(self.named[node.step.name], x))

    def enlarge(self, x: Node, node: Folded) -> Node:
        """A map resized to the pictures."""
        del node
        return _resized(x, self.pictures)

    def fuse(self, x: Node, node: Folded) -> Node:
        """A convolution over several maps, resized to the first.

        As resizing commutes with products over channels, each smaller map is multiplied by the
        kernel's taps at its own size; the products are then resized, shifted and added, which is
        two products with constant matrices. For UPerNet at 512x512 this saves two thirds of the
        last convolution, and the concatenated maps need no memory.
        """
        del x
        step, linear = node.step, node.linear
        assert linear is not None
        first, *others = (self.named[name] for name in step.maps)
        if not _has_sides(first):
            maps = op.concat([first, *(_resized(other, first) for other in others)], 1)
            return _convolution(maps, linear, step.name, pads="both")
        kernels = np.split(linear.kernel, np.cumsum(step.widths)[:-1], axis=2)
        y = _convolution(first, Linear(kernels[0], linear.bias), step.name, pads="both")
        for other, kernel in zip(others, kernels[1:], strict=True):
            y = op.add(y, _fused(other, kernel, _sides(first)))
        return y

    def aside(self, x: Node, node: Folded) -> Node:
        """Steps that only an output needs."""
        y, before = x, dict(self.factors)
        for each in node.branch:
            y = self(y, each)
        self.factors = before  # the same norm after the pooling has no factor
        return x

    def residual(self, x: Node, node: Folded) -> Node:
        """A residual branch and its skip connection."""
        y = x
        for each in node.branch:
            y = self(y, each)
        return op.add(x, y, name=node.step.name)

    def _scaled(self, x: Node, affine: Affine | None, norm: Norm | None) -> Node:
        """Apply a norm's scale and shift, and its missing factor."""
        if affine is None or norm is None:
            return x
        constant = _constant if self.pooled else _per_channel
        scale = affine.scale * np.float32(self.factors.get(norm.name, 1))
        x = op.multiply(x, constant(scale))
        return x if affine.shift is None else op.add(x, constant(affine.shift))

    def _rescaled(self, node: Folded) -> Linear:
        """The constants of a layer, times the missing factor of the norm before it."""
        linear, norm = node.linear, node.behind
        assert linear is not None
        if norm is None or norm.name not in self.factors:
            return linear
        return Linear(linear.kernel * np.float32(self.factors[norm.name]), linear.bias)


EMITTERS: dict[type, Callable[[_Emitter, Node, Folded], Node]] = {
    Activation: _Emitter.activation,
    AddEnlarged: _Emitter.add_enlarged,
    Aside: _Emitter.aside,
    BinPool: _Emitter.bin_pool,
    Conv: _Emitter.conv,
    Depthwise: _Emitter.depthwise,
    Enlarge: _Emitter.enlarge,
    Fuse: _Emitter.fuse,
    GRN: _Emitter.grn,
    LinearStep: _Emitter.linear,
    Norm: _Emitter.norm,
    Pool: _Emitter.pool,
    Residual: _Emitter.residual,
    Take: _Emitter.take,
    Tap: _Emitter.tap,
    Unit: _Emitter.unit,
}

ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "gelu": lambda x: op.gelu(x, "erf"),
    "gelu_tanh": lambda x: op.gelu(x, "tanh"),
    "quick_gelu": lambda x: op.swish(x, op.constant(np.float32(1.702))),
    "silu": lambda x: op.swish(x),
    "relu": lambda x: op.relu(x),
}


def _has_sides(x: Node) -> bool:
    return all(side.is_static for side in list(x.get_output_partial_shape(0))[2:])


def _sides(x: Node) -> tuple[int, int]:
    height, width = list(x.get_output_partial_shape(0))[2:]
    return height.get_length(), width.get_length()


def _resized(x: Node, like: Node) -> Node:
    """A map resized to the size of another."""
    sizes = (
        _ints(*_sides(like))
        if _has_sides(like)
        else op.gather(op.shape_of(like), _ints(2, 3), _ints(0))
    )
    return op.interpolate(x, sizes, "linear_onnx", "sizes", axes=_ints(2, 3))


def _fused(x: Node, kernel: Any, sides: tuple[int, int]) -> Node:
    """A convolution of a map that is resized first, computed at the map's own size."""
    side, _, inputs, outputs = kernel.shape
    taps = kernel.transpose(3, 0, 1, 2).reshape(outputs * side**2, inputs, 1, 1)
    z = op.convolution(x, _constant(taps), [1, 1], [0, 0], [0, 0], [1, 1])
    rows, columns = _sides(x)
    if side == 1:
        return op.interpolate(z, _ints(*sides), "linear_onnx", "sizes", axes=_ints(2, 3))
    z = op.reshape(z, _ints(0, outputs, side, side, rows, columns), True)
    z = op.transpose(z, _ints(0, 1, 2, 4, 3, 5))
    z = op.reshape(z, _ints(0, outputs, side * rows, side * columns), True)
    down, across = (_taps(n, m, side) for n, m in zip((rows, columns), sides, strict=True))
    z = op.matmul(z, _constant(across), False, True)  # (B, outputs, side * rows, width)
    return op.matmul(_constant(down), z, False, False)  # (B, outputs, height, width)


def _taps(inputs: int, outputs: int, side: int) -> Any:
    """The resizing of an axis for each tap of a kernel, side by side."""
    matrix = enlarged(inputs, outputs)
    return np.concatenate([shifted(matrix, tap - side // 2) for tap in range(side)], axis=1)


def _centred(x: Node) -> Node:
    return op.subtract(x, op.reduce_mean(x, _ints(*CHANNELS), keep_dims=True))


def _convolution(
    x: Node, linear: Linear, name: str, stride: int = 1, dilation: int = 1, pads: Pads = "none"
) -> Node:
    kernel = _constant(linear.kernel.transpose(3, 2, 0, 1))  # (out, in, height, width)
    around = [linear.kernel.shape[0] // 2 if pads == "both" else 0] * 2
    padding = {"none": "valid", "same": "same_upper", "both": "explicit"}[pads]
    steps = ([stride] * 2, around, around, [dilation] * 2, padding)
    return op.add(op.convolution(x, kernel, *steps, name=name), _per_channel(linear.bias))


def _scalar(value: float) -> Node:
    return _constant(np.float32(value))


def _per_channel(values: Any) -> Node:
    return _constant(values.reshape(1, -1, 1, 1))


def _constant(values: Any) -> Node:
    return ov.op.Constant(np.ascontiguousarray(values), shared_memory=True)


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
