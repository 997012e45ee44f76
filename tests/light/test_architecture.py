"""The table of sizes against published numbers, and the arithmetic of sizes and strides."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.architecture import (
    PUBLISHED_STRIDES,
    VARIANTS,
    adapted_strides,
    feature_sizes,
    get_variant,
    sizes,
)
from convnext.errors import ArgumentError
from convnext.weights.canonical import parameter_shapes

# Parameters with 1000 classes: the papers' models; the others as timm 1.0.31 counts them. The
# isotropic ones add up the shapes of the authors' `models/convnext_isotropic.py`.
PARAMETERS = {
    "convnext_zepto_rms": 2_155_656,
    "convnext_zepto_rms_ols": 2_164_232,
    "convnext_atto_ols": 3_702_912,
    "convnext_atto_rms": 3_693_040,
    "convnext_femto_ols": 5_226_520,
    "convnext_pico_ols": 9_061_928,
    "convnext_nano_ols": 15_649_560,
    "convnext_tiny_hnf": 28_589_128,
    "convnext_large_mlp": 200_128_168,
    "convnext_xxlarge": 846_471_016,
    "convnext_isotropic_small": 22_308_712,
    "convnext_isotropic_base": 87_083_752,
    "convnext_isotropic_large": 305_942_504,
    "convnext_atto": 3_695_520,
    "convnext_femto": 5_217_784,
    "convnext_pico": 9_045_672,
    "convnext_nano": 15_593_560,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_xlarge": 350_196_968,
    "convnextv2_atto": 3_708_400,
    "convnextv2_femto": 5_233_240,
    "convnextv2_pico": 9_066_280,
    "convnextv2_nano": 15_623_800,
    "convnextv2_tiny": 28_635_496,
    "convnextv2_small": 50_318_440,
    "convnextv2_base": 88_717_800,
    "convnextv2_large": 197_956_840,
    "convnextv2_huge": 660_289_640,
}
PARAMETERS_22K = {
    "convnext_tiny": 44_615_857,
    "convnext_small": 66_250_417,
    "convnext_base": 109_953_489,
    "convnext_large": 229_799_953,
    "convnext_xlarge": 392_900_177,
}
# Giga multiply-accumulates at 224 as timm lists them, to the digits it lists.
GMACS = {
    "atto": 0.55,
    "femto": 0.79,
    "pico": 1.37,
    "nano": 2.46,
    "tiny": 4.47,
    "small": 8.71,
    "base": 15.38,
    "large": 34.4,
    "xlarge": 60.98,
    "huge": 115,
    "isotropic_small": 4.3,
    "isotropic_base": 16.9,
    "isotropic_large": 59.7,
}


def test_the_table_is_the_published_one():
    published = {name for name in VARIANTS if not name.startswith("test_")}
    assert published == PARAMETERS.keys()
    assert sizes("v1")[-4:] == ["xxlarge", *(f"isotropic_{s}" for s in ("small", "base", "large"))]
    assert sizes("v2")[-1] == "huge"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_to_the_last_digit(name):
    assert VARIANTS[name].parameter_count() == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS_22K)
def test_parameter_counts_with_22k_classes(name):
    assert VARIANTS[name].parameter_count(21_841) == PARAMETERS_22K[name]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (10, 1), (1000, 3)])
def test_counts_are_sums_over_the_canonical_shapes(name, classes, channels):
    variant = VARIANTS[name]
    shapes = parameter_shapes(variant, classes, channels)
    assert sum(map(math.prod, shapes.values())) == variant.parameter_count(classes, channels)


@pytest.mark.parametrize("name", [n for n in PARAMETERS if VARIANTS[n].size in GMACS])
def test_gmacs_within_one_percent(name):
    assert VARIANTS[name].macs() / 1e9 == pytest.approx(GMACS[VARIANTS[name].size], rel=0.01)


def test_gmacs_at_384_are_the_authors():
    # README of the authors' repositories, in units of 1e9.
    for name, expected in [
        ("convnext_tiny", 13.1),
        ("convnext_small", 25.5),
        ("convnext_large", 101),
    ]:
        assert VARIANTS[name].macs(384) / 1e9 == pytest.approx(expected, rel=0.01)


def test_a_variant_is_found_by_size_or_name_in_its_family():
    assert get_variant("v1", "tiny") is get_variant("v1", "convnext_tiny")
    with pytest.raises(ArgumentError, match="V1 variant: 'convnextv2_tiny'"):
        get_variant("v1", "convnextv2_tiny")


@given(st.integers(8, 600), st.integers(8, 600))
def test_the_last_map_keeps_four_pixels_and_no_stride_is_relaxed_without_need(height, width):
    strides = adapted_strides(height, width)
    maps = feature_sizes(height, width, strides)
    assert min(maps[-1]) >= 4
    if strides != PUBLISHED_STRIDES:
        assert min(feature_sizes(height, width)[-1]) < 4
        tighter = {
            (2, 2, 2, 2): (4, 2, 2, 2),
            (1, 2, 2, 2): (2, 2, 2, 2),
            (1, 1, 2, 2): (1, 2, 2, 2),
        }
        before = tighter.get(strides, (1, 1, 2, 2))
        assert min(feature_sizes(height, width, before)[-1]) < 4


@pytest.mark.parametrize(
    ("side", "last"),
    [(224, 7), (128, 4), (96, 6), (64, 4), (48, 6), (32, 4), (16, 4), (8, 4)],
)
def test_stated_last_maps(side, last):
    assert feature_sizes(side, side, adapted_strides(side, side))[-1] == (last, last)


def test_a_side_below_eight_is_refused():
    with pytest.raises(ArgumentError, match=r"224x7.*at least 8"):
        adapted_strides(224, 7)


def test_patches_of_16_are_cut_whatever_the_size():
    isotropic = VARIANTS["convnext_isotropic_small"]
    assert isotropic.geometry(32, 48).strides == (16,)
    assert isotropic.feature_sizes(224, 40) == [(14, 2)]
    with pytest.raises(ArgumentError, match=r"15x224.*convnext_isotropic_small.*at least 16"):
        isotropic.geometry(15, 224)
