"""Segmentation heads as steps: the sizes of the papers' networks, and their numbers in files."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.architecture import ARCHITECTURES
from convnext.engines import quantize
from convnext.errors import ArgumentError
from convnext.segmentation import SegmentationHead, checked_bins
from convnext.steps import operations, parameters
from convnext.weights.catalog import CHECKPOINTS
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

# The authors' README (semantic_segmentation): millions of parameters, and giga multiply-accumulates
# at four crops side by side, 2048 x 512 or 2560 x 640.
PUBLISHED = {
    "convnext_tiny.fb_in1k_upernet_ade20k": (60, 939),
    "convnext_small.fb_in1k_upernet_ade20k": (82, 1027),
    "convnext_base.fb_in1k_upernet_ade20k": (122, 1170),
    "convnext_base.fb_in22k_upernet_ade20k_640": (122, 1828),
    "convnext_large.fb_in22k_upernet_ade20k_640": (235, 2458),
    "convnext_xlarge.fb_in22k_upernet_ade20k_640": (391, 3335),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    row, (millions, gmacs) = CHECKPOINTS[name], PUBLISHED[name]
    assert round(row.parameters / 1e6) == millions
    steps = tuple(row.segmentation.network_steps(ARCHITECTURES[row.variant], 150))
    wide = operations(steps, row.resolution, 4 * row.resolution)
    assert wide / 1e9 == pytest.approx(gmacs, rel=5e-4)


def test_tiny_to_the_digit():
    row = CHECKPOINTS["convnext_tiny.fb_in1k_upernet_ade20k"]
    assert row.parameters == 60_242_636  # with the auxiliary head
    assert round(row.macs / 1e9, 1) == 234.7


def test_statistics_of_batch_norms_are_no_trained_parameters():
    architecture, head = ARCHITECTURES["test_v1"], SegmentationHead("upernet", 8)
    names = parameters(head.network_steps(architecture, 3))
    statistics = [name for name in names if "moving" in name]
    assert len(statistics) == 2 * 12
    everything = sum(_product(shape) for shape in names.values())
    assert head.parameter_count(architecture, 3) == everything - len(statistics) * 8


def _product(shape):
    total = 1
    for side in shape:
        total *= side
    return total


@pytest.mark.parametrize("bins", [[1, 2, 3, 6], (5,)])
def test_grids_in_a_file(bins):
    assert checked_bins(bins) == tuple(bins)


@pytest.mark.parametrize("bins", [[], "1236", [0], [1, 2.5], [True], [65], [1] * 9, None, {"a": 1}])
def test_impossible_grids_in_a_file(bins):
    with pytest.raises(ValueError, match="1 to 8 numbers from 1 to 64"):
        checked_bins(bins)


def test_a_single_map_is_refused():
    isotropic = ARCHITECTURES["convnext_isotropic_small"]
    with pytest.raises(ArgumentError, match="convnext_isotropic_small has one feature map"):
        list(SegmentationHead().steps(isotropic, 150))


def test_quantizing_compares_positions_of_a_few_pictures(tmp_path):
    pytest.importorskip("openvino")
    head, path = SegmentationHead("mlp", width=16), tmp_path / "a.safetensors"
    save_weights(random_weights(ARCHITECTURES["test_v2"], 3, segmentation=head), path)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    found = quantize(path, pixels, size=64).agreement
    assert found.pictures == 8 * 16 * 16
    assert found.top1 > 0.9
