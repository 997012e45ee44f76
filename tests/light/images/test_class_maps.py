"""The class of each pixel against the scores of all pixels, resized by matrices."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.images import class_maps
from convnext.images.class_maps import Classes, View, class_map, classify, pixel_scores
from convnext.images.resizing import enlarged


def scores_of(height, width, classes, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((3, 4, classes)).astype(np.float32)
    return resized(coarse, (height, width)).astype(np.float32)


def resized(scores, sides):
    down, across = (enlarged(n, m) for n, m in zip(scores.shape, sides, strict=False))
    return np.einsum("yh,hwc,xw->yxc", down, scores, across, optimize=True)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("through", [None, (32, 32)])
@pytest.mark.parametrize("sides", [(50, 37), (9, 100), (1, 1)])
def test_classes(sides, through, monkeypatch):
    monkeypatch.setattr(class_maps, "PIXELS", 200)
    scores = scores_of(8, 8, 6)
    every = resized(scores if through is None else resized(scores, through), sides)
    found = class_map(scores, sides, through)
    np.testing.assert_array_equal(found.numbers, every.argmax(-1))
    assert found.numbers.dtype == np.uint8
    sure = class_map(scores, sides, through, confidence=True)
    np.testing.assert_array_equal(sure.numbers, found.numbers)
    np.testing.assert_allclose(sure.confidence, softmax(every).max(-1), atol=1e-3)
    for rows, part in pixel_scores(scores, sides, through):
        np.testing.assert_allclose(part, every[rows], atol=1e-5)


def test_the_probabilities_of_views_are_averaged():
    sides, views = (40, 30), [scores_of(8, 8, 5, seed) for seed in (1, 2)]
    views[0] *= 3
    expected = sum(softmax(resized(scores, sides)) for scores in views) / 2
    for confidence in (False, True):
        into = Classes.empty(sides, 5, confidence=confidence)
        classify([View.resized(scores, sides) for scores in views], into)
        np.testing.assert_array_equal(into.numbers, expected.argmax(-1))
    np.testing.assert_allclose(into.confidence, expected.max(-1), atol=1e-3)
    sums = sum(resized(scores, sides) for scores in views)
    assert (sums.argmax(-1) != expected.argmax(-1)).any()


def test_many_classes_need_two_bytes():
    scores = np.zeros((2, 2, 300), np.float32)
    scores[..., 299] = 1
    found = class_map(scores, (4, 4)).numbers
    assert found.dtype == np.uint16
    assert (found == 299).all()
