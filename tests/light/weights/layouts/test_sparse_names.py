"""FCMAE's sparse training files, against the authors' layout written out element by element."""

from dataclasses import replace

import numpy as np
import pytest

from convnext.weights.canonical import decoder_shapes, parameter_shapes
from convnext.weights.layouts import recognise, to_canonical, to_foreign


def sparse_kernel(dense):
    """(out, in, k, k), in = 1 for depthwise, to (k * k, in, out) or (k * k, C): columns first."""
    out, into, side, _ = dense.shape
    kernel = np.empty((side * side, into, out), dense.dtype)
    for row in range(side):
        for column in range(side):
            for i in range(into):
                for o in range(out):
                    kernel[column * side + row, i, o] = dense[o, i, row, column]
    return kernel


def sparse_file(dense):
    """The authors' dense state dict as their sparse training writes it."""
    sparse = {}
    for name, array in dense.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith("downsample_layers.0"):
            pass  # the stem is dense
        elif name.endswith("dwconv.weight"):
            name, array = f"{layer}.kernel", sparse_kernel(array)[:, 0]
        elif array.ndim == 4 and kind == "weight":
            name, array = f"{layer}.kernel", sparse_kernel(array)
        elif kind == "bias" and (layer.endswith(("dwconv", ".1"))):
            array = array[None]
        elif "pwconv" in layer:
            name = f"{layer}.linear.{kind}"
        elif layer.endswith(("norm", ".0")):
            name = f"{layer}.ln.{kind}"
        elif "grn" in layer:
            array = array[0, 0]
        sparse[f"encoder.{name}"] = array
    return sparse


@pytest.fixture
def encoder(odd_variant, numbered):
    variant = odd_variant("v2")
    return variant, numbered(parameter_shapes(replace(variant, head="none"), 0))


def test_a_sparse_encoder_is_read(encoder, same_weights):
    variant, ours = encoder
    same_weights(to_canonical(sparse_file(to_foreign(ours, "facebook", variant))), ours)


def test_a_sparse_encoder_is_written(encoder):
    variant, ours = encoder
    expected = sparse_file(to_foreign(ours, "facebook", variant))
    written = to_foreign(ours, "fcmae", variant)
    assert written.keys() == expected.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def test_a_whole_training_file(encoder, numbered, same_weights):
    variant, ours = encoder
    width, outputs = 6, 32 * 32 * 3
    decoder = numbered(decoder_shapes(variant, outputs, width=width, depth=2))
    theirs = to_foreign(ours | decoder, "fcmae", variant)
    extra = {name: array.shape for name, array in theirs.items() if "encoder." not in name}
    block = {
        "dwconv.weight": (6, 1, 7, 7),
        "dwconv.bias": (6,),
        "norm.weight": (6,),
        "norm.bias": (6,),
        "pwconv1.weight": (24, 6),
        "pwconv1.bias": (24,),
        "grn.gamma": (1, 1, 1, 24),
        "grn.beta": (1, 1, 1, 24),
        "pwconv2.weight": (6, 24),
        "pwconv2.bias": (6,),
    }
    assert extra == {
        "mask_token": (1, 6, 1, 1),
        "proj.weight": (6, variant.dims[-1], 1, 1),
        "proj.bias": (6,),
        **{f"decoder.{j}.{name}": shape for j in (0, 1) for name, shape in block.items()},
        "pred.weight": (3072, 6, 1, 1),
        "pred.bias": (3072,),
    }
    under_model = {f"model.{name}": array for name, array in theirs.items()}
    assert recognise({name: array.shape for name, array in under_model.items()}).layout == "fcmae"
    same_weights(to_canonical(under_model), ours | decoder)
