import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.graphs.agreement import agreement

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(0, 3, (20, 10)).astype(np.float32)


def test_equal_answers():
    found = agreement(REFERENCE.copy(), REFERENCE)
    assert (found.pictures, found.max_difference, found.mean_difference) == (20, 0, 0)
    assert (found.decibels, found.top1) == (math.inf, 1)


@given(st.floats(1e-3, 1e3))
def test_ten_times_the_error_is_twenty_decibels_less(scale):
    errors = RNG.normal(0, scale, REFERENCE.shape)
    near, far = (agreement(REFERENCE + factor * errors, REFERENCE) for factor in (1, 10))
    assert far.decibels == pytest.approx(near.decibels - 20)
    assert far.mean_difference == pytest.approx(10 * near.mean_difference)


def test_agreement_ignores_an_offset_common_to_all_pictures():
    errors = RNG.normal(0, 0.1, REFERENCE.shape)
    common = np.linspace(-100, 100, 10)
    plain = agreement(REFERENCE + errors, REFERENCE)
    shifted = agreement(REFERENCE + common + errors, REFERENCE + common)
    assert shifted.decibels == pytest.approx(plain.decibels)


def test_classes_are_counted():
    logits = REFERENCE.copy()
    logits[:5] = -logits[:5]
    assert agreement(logits, REFERENCE).top1 == 0.75


def test_not_a_number_agrees_with_nothing():
    logits = REFERENCE.copy()
    logits[3, REFERENCE[3].argmax()] = np.nan
    found = agreement(logits, REFERENCE)
    assert (found.max_difference, found.decibels) == (math.inf, -math.inf)
    assert found.top1 == 0.95


def test_a_single_picture_has_decibels():
    assert agreement(REFERENCE[:1] * 1.1, REFERENCE[:1]).decibels == pytest.approx(20, abs=1e-3)
