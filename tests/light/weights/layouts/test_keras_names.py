"""How Keras spells one variable in its several kinds of file."""

import pytest

from convnext.architecture import VARIANTS
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts import foreign_rows, recognise
from convnext.weights.layouts.keras_archive import variable_path
from convnext.weights.layouts.keras_names import short

VARIANT = VARIANTS["test_v1"]
SHAPES = parameter_shapes(VARIANT, 4)


def spelled(layout="keras_applications"):
    rows = foreign_rows(SHAPES, layout, VARIANT)
    return {row.foreign: row.move.written_shape(SHAPES[name]) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnext_tiny_stem/convnext_tiny_stem_conv/kernel:0", "convnext_tiny_stem_conv/kernel"),
        ("stem_conv/stem_conv/bias", "stem_conv/bias"),
        ("stack1_block1_dw_conv/depthwise_kernel:0", "stack1_block1_dw_conv/kernel"),
        ("x_layer_scale/Variable:0", "x_layer_scale/gamma"),
        ("x_layer_scale/variable_17", "x_layer_scale/gamma"),
        ("head_dense/kernel_1:0", "head_dense/kernel"),
    ],
)
def test_a_name_boils_down_to_layer_and_variable(name, expected):
    assert short(name) == expected


def legacy(name):
    layer = name.rpartition("/")[0]
    return f"{layer.partition('/')[0]}/{name}:0"


@pytest.mark.parametrize("layout", ["keras_applications", "kecam"])
def test_names_of_a_legacy_file(layout):
    recognised = recognise({legacy(name): shape for name, shape in spelled(layout).items()})
    assert (recognised.layout, recognised.variant) == (layout, VARIANT)


def test_the_unnamed_norm_of_a_model_without_a_top():
    names = {name: shape for name, shape in spelled().items() if "head" not in name}
    names |= {"layer_normalization_23/gamma": (32,), "layer_normalization_23/beta": (32,)}
    recognised = recognise(names)
    assert (recognised.head_norm, recognised.num_classes) == (True, 0)
    assert recognised.sources["head_norm.beta"].name == "layer_normalization_23/beta"


def test_depthwise_kernels_of_both_kinds():
    names = spelled()
    other = {
        n: (*s[:2], s[3], 1) if n.endswith("depthwise_conv/kernel") else s for n, s in names.items()
    }
    assert other != names
    assert recognise(other).shapes == recognise(names).shapes


ARCHIVE = {
    "layers/sequential/layers/conv2d/vars/0": (4, 4, 3, 8),
    "layers/sequential/layers/conv2d/vars/1": (8,),
    "layers/block_2/norm/vars/0": (8,),
    "layers/block_2/norm/vars/1": (8,),
    "layers/unnamed/vars/0": (3,),
    "optimizer/vars/0": (),
    "short": (),
}
ANNOTATIONS = {
    "layers/sequential/vars@name": "tiny_stem",
    "layers/sequential/layers/conv2d/vars@name": "tiny_stem_conv",
    "layers/block_2/vars@name": "stage_0_block_1",
    "layers/block_2/norm/vars@name": "norm",
    "optimizer/vars@name": "adamw",
}


def test_an_archive_is_read_by_its_layers_names():
    assert [variable_path(name, ARCHIVE, ANNOTATIONS) for name in ARCHIVE] == [
        "tiny_stem/tiny_stem_conv/kernel",
        "tiny_stem/tiny_stem_conv/bias",
        "stage_0_block_1/norm/gamma",
        "stage_0_block_1/norm/beta",
        "layers/unnamed/vars/0",
        "optimizer/vars/0",
        "short",
    ]


def test_a_second_variable_without_a_first_keeps_its_name():
    name = "layers/dense/vars/1"
    assert variable_path(name, {name: (2,)}, {"layers/dense/vars@name": "head"}) == name
