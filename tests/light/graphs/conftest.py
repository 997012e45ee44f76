"""A network to build graphs from, and what it has to answer: NumPy, float64, nothing folded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from convnext.architecture import ARCHITECTURES, PUBLISHED_STRIDES
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.steps import (
    GRN,
    Activation,
    Aside,
    Conv,
    Depthwise,
    Linear,
    Norm,
    Pool,
    Residual,
    Scale,
    Tap,
    Unit,
)
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights

CUSTOM = replace(
    ARCHITECTURES["test_v2"], name="custom", size="custom", depths=(2, 1, 1, 1), dims=(4, 12, 8, 20)
)
V1 = ARCHITECTURES["test_v1"]
ARCHITECTURES_HERE = {
    "test_v1": V1,
    "test_v2": ARCHITECTURES["test_v2"],
    "custom": CUSTOM,
    "activation": replace(V1, activation="silu", kernels=(7, 5, 5, 3), epsilon=1e-3),
    "gelu_tanh": replace(V1, activation="gelu_tanh", expansion=2),
    "head_hidden": replace(V1, head_hidden=12, head_epsilon=1e-2),
    "norm_pool": replace(V1, head="norm_pool"),
    "overlap": replace(V1, stem="overlap"),
    "overlap_act": replace(V1, stem="overlap_act", activation="quick_gelu"),
    "overlap_tiered": replace(V1, stem="overlap_tiered", dims=(32, 16, 24, 32)),
    "rms": replace(V1, norm="rms"),
    "simple": replace(V1, norm="simple", head="norm_pool", activation="relu"),
    "rms_hidden": replace(CUSTOM, norm="rms", head_hidden=9),
    "projection": replace(V1, projection=10, head_hidden=12),
    "clip": V1,
    "clip_hidden": replace(V1, head_hidden=14),
}


def _random(rng, name, shape):
    """Of ordinary size, layer scale and GRN included: their initial values hide what is broken."""
    values = rng.standard_normal(shape, np.float32)
    if name.endswith("kernel"):
        fan_in = 49 if "dwconv" in name else math.prod(shape[:-1])
        return values / np.float32(math.sqrt(fan_in))
    return values / 2 + np.float32("gamma" in name)


def make_network(variant="test_v2", side=32, *, geometry=None, any_size=False, **options):
    """A network with random weights; `edit` may change them by name."""
    edit = options.pop("edit", {})
    architecture = replace(ARCHITECTURES_HERE[variant], **options.pop("traits", {}))
    shapes = parameter_shapes(architecture, options.pop("num_classes", 7), **options)
    rng = np.random.default_rng(0)
    arrays = {name: _random(rng, name, shape) for name, shape in shapes.items()} | edit
    tensors = {name: LazyTensor.from_array(array) for name, array in arrays.items()}
    found = recognise(shapes, "convnext", architecture)
    info = WeightsInfo(task="clip" if variant.startswith("clip") else None)
    weights = CanonicalWeights(tensors, found, info, "weights in a test")
    recipe = Preprocess(size=side, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    if any_size:
        return Network(weights, recipe, None, PUBLISHED_STRIDES)
    strides, dilations = geometry or architecture.geometry(side, side)
    return Network(weights, recipe, (side, side), strides, dilations)


def convolve(x, kernel, bias, stride, pads="none", groups=False, dilation=1):
    """`(B, H, W, in)` with `(h, w, in, out)`, or with `(h, w, in)` channel by channel."""
    side, reach = kernel.shape[0], dilation * (kernel.shape[0] - 1) + 1
    if pads != "none":
        margins = [(side // 2, side // 2)] * 2
        if pads == "same":
            totals = [max((-(-n // stride) - 1) * stride + reach - n, 0) for n in x.shape[1:3]]
            margins = [(total // 2, total - total // 2) for total in totals]
        x = np.pad(x, ((0, 0), *margins, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), (1, 2))
    windows = windows[:, ::stride, ::stride, :, ::dilation, ::dilation]  # (B, H', W', in, h, w)
    rule = "bxyihw,hwi->bxyi" if groups else "bxyihw,hwio->bxyo"
    return np.einsum(rule, windows, kernel, optimize=True) + bias


def norm(x, kind="layer", epsilon=1e-6):
    centred = x - x.mean(-1, keepdims=True)
    if kind == "layer":
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    power = (x**2).mean(-1, keepdims=True) if kind == "rms" else x.var(-1, keepdims=True, ddof=1)
    return x / np.sqrt(power + epsilon)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def logistic(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": tanh_gelu,
    "quick_gelu": lambda x: x * logistic(1.702 * x),
    "silu": lambda x: x * logistic(x),
    "relu": lambda x: np.maximum(x, 0),
}


def grn(x, gamma, beta):
    length = np.sqrt((x**2).sum((1, 2), keepdims=True))
    return gamma * (x * length / (length.mean(-1, keepdims=True) + 1e-6)) + beta + x


def evaluate(network, pictures):
    """Every output of a network for a batch: its steps one by one, as they are written."""
    x = pictures.astype(np.float64)
    if pictures.dtype == np.uint8:
        recipe = network.preprocess
        x = (x * recipe.rescale - recipe.mean) / recipe.std
    results = {}
    _follow(network, network.steps, x, results)
    return results


def _follow(network, steps, x, results):  # noqa: C901
    def p(step, name):
        return network.values(f"{step.name}.{name}").astype(np.float64)

    for step in steps:
        match step:
            case Residual():
                x = x + _follow(network, step.branch, x, results)
            case Conv():
                options = {"pads": step.pads, "dilation": step.dilation}
                x = convolve(x, p(step, "kernel"), p(step, "bias"), step.stride, **options)
            case Depthwise():
                options = {"pads": "same", "groups": True, "dilation": step.dilation}
                x = convolve(x, p(step, "kernel")[..., 0], p(step, "bias"), 1, **options)
            case Norm():
                x = norm(x, step.kind, step.epsilon) * p(step, "gamma")
                x = x + p(step, "beta") if step.kind == "layer" else x
            case Linear():
                x = x @ p(step, "kernel") + p(step, "bias")
            case Activation():
                x = ACTIVATIONS[step.kind](x)
            case GRN():
                x = grn(x, p(step, "gamma"), p(step, "beta"))
            case Scale():
                x = x * p(step, "gamma")
            case Pool():
                x = x.mean((1, 2))
            case Unit():
                x = x / np.sqrt((x**2).sum(-1, keepdims=True))
            case Aside():
                _follow(network, step.branch, x, results)
            case Tap():
                results[step.name] = x
    return x


def pictures_for(network, count=2, side=None, seed=0):
    height, width = network.sides or (side, side + 5)
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, network.channels), np.uint8)


class Oracle:
    """What the tests of this folder need, in one fixture."""

    network = staticmethod(make_network)
    pictures = staticmethod(pictures_for)
    answers = staticmethod(evaluate)
    convolve = staticmethod(convolve)
    norm = staticmethod(norm)
    grn = staticmethod(grn)
    variants = tuple(ARCHITECTURES_HERE)


@pytest.fixture(scope="session")
def oracle():
    return Oracle
