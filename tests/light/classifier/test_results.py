"""From logits to classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convnext.classifier.results import (
    ClassScore,
    Prediction,
    best_classes,
    class_score,
    softmax,
)
from convnext.errors import ImageError, WeightsError
from convnext.images.labels import Labels

LETTERS = Labels(tuple("abcd"), ("n1", "n2", "n3", "n4"))


@given(
    hnp.arrays(np.float32, (2, 5), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.floats(-1e3, 1e3),
)
def test_probabilities(logits, shift):
    probabilities = softmax(logits)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-12)
    near = np.clip(logits.astype(np.float64), -100, 100)
    np.testing.assert_allclose(softmax(near + shift), softmax(near), rtol=1e-9)


def test_probabilities_are_in_the_ratio_of_the_powers():
    two, one = softmax(np.array([np.log(2), 0], np.float32))
    assert two / one == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number(bad):
    with pytest.raises(WeightsError, match="try float32"):
        softmax(np.array([0, bad]))


def test_the_best_come_first_and_of_equals_the_lower_number():
    logits = np.array([0.0, 3.0, 3.0, 1.0])
    assert [score.label for score in best_classes(logits, LETTERS, 3)] == ["b", "c", "d"]
    assert len(best_classes(logits, LETTERS, 9)) == 4


def test_classes_whose_probability_vanishes_keep_their_order():
    logits = np.array([0.0, -3000.0, -2000.0, -1000.0])
    assert [score.index for score in best_classes(logits, LETTERS, 4)] == [0, 3, 2, 1]


def test_a_score_says_everything_about_its_class():
    score = class_score(np.array([0.0, 0.0, -1e9, -1e9]), 1, LETTERS)
    assert score == ClassScore("b", 1, 0.5, "n2")
    assert class_score(np.zeros(2), 1, Labels(("x", "y"))).wnid is None


def test_a_prediction_without_a_picture_has_no_best():
    with pytest.raises(ImageError, match="torn"):
        Prediction("x", error=ImageError("torn")).best  # noqa: B018
