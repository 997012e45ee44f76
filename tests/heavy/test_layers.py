"""Each layer against an independent computation, in every precision, on the running backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from convnext.nn.block import Block
from convnext.nn.initializers import Normal, undrawn
from convnext.nn.layers import GRN, DepthwiseConv, DropPath, LayerScale, Linear, PatchConv
from peers import as_numpy, backward, pictures, relative_error

LAYERS = [
    DepthwiseConv(7),
    Linear(12, "gelu"),
    PatchConv(6, 2, 2),
    PatchConv(6, 4, 1),
    GRN(),
    LayerScale(0.5),
    DropPath(0.3),
]


def randomized(layer, shape, seed=3):
    layer.build(shape)
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape).astype("float32"))
    return layer


def depthwise_by_definition(x, kernel, bias):
    side = kernel.shape[0]
    edge = side // 2
    padded = np.pad(x.astype("float64"), ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    out = np.zeros(x.shape)
    for i in range(side):
        for j in range(side):
            shifted = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += shifted * kernel[i, j, :, 0]
    return out + bias


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (56, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_depthwise_is_the_definition(batch, size):
    x = pictures(batch, *size, 5)
    layer = randomized(DepthwiseConv(7), x.shape)
    kernel, bias = (as_numpy(weight) for weight in layer.weights)
    assert relative_error(layer(x), depthwise_by_definition(x, kernel, bias)) < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 20)])
def test_depthwise_gradients_equal_those_of_keras(size):
    x, towards = pictures(2, *size, 6), pictures(2, *size, 6, seed=5)
    ours = randomized(DepthwiseConv(7), x.shape)
    theirs = randomized(keras.layers.DepthwiseConv2D(7, padding="same"), x.shape)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    for got, expected in zip(backward(ours, x, towards), backward(theirs, x, towards), strict=True):
        assert relative_error(got, expected) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [DepthwiseConv(7), GRN(), LayerScale(), Linear(3), PatchConv(3, 4, 4), PatchConv(3, 4, 1)],
)
def test_an_empty_batch_stays_empty(layer):
    shape = layer.compute_output_shape((0, 8, 8, 4))
    assert tuple(layer(np.zeros((0, 8, 8, 4), "float32")).shape) == shape


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_linear_equals_dense(activation):
    x, towards = pictures(2, 3, 5, 8), pictures(2, 3, 5, 12, seed=5)
    layers = Linear(12, activation), keras.layers.Dense(12, activation)
    ours, theirs = (randomized(layer, x.shape) for layer in layers)
    assert relative_error(ours(x), theirs(x)) < 1e-6
    for got, expected in zip(backward(ours, x, towards), backward(theirs, x, towards), strict=True):
        assert relative_error(got, expected) < 1e-5


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [((8, 8), 4, 4), ((13, 10), 2, 2), ((13, 10), 4, 2), ((8, 8), 4, 1), ((13, 10), 2, 1)],
)
def test_patch_conv_equals_conv2d(size, kernel, stride):
    x = pictures(2, *size, 3)
    padding = "valid" if kernel == stride else "same"
    ours = randomized(PatchConv(5, kernel, stride), x.shape)
    theirs = randomized(keras.layers.Conv2D(5, kernel, stride, padding=padding), x.shape)
    assert relative_error(ours(x), theirs(x)) < 1e-6
    assert ours.compute_output_shape((None, *size, 3)) == theirs.compute_output_shape(
        (None, *size, 3)
    )
    towards = pictures(*ours(x).shape, seed=5)
    for got, expected in zip(backward(ours, x, towards), backward(theirs, x, towards), strict=True):
        assert relative_error(got, expected) < 1e-5


def grn_by_definition(x, gamma, beta):
    x = x.astype("float64")
    norm = np.sqrt((x**2).sum(axis=(1, 2), keepdims=True))
    return gamma * (x * (norm / (norm.mean(axis=-1, keepdims=True) + 1e-6))) + beta + x


def test_grn_is_the_definition():
    x = pictures(3, 5, 4, 6)
    layer = randomized(GRN(), x.shape)
    gamma, beta = (as_numpy(weight) for weight in layer.weights)
    assert [tuple(weight.shape) for weight in layer.weights] == [(6,), (6,)]
    assert relative_error(layer(x), grn_by_definition(x, gamma, beta)) < 1e-6


def test_grn_starts_as_the_identity():
    x = pictures(2, 4, 4, 3)
    np.testing.assert_array_equal(as_numpy(GRN()(x)), x)


def test_grn_looks_at_each_picture_alone():
    x = pictures(2, 4, 4, 3)
    layer = randomized(GRN(), x.shape)
    other = np.concatenate([x[:1], 100 * x[1:]])
    np.testing.assert_array_equal(as_numpy(layer(x))[0], as_numpy(layer(other))[0])


def test_grn_gradient_is_finite_at_zero():
    x, towards = np.zeros((2, 4, 4, 3), "float32"), pictures(2, 4, 4, 3)
    layer = randomized(GRN(), x.shape)
    for gradient in backward(layer, x, towards):
        assert np.isfinite(as_numpy(gradient)).all()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_grn_norms_do_not_overflow_in_half_precision(precision):
    x = 1000 * pictures(1, 64, 64, 4)
    layer = randomized(GRN(dtype=precision), x.shape)
    gamma, beta = (as_numpy(weight) for weight in layer.weights)
    got = as_numpy(ops.cast(layer(x), "float32"))
    assert relative_error(got, grn_by_definition(x, gamma, beta)) < 1e-2


def test_drop_path_drops_whole_pictures_and_keeps_the_expectation():
    x = np.ones((4000, 2, 2, 3), "float32")
    out = as_numpy(DropPath(0.3, seed=1)(x, training=True))
    values = out.reshape(len(out), -1)
    assert (values == values[:, :1]).all()
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)
    # The share dropped has a standard deviation of 0.007; four of them.
    assert abs((values[:, 0] == 0).mean() - 0.3) < 0.03
    assert abs(out.mean() - 1) < 0.05


def test_drop_path_does_nothing_at_inference_or_at_rate_zero():
    x = pictures(8, 2, 2, 3)
    np.testing.assert_array_equal(as_numpy(DropPath(0.9)(x, training=False)), x)
    np.testing.assert_array_equal(as_numpy(DropPath(0.9)(x)), x)
    np.testing.assert_array_equal(as_numpy(DropPath(0.0)(x, training=True)), x)
    assert not DropPath(0.0).variables


def test_drop_path_draws_anew_each_time():
    layer = DropPath(0.5, seed=1)
    x = np.ones((64, 1, 1, 1), "float32")
    first, second = (as_numpy(layer(x, training=True)) for _ in range(2))
    assert (first != second).any()


def test_initial_values_are_normal_and_follow_the_seed():
    keras.utils.set_random_seed(7)
    first, second = Normal(0.02), Normal(0.02)
    values = as_numpy(first((400, 300)))
    assert abs(values.std() - 0.02) < 2e-4
    assert abs(values.mean()) < 2e-4
    assert np.abs(values).max() > 0.06  # not truncated at two deviations
    assert (values != as_numpy(second((400, 300)))).any()
    keras.utils.set_random_seed(7)
    np.testing.assert_array_equal(values, as_numpy(Normal(0.02)((400, 300))))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_config_round_trip(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert keras.saving.get_registered_name(type(layer)).startswith("convnext>")
    shape = (None, 8, 8, 4)
    assert layer.compute_output_shape(shape) == tuple(layer(keras.KerasTensor(shape)).shape)


def test_values_that_are_loaded_are_not_drawn():
    with undrawn():
        assert not np.any(keras.ops.convert_to_numpy(Normal(0.02)((3, 4))))
        with undrawn(loaded=False):
            assert np.all(keras.ops.convert_to_numpy(Normal(0.02)((3, 4))))
    assert np.all(keras.ops.convert_to_numpy(Normal(0.02)((3, 4))))


@pytest.mark.parametrize("precision", ["float64", "float32", "mixed_bfloat16"])
@pytest.mark.parametrize("size", [(9, 10), (4, 5)])
def test_gradients_of_a_block_in_training_are_the_plain_ones(size, precision):
    backend = keras.backend.backend()
    if precision == "float64" and backend == "jax":
        pytest.skip("JAX has no float64 unless it is told")
    bound = {"float64": 2e-7, "float32": 1e-5, "mixed_bfloat16": 2**-4}[precision]
    x, towards = pictures(2, *size, 6), pictures(2, *size, 6, seed=5)
    towards = towards.astype("float64" if precision == "float64" else "float32")
    block = randomized(Block(layer_scale=0.5, dtype=precision), x.shape)
    reference = "float32" if backend == "jax" else "float64"
    exact = randomized(Block(layer_scale=0.5, dtype=reference), x.shape)
    expected = backward(exact, x.astype(reference), towards.astype(reference), training=False)
    wide = block
    if precision == "mixed_bfloat16":
        wide = _InFloat32(block)
        wide.built = True
    for got, of in zip(backward(wide, x, towards, training=True), expected, strict=True):
        assert relative_error(got, of) < bound


class _InFloat32(keras.layers.Layer):
    """A layer with its output in float32."""

    def __init__(self, layer):
        super().__init__(dtype="float32")
        self.layer = layer

    def call(self, x, training=None):
        return ops.cast(self.layer(x, training=training), "float32")


@pytest.mark.torch_alone
@pytest.mark.parametrize("size", [(9, 10), (4, 5), (1, 1)])
@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 2**-7), ("float32", 1e-6)])
def test_pytorchs_depthwise_gradients_are_exact(size, precision, bound):
    import torch

    from convnext.nn.torch_depthwise import depthwise_conv

    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    shapes = [(4, 8, *size), (8, 1, 7, 7), (8,)]
    given = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    gradient = torch.randn(shapes[0]).to(dtype)
    depthwise_conv(*given).backward(gradient)
    torch.conv2d(*exact, padding=3, groups=8).backward(gradient.double())
    for ours, theirs in zip(given, exact, strict=True):
        assert ours.grad.dtype == dtype
        assert (ours.grad - theirs.grad).abs().max() <= bound * theirs.grad.abs().max()


@pytest.mark.torch_alone
@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 2**-6), ("float32", 1e-6)])
def test_pytorchs_grn_gradients_are_those_of_autograd(precision, bound):
    import torch

    from convnext.nn.torch_grn import grn

    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    given = [torch.randn(shape).to(dtype) for shape in [(4, 5, 6, 8), (8,), (8,)]]
    given[0][1, :, :, 2] = 0
    gradient = torch.randn(4, 5, 6, 8).to(dtype)
    exact = [tensor.double().requires_grad_() for tensor in given]
    x, gamma, beta = exact
    norm = (x**2).sum((1, 2), keepdim=True).clamp_min(1e-24).sqrt()
    y = gamma * (x * norm / (norm.mean(-1, keepdim=True) + 1e-6)) + beta + x
    y.backward(gradient.double())
    given = [tensor.requires_grad_() for tensor in given]
    grn(*given, 1e-6, 1e-24).backward(gradient)
    for ours, theirs in zip(given, exact, strict=True):
        assert (ours.grad - theirs.grad).abs().max() <= bound * theirs.grad.abs().max()


@pytest.mark.torch_alone
@pytest.mark.parametrize("positions", [(2, 2), (6, 5)])  # layer scale outside, and inside
@pytest.mark.parametrize("traits", ["layer scale", "grn", "neither"])
@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 2**-5), ("float32", 1e-6)])
def test_pytorchs_bottleneck_is_its_layers(monkeypatch, positions, traits, precision, bound):
    import torch

    from convnext.nn import torch_bottleneck
    from convnext.nn.torch_grn import grn

    for name in ("SMALLEST", "PRODUCTS"):  # three parts of the larger maps
        monkeypatch.setattr(torch_bottleneck, name, 6)
    torch.manual_seed(0)
    dtype = getattr(torch, precision)
    shapes = [(5, *positions, 8), (8, 32), (32,), (32, 8), (8,)]
    shapes += [(32,), (32,)] if traits == "grn" else []
    shapes += [(8,)] if traits == "layer scale" else []
    given = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    gradient = torch.randn(shapes[0]).to(dtype)

    parameters = dict(zip(("kernel_1", "bias_1", "kernel_2", "bias_2"), given[1:5], strict=True))
    parameters |= {"grn": dict(zip(("gamma", "beta"), given[5:], strict=False))}.get(traits, {})
    if traits == "layer scale":
        parameters["scale"] = given[5]
    layers = torch_bottleneck.Bottleneck(**parameters)
    found = torch_bottleneck.bottleneck(given[0], layers, 1e-6, 1e-24)
    found.backward(gradient)

    x, kernel_1, bias_1, kernel_2, bias_2, *others = exact
    y = torch.nn.functional.gelu(x @ kernel_1 + bias_1)
    if traits == "grn":
        y = grn(y, *others, 1e-6, 1e-24)
    y = y @ kernel_2 + bias_2
    if traits == "layer scale":
        y = y * others[0]
    y.backward(gradient.double())

    assert (found - y).abs().max() <= bound * y.abs().max()
    for ours, theirs in zip(given, exact, strict=True):
        assert ours.grad.dtype == dtype
        assert (ours.grad - theirs.grad).abs().max() <= bound * theirs.grad.abs().max()


@pytest.mark.torch_alone
@pytest.mark.parametrize("traits", [{"layer_scale": 0.5}, {"grn": True}])
def test_a_block_in_training_on_pytorch_keeps_less_and_computes_the_same(monkeypatch, traits):
    import torch

    from convnext.nn import block as module

    block = module.Block(**traits)
    block.build((None, 6, 6, 16))
    for variable in block.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    pictures = torch.randn(4, 6, 6, 16)

    def step(less):
        monkeypatch.setattr(module, "keeps_less", lambda *_: less)
        kept = []
        block.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            result = block(pictures, training=True)
        result.square().mean().backward()
        numbers = [result.detach(), *(v.value.grad for v in block.trainable_variables)]
        wide = {t.data_ptr() for t in kept if t.numel() == 4 * pictures.numel()}
        return numbers, len(wide)

    (usual, more), (ours, less) = step(False), step(True)
    assert less == 1 < more
    for found, expected in zip(ours, usual, strict=True):
        assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
