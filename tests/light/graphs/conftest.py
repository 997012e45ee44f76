"""A network to build graphs from, and what it has to answer: NumPy, float64, nothing folded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from convnext.architecture import PUBLISHED_STRIDES, VARIANTS, adapted_strides
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights

CUSTOM = replace(VARIANTS["test_v2"], name="custom", depths=(2, 1, 1, 1), dims=(4, 12, 8, 20))
VARIANTS_HERE = {"test_v1": VARIANTS["test_v1"], "test_v2": VARIANTS["test_v2"], "custom": CUSTOM}


def _random(rng, name, shape):
    """Of ordinary size, layer scale and GRN included: their initial values hide what is broken."""
    values = rng.standard_normal(shape, np.float32)
    if name.endswith("kernel"):
        fan_in = 49 if "dwconv" in name else math.prod(shape[:-1])
        return values / np.float32(math.sqrt(fan_in))
    return values / 2 + np.float32("gamma" in name)


def make_network(variant="test_v2", side=32, *, strides=None, any_size=False, **options):
    """A network with random weights; `edit` may change them by name."""
    edit = options.pop("edit", {})
    shapes = parameter_shapes(VARIANTS_HERE[variant], options.pop("num_classes", 7), **options)
    rng = np.random.default_rng(0)
    arrays = {name: _random(rng, name, shape) for name, shape in shapes.items()} | edit
    tensors = {name: LazyTensor.from_array(array) for name, array in arrays.items()}
    found = recognise(shapes, "convnext")
    weights = CanonicalWeights(tensors, found, WeightsInfo(), "weights in a test")
    recipe = Preprocess(size=side, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    if any_size:
        return Network(weights, recipe, None, PUBLISHED_STRIDES)
    return Network(weights, recipe, (side, side), strides or adapted_strides(side, side))


def convolve(x, kernel, bias, stride, pads=False, groups=False):
    """`(B, H, W, in)` with `(h, w, in, out)`, or with `(h, w, in)` channel by channel."""
    side = kernel.shape[0]
    if pads:
        margins = []
        for length in x.shape[1:3]:
            total = max((-(-length // stride) - 1) * stride + side - length, 0)
            margins.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *margins, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    windows = windows[:, ::stride, ::stride]  # (B, H', W', in, h, w)
    rule = "bxyihw,hwi->bxyi" if groups else "bxyihw,hwio->bxyo"
    return np.einsum(rule, windows, kernel, optimize=True) + bias


def norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def grn(x, gamma, beta):
    length = np.sqrt((x**2).sum((1, 2), keepdims=True))
    return gamma * (x * length / (length.mean(-1, keepdims=True) + 1e-6)) + beta + x


@dataclass
class Written:
    """The architecture as it is written, over a network's parameters."""

    network: Network

    def p(self, name):
        return self.network.values(name).astype(np.float64)

    def affine(self, x, name):
        return norm(x) * self.p(f"{name}.gamma") + self.p(f"{name}.beta")

    def linear(self, x, name):
        return x @ self.p(f"{name}.kernel") + self.p(f"{name}.bias")

    def conv(self, x, name, stride, published):
        kernel, bias = self.p(f"{name}.kernel"), self.p(f"{name}.bias")
        return convolve(x, kernel, bias, stride, pads=stride != published)

    def block(self, x, name):
        kernel, bias = self.p(f"{name}.dwconv.kernel")[..., 0], self.p(f"{name}.dwconv.bias")
        y = convolve(x, kernel, bias, 1, pads=True, groups=True)
        y = gelu(self.linear(self.affine(y, f"{name}.norm"), f"{name}.pwconv1"))
        if self.network.variant.has_grn:
            y = grn(y, self.p(f"{name}.grn.gamma"), self.p(f"{name}.grn.beta"))
        y = self.linear(y, f"{name}.pwconv2")
        if f"{name}.layer_scale.gamma" in self.network.weights.tensors:
            y = y * self.p(f"{name}.layer_scale.gamma")
        return x + y


def evaluate(network, pictures):
    """Every output of a network for a batch."""
    written = Written(network)
    x = pictures.astype(np.float64)
    if pictures.dtype == np.uint8:
        recipe = network.preprocess
        x = (x * recipe.rescale - recipe.mean) / recipe.std
    results = {}
    for stage, depth in enumerate(network.variant.depths):
        if stage == 0:
            x = written.affine(written.conv(x, "stem_conv", network.strides[0], 4), "stem_norm")
        else:
            x = written.affine(x, f"downsample_{stage}_norm")
            x = written.conv(x, f"downsample_{stage}_conv", network.strides[stage], 2)
        for index in range(depth):
            x = written.block(x, f"stage_{stage}_block_{index}")
        results[f"stage_{stage}"] = x
    if network.weights.found.head_norm:
        results["embedding"] = written.affine(x.mean((1, 2)), "head_norm")
    if network.num_classes:
        results["logits"] = written.linear(results["embedding"], "head")
    return results


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
    variants = tuple(VARIANTS_HERE)


@pytest.fixture(scope="session")
def oracle():
    return Oracle
