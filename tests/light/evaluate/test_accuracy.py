"""Every result equals its definition in plain Python."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convnext.evaluate.accuracy import BINS, Bin, Confusion, Judgement, Tally, judge, wilson


def measured(logits, labels, competing=None):
    tally = Tally(len(competing) if competing else logits.shape[1])
    for label, judgement in zip(labels, judge(logits, labels, competing), strict=True):
        tally.add(label, judgement)
    return tally.accuracy()


def order(row, classes):
    return sorted(classes, key=lambda index: (-float(row[index]), index))


def probabilities(row, classes):
    top = max(float(row[index]) for index in classes)
    powers = {index: math.exp(float(row[index]) - top) for index in classes}
    return {index: power / math.fsum(powers.values()) for index, power in powers.items()}


def ece(right, confidences):
    """The definition of the calibration error, with exact bin edges."""
    total = 0.0
    for place in range(BINS):
        low, high = Fraction(place, BINS), Fraction(place + 1, BINS)
        members = [
            (hit, confidence)
            for hit, confidence in zip(right, confidences, strict=True)
            if low < Fraction(confidence) <= high
        ]
        if members:
            hits, sure = zip(*members, strict=True)
            total += abs(sum(hits) - math.fsum(sure))
    return total / len(right)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 9)),
        elements=st.integers(-12, 12).map(lambda n: n / 4),  # ties are frequent
    ),
    st.randoms(use_true_random=False),
)
def test_all_measures_equal_a_plain_computation(logits, random):
    count = logits.shape[1]
    competing = sorted(random.sample(range(count), random.randint(1, count)))
    labels = [random.choice(competing) for _ in logits]
    found = measured(logits, labels, competing if len(competing) < count else None)
    orders = [order(row, competing) for row in logits]
    ranks = [ranked.index(label) for ranked, label in zip(orders, labels, strict=True)]
    shares = [probabilities(row, competing) for row in logits]
    assert found.pictures == len(labels)
    assert found.correct == sum(rank == 0 for rank in ranks)
    assert found.within_5 == (sum(rank < 5 for rank in ranks) if len(competing) > 5 else None)
    losses = [-math.log(share[label]) for share, label in zip(shares, labels, strict=True)]
    assert found.log_loss == pytest.approx(math.fsum(losses) / len(labels), rel=1e-12)
    confidences = [max(share.values()) for share in shares]
    right = [rank == 0 for rank in ranks]
    assert found.ece == pytest.approx(ece(right, confidences), abs=1e-12)
    taken = [(label, ranked[0]) for label, ranked in zip(labels, orders, strict=True)]
    for row in found.classes:
        assert row.pictures == labels.count(row.index)
        assert row.correct == taken.count((row.index, row.index))
    wrong = {pair: taken.count(pair) for pair in taken if pair[0] != pair[1]}
    expected = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    assert found.confusions == tuple(Confusion(*pair, count) for pair, count in expected)


def test_no_number_depends_on_the_order_of_pictures_or_on_batches():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (500, 20)).astype(np.float32)
    labels = generator.integers(0, 20, 500).tolist()
    pairs = [
        (label, judgement)
        for start in range(0, 500, 7)
        for label, judgement in zip(
            labels[start : start + 7],
            judge(logits[start : start + 7], labels[start : start + 7]),
            strict=True,
        )
    ]
    random.Random(0).shuffle(pairs)
    tally = Tally(20)
    for pair in pairs:
        tally.add(*pair)
    assert tally.accuracy() == measured(logits, labels)


def test_of_equal_logits_the_first_class_comes_first():
    ranks = [judge(np.zeros((1, 9), np.float32), [label])[0].rank for label in range(9)]
    assert ranks == list(range(9))
    found = measured(np.zeros((9, 9)), list(range(9)))
    assert (found.correct, found.within_5) == (1, 5)


def test_probabilities_are_among_the_competing_classes():
    [judgement] = judge(np.array([[50.0, 0.0, 0.0, 50.0]]), [1], [1, 2])
    assert judgement == Judgement(1, 0, pytest.approx(math.log(0.5)), 0.5)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_pictures_with_nan_or_infinite_logits_count_as_wrong(broken):
    logits = np.zeros((3, 7), np.float32)
    logits[:, 0] = 9
    logits[1, 5] = broken
    logits[2, 0] = broken
    found = measured(logits, [0, 0, 0])
    assert (found.pictures, found.correct, found.within_5, found.unanswered) == (3, 1, 1, 2)
    assert found.log_loss == pytest.approx(math.log(1 + 6 * math.exp(-9)))
    assert found.classes[0].pictures == 3
    assert math.isfinite(found.ece)
    assert judge(logits, [0, 0, 0])[1:] == [Judgement(None, None, None, None)] * 2
    outside = measured(logits[1:2], [0], competing=[0, 1])
    assert outside.unanswered == 0  # the class that is no number does not compete


def test_enormous_logits_do_not_overflow():
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)
    found = measured(logits, [0, 0])
    assert found.correct == 1
    assert found.log_loss == pytest.approx(3e38, rel=1e-6)


def test_measures_without_finite_logits_are_none():
    found = Tally(1000).accuracy()
    assert (found.pictures, found.log_loss, found.ece, found.classes) == (0, None, None, ())
    broken = measured(np.full((2, 3), np.nan), [0, 1])
    assert (broken.pictures, broken.correct, broken.log_loss, broken.ece) == (2, 0, None, None)


def test_bins_hold_their_upper_edge():
    tally = Tally(10)
    for place in range(1, BINS + 1):
        tally.add(0, Judgement(0, 0, 0.0, place / BINS))
    bins = tally.accuracy().bins
    assert [bin.pictures for bin in bins] == [1] * BINS
    assert bins[-1] == Bin(14 / 15, 1.0, 1, 1.0, 1.0)


def test_perfectly_calibrated_and_overconfident():
    tally = Tally(2)
    for right in (True, True, True, False):
        tally.add(0, Judgement(0 if right else 1, 0 if right else 1, -0.3, 0.75))
    assert tally.accuracy().ece == 0
    tally.add(0, Judgement(1, 1, -9.0, 1.0))
    assert tally.accuracy().ece == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes, trials, low, high):
    assert wilson(successes, trials) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


def test_wilson_solves_its_equation():
    for successes, trials in ((41_033, 50_000), (7, 7), (0, 0)):
        for bound in wilson(successes, trials):
            spread = 1.959963984540054 * math.sqrt(bound * (1 - bound) * trials)
            distance = abs(successes - bound * trials)
            assert distance == pytest.approx(spread, rel=1e-6, abs=1e-6)
