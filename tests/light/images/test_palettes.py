"""Colours of classes."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.images.labels import Labels, labels_for
from convnext.images.palettes import palette


def test_ade20k_has_its_150_names_and_colours():
    labels, colours = labels_for("ade20k"), palette(labels_for("ade20k"))
    assert (len(labels), len(set(labels.names)), labels.wnids) == (150, 150, ())
    assert colours.shape == (150, 3)
    assert colours.dtype == np.uint8
    known = {
        "wall": (120, 120, 120),
        "sky": (6, 230, 230),
        "person": (150, 5, 61),
        "car": (0, 102, 200),
        "van": (163, 255, 0),
        "flag": (92, 0, 255),
    }
    assert {name: tuple(colours[labels.names.index(name)]) for name in known} == known
    assert len(np.unique(colours, axis=0)) == 149, "road and skyscraper share one"


@pytest.mark.parametrize("count", [0, 1, 21, 256])
def test_other_classes_have_colours_of_their_own(count: int):
    colours = palette(count)
    assert colours.shape == (count, 3)
    assert len(np.unique(colours, axis=0)) == count


def test_few_classes_are_easily_told_apart_and_keep_their_colours():
    colours = palette(12).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=-1) + 765 * np.eye(12, dtype=int)
    assert apart.min() > 60
    named = Labels(tuple(f"class {number}" for number in range(5)))
    np.testing.assert_array_equal(palette(named), palette(12)[:5])
