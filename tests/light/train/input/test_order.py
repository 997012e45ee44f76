"""The order of examples, and class weights."""

import pickle

import numpy as np
import pytest

from convnext.errors import ArgumentError, UnknownNameError
from convnext.train.input.order import Order, class_weights

LABELS = np.repeat([0, 1, 3], [7, 2, 4])  # no example of class 2


@pytest.mark.parametrize("balanced", [False, True])
def test_any_stretch_is_the_same_wherever_it_is_begun(balanced):
    order = Order(LABELS, seed=5, balanced=balanced)
    whole = order.indices(0, 100)
    for start, count in ((0, 1), (12, 2), (50, 50), (99, 1)):
        fresh = Order(LABELS, seed=5, balanced=balanced)
        assert (fresh.indices(start, count) == whole[start : start + count]).all()


def test_each_epoch_has_every_example_once_in_another_order():
    epochs = Order(LABELS, seed=1).indices(0, 13 * 40).reshape(40, 13)
    assert (np.sort(epochs, axis=1) == np.arange(13)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 40


def test_another_seed_is_another_order():
    first, second = (Order(LABELS, seed=seed).indices(0, 13).tolist() for seed in (0, 1))
    assert first != second


def test_balanced_has_every_class_once_a_round_and_every_example_in_its_turn():
    order = Order(LABELS, seed=2, balanced=True)
    indices = order.indices(0, 3 * 28)
    rounds = LABELS[indices].reshape(28, 3)
    assert (np.sort(rounds, axis=1) == [0, 1, 3]).all()
    assert len({tuple(turn) for turn in rounds.tolist()}) > 1
    counts = np.bincount(indices, minlength=13)
    assert counts.tolist() == [4] * 7 + [14] * 2 + [7] * 4
    of_first = indices[LABELS[indices] == 0].reshape(4, 7)
    assert (np.sort(of_first, axis=1) == np.arange(7)).all()
    assert len({tuple(epoch) for epoch in of_first.tolist()}) == 4


def test_an_order_can_be_pickled_after_use():
    order = Order(LABELS, seed=4, balanced=True)
    expected = order.indices(0, 20)
    assert (pickle.loads(pickle.dumps(order)).indices(0, 20) == expected).all()


def test_an_order_of_no_examples_is_refused():
    with pytest.raises(ArgumentError, match="no examples"):
        Order([], seed=0)


def test_class_weights_leave_the_mean_example_at_one():
    labels = [0] * 90 + [1] * 10
    assert class_weights(labels, "none").tolist() == [1, 1]
    balanced = class_weights(labels, "balanced")
    assert (balanced * [90, 10]).tolist() == pytest.approx([50, 50])
    given = class_weights(labels, [1, 3])
    assert given[1] == pytest.approx(3 * given[0])
    for weights in (balanced, given):
        assert weights[labels].mean() == pytest.approx(1)


def test_class_weights_of_classes_without_examples_are_finite():
    weights = class_weights([0, 0, 1], "balanced", num_classes=4)
    assert weights.shape == (4,)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("given", [[1.0], [1, -1], [1, float("nan")], [0, 0]])
def test_class_weights_that_make_no_sense(given):
    with pytest.raises(ArgumentError, match="Class weights"):
        class_weights([0, 1], given)


def test_an_unknown_kind_of_class_weights():
    with pytest.raises(UnknownNameError, match="Did you mean 'balanced'"):
        class_weights([0, 1], "ballanced")
