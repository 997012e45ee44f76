"""Canonical weights to an OpenVINO graph, by hand: no framework, no tracing, no conversion.

The forms are those that ran fastest (docs/engines.md has the measurements):

- Tensors are NCHW by their axes throughout, which the CPU plug-in lays out channels last in memory,
  so that nothing is transposed between blocks. Linear layers are 1x1 convolutions: bias, GELU and
  the skip connection are fused into them.
- A norm is a mean, a subtraction and one `NormalizeL2` over channels, whose factor `sqrt(channels)`
  goes into the weights behind it.
- GRN's statistic is one `ReduceL2`, which sums in float32 whatever the precision.
- The mean pixel is subtracted before the axes move, which keeps OpenVINO from moving 8-bit pixels
  about, twice.

Whoever wants a linear layer to be more than a product (quantised, watched) gives another `product`.
It knows neither files nor how graphs are run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from convnext.graphs.fold import (
    GRN_EPSILON,
    NORM_EPSILON,
    Affine,
    Block,
    Linear,
    fold_block,
    fold_downsampling,
    fold_head,
    fold_stem,
)
from convnext.graphs.network import Network
from convnext.graphs.untracked_openvino import op, ov

__all__ = ["Product", "build", "product"]

CHANNELS, PLACES = [1], [2, 3]  # of NCHW

Node = Any
Product = Callable[[Node, Linear, str], Node]
"""From NCHW, a linear layer over channels and its name to NCHW: the product and its bias."""


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
    """The network as an OpenVINO model from pictures, channels last, to its outputs.

    Args:
        network: What to build.
        outputs: Any of `convnext.graphs.network.OUTPUTS`. Feature maps are given channels last.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        batch: How many pictures at once; None for any number, which runs a little slower.
        softmax: Whether to turn logits into probabilities.
        product: Makes a block's linear layers.

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
    results = {}
    x = _stem(network, pictures, input)
    for stage, depth in enumerate(network.variant.depths):
        if stage:
            x = _downsample(network, x, stage)
        for index in range(depth):
            x = _block(x, fold_block(network, stage, index), product)
        results[f"stage_{stage}"] = op.transpose(x, _ints(0, 2, 3, 1))
    if {"embedding", "logits"} & set(outputs):
        results |= _head(network, x, softmax)
    chosen = []
    for name in outputs:
        result = op.result(results[name], name=name)
        result.output(0).get_tensor().set_names({name})
        chosen.append(result)
    return ov.Model(chosen, [pictures], network.variant.name)


def _stem(network: Network, pictures: Node, input: str) -> Node:
    stem = fold_stem(network, from_pixels=input == "uint8")
    x = pictures
    if stem.subtract is not None:
        x = op.subtract(op.convert(x, np.float32), _constant(stem.subtract))
    x = op.transpose(x, _ints(0, 3, 1, 2))  # (B, channels, H, W)
    x = _patches(x, stem.conv, stem.stride, stem.pads, "stem_conv")
    channels = len(stem.conv.bias)
    # Centred already: see fold.
    x = op.normalize_l2(x, _ints(*CHANNELS), channels * NORM_EPSILON, "add")
    return _affine(x, stem.norm)


def _downsample(network: Network, x: Node, stage: int) -> Node:
    down = fold_downsampling(network, stage)
    channels = down.conv.kernel.shape[-2]
    x, conv = _norm(x, channels), down.conv
    if down.norm is None:
        conv = _rescaled(conv, channels)
    else:
        x = _affine(x, down.norm)
    return _patches(x, conv, down.stride, down.pads, f"downsample_{stage}_conv")


def _block(x: Node, block: Block, product: Product) -> Node:
    channels = block.depthwise.bias.size
    branch = _depthwise(x, block.depthwise, f"{block.name}.dwconv")
    branch = _norm(branch, channels)
    branch = product(branch, _rescaled(block.first, channels), f"{block.name}.pwconv1")
    branch = op.gelu(branch, "erf")  # (B, 4 dim, H, W)
    if block.grn is not None:
        branch = _grn(branch, block.grn)
    branch = product(branch, block.second, f"{block.name}.pwconv2")
    return op.add(x, branch, name=block.name)


def _head(network: Network, x: Node, softmax: bool) -> dict[str, Node]:
    head = fold_head(network)
    x = op.reduce_mean(x, _ints(*PLACES), keep_dims=False)  # (B, dim)
    x = op.mvn(x, _ints(1), True, NORM_EPSILON, "inside_sqrt")
    scaled = op.multiply(x, _constant(head.embedding.scale))
    results = {"embedding": op.add(scaled, _constant(head.embedding.shift))}
    if head.classifier is not None:
        kernel = np.ascontiguousarray(head.classifier.kernel.T)
        logits = op.matmul(x, _constant(kernel), False, True, name="head")
        logits = op.add(logits, _constant(head.classifier.bias))
        results["logits"] = op.softmax(logits, 1) if softmax else logits
    return results


def _norm(x: Node, channels: int) -> Node:
    """The norm divided by `sqrt(channels)`: the factor is in the weights behind it."""
    centred = op.subtract(x, op.reduce_mean(x, _ints(*CHANNELS), keep_dims=True))
    return op.normalize_l2(centred, _ints(*CHANNELS), channels * NORM_EPSILON, "add")


def _rescaled(linear: Linear, channels: int) -> Linear:
    return Linear(linear.kernel * np.float32(math.sqrt(channels)), linear.bias)


def _affine(x: Node, norm: Affine) -> Node:
    scale = norm.scale * np.float32(math.sqrt(len(norm.scale)))
    return op.add(op.multiply(x, _per_channel(scale)), _per_channel(norm.shift))


def _grn(x: Node, gamma: Any) -> Node:
    norm = op.reduce_l2(x, _ints(*PLACES), keep_dims=True)  # (B, 4 dim, 1, 1)
    mean = op.reduce_mean(norm, _ints(*CHANNELS), keep_dims=True)
    relative = op.divide(norm, op.add(mean, _constant(np.float32(GRN_EPSILON))))
    scale = op.add(op.multiply(relative, _per_channel(gamma)), _constant(np.float32(1)))
    return op.multiply(x, scale)


def _depthwise(x: Node, linear: Linear, name: str) -> Node:
    side, _, channels = linear.kernel.shape
    kernel = linear.kernel.transpose(2, 0, 1).reshape(channels, 1, 1, side, side)
    around = [side // 2] * 2
    y = op.group_convolution(x, _constant(kernel), [1, 1], around, around, [1, 1], name=name)
    return op.add(y, _per_channel(linear.bias))


def _patches(x: Node, linear: Linear, stride: int, pads: bool, name: str) -> Node:
    return _convolution(x, linear, name, stride, "same_upper" if pads else "valid")


def _convolution(
    x: Node, linear: Linear, name: str, stride: int = 1, padding: str = "valid"
) -> Node:
    kernel = _constant(linear.kernel.transpose(3, 2, 0, 1))  # (out, in, height, width)
    none = [0, 0]
    y = op.convolution(x, kernel, [stride] * 2, none, none, [1, 1], padding, name=name)
    return op.add(y, _per_channel(linear.bias))


def _per_channel(values: Any) -> Node:
    return _constant(values.reshape(1, -1, 1, 1))


def _constant(values: Any) -> Node:
    return ov.op.Constant(np.ascontiguousarray(values), shared_memory=True)


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
