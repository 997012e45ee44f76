"""Average precision, F1 and thresholds, beside their definitions computed in another way."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.evaluate.labelling import average_precision, best_threshold, labelling
from convnext.images.thresholds import THRESHOLD

PICTURES, LABELS = 60, 7


def _by_definition(scores, truth):
    """scikit-learn's definition, one threshold after another."""
    area, before = 0.0, 0.0
    for limit in sorted(set(scores), reverse=True):
        given = scores >= limit
        recall = (given & truth).sum() / truth.sum()
        area += (recall - before) * (given & truth).sum() / given.sum()
        before = recall
    return area


def _f1(given, truth):
    right = (given & truth).sum()
    return 2 * right / (given.sum() + truth.sum())


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    truth = rng.random((PICTURES, LABELS)) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0.01, 1)
    scores[:, 1] = np.round(scores[:, 1], 1)  # equal ones
    scores[:, 2] = 0.5  # all equal
    truth[:, 3] = False
    truth[:, 4] = True
    return scores, truth


def test_average_precision_is_scikit_learns(data):
    scores, truth = data
    for label in (0, 1, 2, 4, 5, 6):
        wanted = _by_definition(scores[:, label], truth[:, label])
        assert average_precision(scores[:, label], truth[:, label]) == pytest.approx(
            wanted, rel=1e-12
        )
    assert np.isnan(average_precision(scores[:, 3], truth[:, 3]))
    # The example in scikit-learn's documentation of average_precision_score.
    example = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert average_precision(*example) == pytest.approx(0.8333333333333333)


def test_means_leave_out_labels_that_no_picture_has(data):
    scores, truth = data
    found = labelling(scores, truth, np.full(LABELS, 0.5))
    there = [label for label in range(LABELS) if truth[:, label].any()]
    each = [_by_definition(scores[:, label], truth[:, label]) for label in there]
    assert found.mean_average_precision == pytest.approx(np.mean(each), rel=1e-12)
    f1s = [_f1(scores[:, label] >= 0.5, truth[:, label]) for label in there]
    assert found.macro_f1 == pytest.approx(np.mean(f1s))
    assert found.micro_f1 == pytest.approx(_f1((scores >= 0.5).ravel(), truth.ravel()))
    assert np.isnan(found.recall[3])
    assert found.pictures == PICTURES


def test_no_threshold_has_a_better_f1_than_the_best_one(data):
    scores, truth = data
    for label in (0, 1, 2, 4, 5, 6):
        column = scores[:, label], truth[:, label]
        best = best_threshold(*column)
        reached = _f1(column[0] >= best, column[1])
        tried = [_f1(column[0] >= limit, column[1]) for limit in np.unique(column[0])]
        assert reached == pytest.approx(max(tried))
        assert not np.isclose(column[0], best, atol=1e-12).any()
    assert best_threshold(scores[:, 3], truth[:, 3]) == THRESHOLD
    assert labelling(scores, truth).thresholds[0] == best_threshold(scores[:, 0], truth[:, 0])


def test_a_threshold_between_neighbouring_floats_is_the_higher_one():
    low = 0.25
    high = np.nextafter(low, 1)
    assert best_threshold(np.array([low, high]), np.array([False, True])) == high


def test_without_pictures_nothing_is_measured():
    found = labelling(np.zeros((0, 2)), np.zeros((0, 2), bool), [0.5, 0.5])
    assert np.isnan([found.mean_average_precision, found.macro_f1, found.micro_f1]).all()
