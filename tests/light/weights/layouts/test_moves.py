"""Moves: inverse both ways, views where possible, and against formulas written out by hand."""

import numpy as np
import pytest

from convnext.weights.layouts.moves import (
    CONV,
    DEPTHWISE,
    GROUPED,
    LINEAR,
    POINTWISE,
    SAME,
    SPARSE_CONV,
    SPARSE_DEPTHWISE,
    vector,
)

MOVES = [  # move, foreign shape, our shape
    (SAME, (5,), (5,)),
    (CONV, (6, 3, 4, 4), (4, 4, 3, 6)),
    (DEPTHWISE, (5, 1, 7, 7), (7, 7, 5, 1)),
    (GROUPED, (7, 7, 1, 5), (7, 7, 5, 1)),
    (LINEAR, (6, 5), (5, 6)),
    (POINTWISE, (6, 5, 1, 1), (5, 6)),
    (SPARSE_CONV, (4, 3, 6), (2, 2, 3, 6)),
    (SPARSE_DEPTHWISE, (49, 5), (7, 7, 5, 1)),
    (vector(1, 1, 1, -1), (1, 1, 1, 5), (5,)),
    (vector(1, -1), (1, 5), (5,)),
    (vector(1, -1, 1, 1), (1, 5, 1, 1), (5,)),
    (vector(-1, 1, 1), (5, 1, 1), (5,)),
]
IDS = [move.name for move, _, _ in MOVES]


def numbers(shape):
    return np.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize(("move", "foreign", "ours"), MOVES, ids=IDS)
def test_shapes_are_derived_from_shapes(move, foreign, ours):
    assert move.read_shape(foreign) == ours
    assert move.written_shape(ours) == foreign


@pytest.mark.parametrize(("move", "foreign", "ours"), MOVES, ids=IDS)
def test_reading_and_writing_are_inverse(move, foreign, ours):
    there, here = numbers(foreign), numbers(ours)
    np.testing.assert_array_equal(move.write(move.read(there)), there)
    np.testing.assert_array_equal(move.read(move.write(here)), here)


@pytest.mark.parametrize(("move", "foreign"), [row[:2] for row in MOVES], ids=IDS)
def test_reading_copies_nothing(move, foreign):
    there = numbers(foreign)
    assert np.shares_memory(move.read(there), there)


def test_a_convolution_keeps_each_weight_at_its_place():
    there = numbers((6, 3, 4, 4))
    ours = CONV.read(there)
    for (out, into, row, column), value in np.ndenumerate(there):
        assert ours[row, column, into, out] == value


@pytest.mark.parametrize("move", [DEPTHWISE, GROUPED])
def test_a_depthwise_kernel_keeps_each_weight_at_its_place(move):
    ours = numbers((7, 7, 5, 1))
    there = move.write(ours)
    for (row, column, channel, _), value in np.ndenumerate(ours):
        place = (channel, 0, row, column) if move is DEPTHWISE else (row, column, 0, channel)
        assert there[place] == value


@pytest.mark.parametrize(
    ("move", "alternative", "ours"),
    [
        (LINEAR, (6, 5, 1, 1), (5, 6)),
        (POINTWISE, (6, 5), (5, 6)),
        (GROUPED, (7, 7, 5, 1), (7, 7, 5, 1)),
        (vector(1, 1, 1, -1), (1, 5), (5,)),
        (vector(1, 1, 1, -1), (5,), (5,)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_shapes_written_by_other_versions_are_read(move, alternative, ours):
    assert move.read_shape(alternative) == ours


@pytest.mark.parametrize(
    ("move", "shape"),
    [
        (CONV, (6, 3)),
        (LINEAR, (6, 5, 3, 3)),
        (LINEAR, (6,)),
        (DEPTHWISE, (49, 5)),
        (SPARSE_CONV, (5, 3, 6)),
        (vector(1, -1), (2, 5)),
        (vector(1, -1), ()),
        (SPARSE_DEPTHWISE, ()),
        (LINEAR, (2**40, 2**40)),
    ],
)
def test_other_shapes_are_refused(move, shape):
    assert move.read_shape(shape) is None
