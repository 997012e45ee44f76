"""Sparse resizing against its matrices."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.images.mixing import Mixing
from convnext.images.resizing import enlarged


def dense(mixing, inputs):
    matrix = np.zeros((len(mixing.positions), inputs))
    np.add.at(matrix, (np.arange(len(matrix))[:, None], mixing.positions), mixing.weights)
    return matrix


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 5), (7, 7), (8, 33), (33, 8), (5, 1)])
def test_enlarging(inputs, outputs):
    found = dense(Mixing.enlarging(inputs, outputs), inputs)
    np.testing.assert_allclose(found, enlarged(inputs, outputs), atol=1e-5)


@pytest.mark.parametrize("sizes", [(4, 16, 9), (4, 16, 50), (16, 4, 40)])
def test_one_resizing_after_another(sizes):
    first, middle, last = sizes
    both = Mixing.enlarging(first, middle).then(Mixing.enlarging(middle, last))
    expected = enlarged(middle, last) @ enlarged(first, middle)
    np.testing.assert_allclose(dense(both, first), expected, atol=1e-5)
    assert both.positions.shape[1] == (expected > 1e-9).sum(axis=1).max()
    used = np.take_along_axis(expected, both.positions, axis=1)
    assert (used > 0).all()
    values = np.random.default_rng(0).standard_normal((first, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(both.apply(values), np.tensordot(expected, values, 1), atol=1e-5)


@pytest.mark.parametrize("starts", [(0, 5, 10), (0, 4, 6), (-3,), (0, 8)])
def test_windows_are_averaged(starts):
    window, inputs, length = 8, 2, 18 if len(starts) > 2 else 5 + 11 * (len(starts) - 1)
    expected, count = np.zeros((length, inputs * len(starts))), np.zeros((length, 1))
    for number, start in enumerate(starts):
        for place in range(max(start, 0), min(start + window, length)):
            row = enlarged(inputs, window)[place - start]
            expected[place, number * inputs : (number + 1) * inputs] += row
            count[place] += 1
    if not count.all():
        length = int(count.sum(axis=1).argmin())
        expected, count = expected[:length], count[:length]
    found = dense(Mixing.windows(starts, window, inputs, length), inputs * len(starts))
    np.testing.assert_allclose(found, expected / count, atol=1e-6)
