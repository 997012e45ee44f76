"""TF-Hub's positional names, in the order that a SavedModel of that architecture has them."""

import numpy as np
import pytest

from convnext.architecture import Architecture
from convnext.errors import WeightsMismatchError
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts import recognise, to_canonical

DEPTHS = (1, 2, 3, 1)
DIMS = (3, 5, 7, 11)
VARIANT = Architecture("convnext_custom", "custom", DEPTHS, DIMS)


def layers():
    """Each layer's canonical name, and the shapes of its variables as tf.keras stores them."""
    yield "stem_conv", (4, 4, 3, DIMS[0]), (DIMS[0],)
    yield "stem_norm", (DIMS[0],), (DIMS[0],)
    for stage, (depth, dim) in enumerate(zip(DEPTHS, DIMS, strict=True)):
        if stage:
            yield f"downsample_{stage}_norm", (DIMS[stage - 1],), (DIMS[stage - 1],)
            yield f"downsample_{stage}_conv", (2, 2, DIMS[stage - 1], dim), (dim,)
        for block in range(depth):
            name = f"stage_{stage}_block_{block}"
            yield f"{name}.dwconv", (7, 7, 1, dim), (dim,)
            yield f"{name}.norm", (dim,), (dim,)
            yield f"{name}.pwconv1", (dim, 4 * dim), (4 * dim,)
            yield f"{name}.pwconv2", (4 * dim, dim), (dim,)
            yield f"{name}.layer_scale", (dim,)


def saved_model(suffix="", classes=4):
    """Names as in the file, each with its canonical name and a value of its own."""
    tensors, position = {}, 0
    for layer, *shapes in layers():
        roles = ("kernel", "bias") if len(shapes[0]) > 1 else ("gamma", "beta")
        for role, shape in zip(roles, shapes, strict=False):
            array = np.full(shape, position) + np.arange(np.prod(shape)).reshape(shape)
            tensors[f"variables/{position}{suffix}"] = (f"{layer}.{role}", array)
            position += 1
    outer = {"8/gamma": "head_norm.gamma", "8/beta": "head_norm.beta"}
    if classes:
        outer |= {"9/kernel": "head.kernel", "9/bias": "head.bias"}
    shapes = parameter_shapes(VARIANT, classes)
    for place, name in outer.items():
        array = np.random.default_rng(len(place)).normal(size=shapes[name])
        tensors[f"layer_with_weights-{place}{suffix}"] = (name, array)
    return tensors


@pytest.mark.parametrize("suffix", ["", "/.ATTRIBUTES/VARIABLE_VALUE"])
@pytest.mark.parametrize("classes", [4, 0])
def test_positions_are_told_apart_by_the_kernels_among_them(suffix, classes):
    tensors = saved_model(suffix, classes)
    in_the_order_of_text = dict(sorted(tensors.items()))
    foreign = {name: array for name, (_, array) in in_the_order_of_text.items()}
    recognised = recognise({name: array.shape for name, array in foreign.items()})
    assert (recognised.layout, recognised.num_classes) == ("tf_hub", classes)
    assert recognised.variant == VARIANT
    ours = to_canonical(foreign)
    for canonical, array in tensors.values():
        moved = array.swapaxes(2, 3) if canonical.endswith("dwconv.kernel") else array
        np.testing.assert_array_equal(ours[canonical], moved, err_msg=canonical, strict=True)


def test_a_checkpoint_with_a_position_missing_is_refused():
    shapes = {name: array.shape for name, (_, array) in saved_model().items()}
    del shapes["variables/9"]
    with pytest.raises(WeightsMismatchError, match="'tf_hub', but they do not fit"):
        recognise(shapes)


def test_save_counters_are_ignored():
    shapes = {name: array.shape for name, (_, array) in saved_model().items()}
    assert recognise(shapes | {"save_counter": ()}).ignored == ("save_counter",)
