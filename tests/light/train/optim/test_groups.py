from __future__ import annotations

import pytest

from convnext.architecture import VARIANTS
from convnext.errors import ArgumentError
from convnext.train.optim.groups import layer_number, parameter_groups
from convnext.weights.canonical import parameter_shapes

# The authors' layer numbers, written out from their two repositories' tables.
TWELVE = {
    "stem_conv.kernel": 0,
    "stem_norm.gamma": 0,
    "stage_0_block_2.pwconv1.kernel": 1,
    "downsample_1_conv.kernel": 2,
    "stage_1_block_0.norm.beta": 2,
    "downsample_2_norm.gamma": 3,
    "stage_2_block_0.dwconv.kernel": 3,
    "stage_2_block_2.dwconv.kernel": 3,
    "stage_2_block_3.dwconv.kernel": 4,
    "stage_2_block_26.dwconv.kernel": 11,
    "downsample_3_conv.bias": 12,
    "stage_3_block_2.layer_scale.gamma": 12,
    "head_norm.gamma": 13,
    "head.kernel": 13,
}
SINGLE = {  # of depths 2, 2, 6, 2
    "stem_conv.kernel": 1,
    "stage_0_block_0.dwconv.kernel": 1,
    "stage_0_block_1.dwconv.kernel": 2,
    "downsample_1_conv.kernel": 3,
    "stage_1_block_0.norm.beta": 3,
    "downsample_2_conv.kernel": 5,
    "stage_2_block_5.grn.gamma": 10,
    "downsample_3_norm.beta": 11,
    "stage_3_block_1.pwconv2.kernel": 12,
    "head_norm.beta": 13,
    "head.bias": 13,
}


@pytest.mark.parametrize(("name", "number"), TWELVE.items())
def test_twelve_groups_are_the_authors(name, number):
    assert layer_number(name, VARIANTS["convnext_base"], "twelve") == number


@pytest.mark.parametrize(("name", "number"), SINGLE.items())
def test_single_layers_are_the_authors(name, number):
    assert layer_number(name, VARIANTS["convnextv2_atto"], "single") == number


@pytest.mark.parametrize(
    ("name", "tiny", "base"),
    [
        ("stem_conv.kernel", 0, 0),
        ("downsample_3_conv.kernel", 0, 0),
        ("stage_0_block_1.dwconv.kernel", 1, 1),
        ("stage_3_block_2.grn.gamma", 4, 4),
        ("feature_2_norm.gamma", 7, 13),
        ("segment_fuse_conv.kernel", 7, 13),
    ],
)
def test_stages_are_mmsegmentations(name, tiny, base):
    """Decays of 0.9 ** 7 and 0.9 ** 13 for the stem: num_layers of 6 and 12, and two more."""
    assert layer_number(name, VARIANTS["convnext_tiny"], "stages") == tiny
    assert layer_number(name, VARIANTS["convnext_base"], "stages") == base


def test_the_learning_rate_falls_from_head_to_stem():
    names = parameter_shapes(VARIANTS["convnext_base"])
    groups = parameter_groups(names, VARIANTS["convnext_base"], 0.8, "twelve")
    assert groups["head.kernel"].scale == 1
    assert groups["stage_3_block_0.norm.gamma"].scale == pytest.approx(0.8)
    assert groups["stem_conv.kernel"].scale == pytest.approx(0.8**13)


@pytest.mark.parametrize("variant", ["convnext_tiny", "convnextv2_tiny"])
def test_only_kernels_decay(variant):
    names = parameter_shapes(VARIANTS[variant])
    groups = parameter_groups(names, VARIANTS[variant])
    decaying = {name for name, group in groups.items() if group.decays}
    assert decaying == {name for name in names if name.endswith(".kernel")}
    assert {group.scale for group in groups.values()} == {1.0}


def test_twelve_groups_of_a_shallow_network_are_refused():
    with pytest.raises(ArgumentError, match='layer_groups = "single"'):
        parameter_groups(["head.kernel"], VARIANTS["convnext_tiny"], 0.8, "twelve")
