"""The algebra that makes an inference graph of a trained network: fewer operations, same answers.

Each identity is exact; only the rounding of float32 differs, so sums and products are taken in
float64. `norm` stands for subtracting the mean over channels and dividing by the deviation.

- Scale and shift of a norm go into the linear layer behind it:
  `(norm(x) g + b) W + c = norm(x) (g W) + (b W + c)`.
- A convolution that pads sees zeros at the border, not the shift. So where the strides of a
  downsampling are relaxed, its norm keeps scale and shift.
- GRN's shift and layer scale go into the second linear layer:
  `((x s + b) W + c) l = (x s) (W l) + (b W + c) l`, where `s = 1 + gamma N(x)` holds its skip.
- What pixels are divided by goes into the stem; what is subtracted from them stays a subtraction,
  so that the zeros which a relaxed stride pads with mean what they did in training.
- The stem's outputs are centred over channels in the stem, which leaves its norm no mean to take.

Functions fold one part each and read only its weights, so that a builder never holds all of them
twice. It knows no runtime.

    block = fold_block(network, stage=0, block=0)
    y = norm(depthwise(x)) @ block.first.kernel + block.first.bias
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import PUBLISHED_STRIDES
from convnext.errors import WeightsError
from convnext.graphs.network import Network
from convnext.weights.load import forget_pages

__all__ = [
    "GRN_EPSILON",
    "NORM_EPSILON",
    "Affine",
    "Block",
    "Downsampling",
    "Head",
    "Linear",
    "Stem",
    "fold_block",
    "fold_downsampling",
    "fold_head",
    "fold_stem",
]

NORM_EPSILON = 1e-6
GRN_EPSILON = 1e-6

Array = NDArray[np.float32]
Wide = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution, or a linear layer over channels.

    Attributes:
        kernel: `(height, width, in, out)`, or `(in, out)`, or `(height, width, channels)` of a
            depthwise convolution.
        bias: `(out,)`.
    """

    kernel: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Affine:
    """A factor and a summand for each channel."""

    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Stem:
    """Pictures to the first feature map: subtract, convolve, norm, scale and shift.

    Attributes:
        subtract: From each channel of the pixels; None where pictures are normalised already.
        conv: The patches' projection, its outputs centred over channels.
        stride: Between patches.
        pads: Whether the convolution pads to keep the size divided by the stride.
        norm: What follows the norm.
    """

    subtract: Array | None
    conv: Linear
    stride: int
    pads: bool
    norm: Affine


@dataclass(frozen=True, eq=False)
class Downsampling:
    """Between two stages: norm, scale and shift if any are left, convolve.

    Attributes:
        norm: What follows the norm; None where it is in the convolution.
        conv: The patches' projection.
        stride: Between patches.
        pads: Whether the convolution pads to keep the size divided by the stride.
    """

    norm: Affine | None
    conv: Linear
    stride: int
    pads: bool


@dataclass(frozen=True, eq=False)
class Block:
    """Depthwise convolution, norm, linear, GELU, scaling by GRN if any, linear, skip.

    Attributes:
        name: Its canonical name.
        depthwise: The 7x7 convolution.
        first: To four times the width.
        grn: Gamma: the hidden layer is multiplied by `1 + gamma N`; None for no GRN.
        second: Back to the width.
    """

    name: str
    depthwise: Linear
    first: Linear
    grn: Array | None
    second: Linear


@dataclass(frozen=True, eq=False)
class Head:
    """What follows pooling: norm, and from there both the classifier and the embedding.

    Attributes:
        embedding: Scale and shift of the norm, for whoever wants what the classifier sees.
        classifier: From the norm to logits; None where there is none.
    """

    embedding: Affine
    classifier: Linear | None


def fold_stem(network: Network, *, from_pixels: bool) -> Stem:
    """The stem.

    Args:
        network: Where the weights come from.
        from_pixels: Whether it takes pixels in 0..255 and not normalised pictures.
    """
    layer = _read(network, "stem_conv")
    kernel, bias = layer["kernel"], layer["bias"]
    subtract = None
    if from_pixels:
        recipe = network.preprocess
        subtract = _float32(np.divide(recipe.mean, recipe.rescale), "the recipe's mean")
        kernel = kernel * (recipe.rescale / np.array(recipe.std))[:, None]
    kernel = kernel - kernel.mean(-1, keepdims=True)
    bias = bias - bias.mean()
    return Stem(
        subtract,
        _linear("stem_conv", kernel, bias),
        network.strides[0],
        network.strides[0] != PUBLISHED_STRIDES[0],
        _affine(network, "stem_norm"),
    )


def fold_downsampling(network: Network, stage: int) -> Downsampling:
    """What leads to stage 1, 2 or 3."""
    name = f"downsample_{stage}"
    layer = _read(network, f"{name}_conv")
    kernel, bias, norm = layer["kernel"], layer["bias"], None
    stride = network.strides[stage]
    pads = stride != PUBLISHED_STRIDES[stage]
    if pads:
        norm = _affine(network, f"{name}_norm")
    else:
        before = _read(network, f"{name}_norm")
        bias = bias + np.einsum("i,hwio->o", before["beta"], kernel)
        kernel = kernel * before["gamma"][:, None]
    return Downsampling(norm, _linear(f"{name}_conv", kernel, bias), stride, pads)


def fold_block(network: Network, stage: int, block: int) -> Block:
    """One block of a stage, both counted from 0."""
    name = f"stage_{stage}_block_{block}"
    depthwise = _read(network, f"{name}.dwconv")
    norm = _read(network, f"{name}.norm")
    first = _read(network, f"{name}.pwconv1")
    second = _read(network, f"{name}.pwconv2")
    kernel, bias, gamma = second["kernel"], second["bias"], None
    if network.variant.has_grn:
        grn = _read(network, f"{name}.grn")
        gamma = _float32(grn["gamma"], f"{name}.grn")
        bias = bias + grn["beta"] @ kernel
    if f"{name}.layer_scale.gamma" in network.weights.tensors:
        factor = _read(network, f"{name}.layer_scale")["gamma"]
        kernel, bias = kernel * factor, bias * factor
    return Block(
        name,
        _linear(f"{name}.dwconv", depthwise["kernel"][..., 0], depthwise["bias"]),
        _linear(f"{name}.pwconv1", *_behind(norm, first)),
        gamma,
        _linear(f"{name}.pwconv2", kernel, bias),
    )


def fold_head(network: Network) -> Head:
    """What follows pooling."""
    classifier = None
    if network.num_classes:
        norm, layer = _read(network, "head_norm"), _read(network, "head")
        classifier = _linear("head", *_behind(norm, layer))
    return Head(_affine(network, "head_norm"), classifier)


def _behind(norm: Mapping[str, Wide], linear: Mapping[str, Wide]) -> tuple[Wide, Wide]:
    """Kernel and bias of a linear layer that takes over the norm's scale and shift."""
    kernel = linear["kernel"]
    return kernel * norm["gamma"][:, None], linear["bias"] + norm["beta"] @ kernel


def _read(network: Network, layer: str) -> dict[str, Wide]:
    """A layer's parameters by their short names, in float64."""
    found = {}
    for name in network.weights.tensors:
        prefix, _, parameter = name.rpartition(".")
        if prefix == layer:
            values = network.values(name)
            _check_finite(values, f"{network.weights.source}: {name}")
            found[parameter] = values.astype(np.float64)
            forget_pages(values)
    return found


def _affine(network: Network, layer: str) -> Affine:
    norm = _read(network, layer)
    return Affine(_float32(norm["gamma"], layer), _float32(norm["beta"], layer))


def _linear(name: str, kernel: Wide, bias: Wide) -> Linear:
    return Linear(_float32(kernel, name), _float32(bias, name))


def _float32(values: Wide, name: str) -> Array:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    _check_finite(narrow, f"{name}, folded")
    return narrow


def _check_finite(values: Array, name: str) -> None:
    if not np.isfinite(values).all():
        raise WeightsError(
            f"{name}: some values are not finite (NaN or infinity), so every answer would be "
            "wrong. The training that wrote them has diverged, or the file is damaged; use "
            "another checkpoint."
        )
