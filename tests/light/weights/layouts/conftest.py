"""Weights to convert: every number another, so that no two axes can be confused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from contracts import assert_same_weights
from convnext.architecture import Architecture


def _numbered(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    arrays, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        arrays[name] = np.arange(start, start + count, dtype=np.int32).reshape(shape)
        start += count
    return arrays


@pytest.fixture
def numbered():
    """`numbered(shapes)`: an array for each shape, no number twice in all of them."""
    return _numbered


@pytest.fixture
def same_weights():
    """`same_weights(a, b)`: the same names in the same order with the same numbers."""
    return assert_same_weights


@pytest.fixture
def odd_variant():
    """Sizes of which nobody published anything, no two alike."""

    def make(family: str) -> Architecture:
        v2, sizes = family == "v2", ((1, 2, 3, 1), (3, 5, 7, 11))
        name = "convnextv2_custom" if v2 else "convnext_custom"
        return Architecture(name, "custom", *sizes, grn=v2, layer_scale=not v2)

    return make
