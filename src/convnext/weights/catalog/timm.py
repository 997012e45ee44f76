"""Checkpoints trained by timm: small V1 models, its variants, ImageNet-12k, models for tests.

References:
    Names, inputs and accuracies: https://github.com/huggingface/pytorch-image-models
        (timm/models/convnext.py, results/results-imagenet.csv)
"""

from __future__ import annotations

from collections.abc import Iterator

from convnext.images.recipe import Preprocess
from convnext.weights.catalog.checkpoint import Checkpoint
from convnext.weights.catalog.groups import (
    CROP_224_WIDE,
    CROP_384,
    SQUASH_384,
    Group,
    Publisher,
    rows,
    unmeasured,
)

__all__ = ["timm_rows"]

HALF = (0.5, 0.5, 0.5)

_PUBLISHER = Publisher("convnext", "huggingface/pytorch-image-models", "Apache-2.0")
_GROUPS = (
    Group(
        "d2_in1k",
        {"atto": (None, 75.672, 92.914)},
        timm_release=("convnext_atto_d2-01bb0f51.pth", "01bb0f51"),
    ),
    Group(
        "a2_in1k",
        {"atto_ols": (None, 75.902, 92.842)},
        timm_release=("convnext_atto_ols_a2-78d1c8f3.pth", "78d1c8f3"),
    ),
    Group(
        "d1_in1k",
        {"femto": (None, 77.498, 93.678)},
        timm_release=("convnext_femto_d1-d71d5b4c.pth", "d71d5b4c"),
    ),
    Group(
        "d1_in1k",
        {"femto_ols": (None, 77.852, 93.826)},
        timm_release=("convnext_femto_ols_d1-246bf2ed.pth", "246bf2ed"),
    ),
    Group(
        "d1_in1k",
        {"pico": (None, 79.516, 94.554)},
        timm_release=("convnext_pico_d1-10ad7f0d.pth", "10ad7f0d"),
    ),
    Group(
        "d1_in1k",
        {"pico_ols": (None, 79.542, 94.706)},
        CROP_224_WIDE,
        timm_release=("convnext_pico_ols_d1-611f0ca7.pth", "611f0ca7"),
    ),
    Group(
        "d1h_in1k",
        {"nano": (None, 80.762, 95.332)},
        CROP_224_WIDE,
        timm_release=("convnext_nano_d1h-7eb4bdea.pth", "7eb4bdea"),
    ),
    Group(
        "d1h_in1k",
        {"nano_ols": (None, 80.906, 95.254)},
        CROP_224_WIDE,
        timm_release=("convnext_nano_ols_d1h-ae424a9a.pth", "ae424a9a"),
    ),
    Group(
        "a2h_in1k",
        {"tiny_hnf": (None, 82.230, 95.860)},
        CROP_224_WIDE,
        timm_release=("convnext_tiny_hnf_a2h-ab7e9df2.pth", "ab7e9df2"),
    ),
    Group(
        "ra4_e3600_r224_in1k",
        {"zepto_rms": (None, 72.820, 91.106)},
        Preprocess(mean=HALF, std=HALF),
    ),
    Group(
        "ra4_e3600_r224_in1k",
        {"zepto_rms_ols": (None, 73.234, 91.270)},
        Preprocess(crop_fraction=0.9, mean=HALF, std=HALF),
    ),
    Group("in12k", unmeasured("nano", "tiny", "small"), CROP_224_WIDE, "imagenet-12k"),
    Group(
        "in12k_ft_in1k",
        {
            "nano": (None, 82.306, 96.338),
            "tiny": (None, 84.192, 97.132),
            "small": (None, 85.164, 97.502),
        },
        CROP_224_WIDE,
    ),
    Group(
        "in12k_ft_in1k_384",
        {"tiny": (None, 85.154, 97.634), "small": (None, 86.186, 97.920)},
        SQUASH_384,
    ),
    Group("r384_in12k", unmeasured("nano"), CROP_384, "imagenet-12k"),
    Group("r384_ad_in12k", unmeasured("nano"), CROP_384, "imagenet-12k"),
    Group("r384_in12k_ft_in1k", {"nano": (None, 83.334, 96.624)}, CROP_384),
)

# A few hundred thousand parameters each: the smallest ConvNeXts with real weights.
_TEST_GROUP = Group(
    "r160_in1k",
    {
        "convnext": (None, 47.774, 74.166),
        "convnext2": (None, 53.520, 78.558),
        "convnext3": (None, 53.302, 78.326),
    },
    Preprocess(size=160, crop_fraction=0.95, mean=HALF, std=HALF),
)


def timm_rows() -> Iterator[Checkpoint]:
    """The rows of timm's checkpoints."""
    yield from rows(_PUBLISHER, _GROUPS)
    yield from rows(_PUBLISHER._replace(prefix="test"), [_TEST_GROUP])
