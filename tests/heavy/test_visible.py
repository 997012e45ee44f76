"""Lists of visible positions, and the way back, against NumPy's indexing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from convnext.nn.visible import find_positions, listed, mapped
from peers import as_numpy, backward

COUNT, HEIGHT, WIDTH, CHANNELS = 5, 4, 3, 2


@pytest.fixture(scope="module")
def mask():
    rng = np.random.default_rng(0)
    rows = rng.permuted(np.arange(HEIGHT * WIDTH)[None].repeat(3, axis=0), axis=1) < COUNT
    return rows.reshape(3, HEIGHT, WIDTH)


def _numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _as_list(x, mask):
    return np.stack([picture[seen] for picture, seen in zip(x, mask, strict=True)])[:, :, None]


def _as_map(rows, mask):
    x = np.zeros((*mask.shape, rows.shape[-1]), np.float32)
    for picture, seen, row in zip(x, mask, rows[:, :, 0], strict=True):
        picture[seen] = row
    return x


class _Way(keras.layers.Layer):
    def __init__(self, way, mask):
        super().__init__()
        visible = ops.convert_to_tensor(mask[..., None].astype(np.float32))
        self.way, self.positions = way, find_positions(visible, COUNT)
        self.built = True

    def call(self, x):
        return self.way(x, self.positions)


def test_a_map_and_its_list(mask):
    x, rows = _numbers(3, HEIGHT, WIDTH, CHANNELS), _numbers(3, COUNT, 1, CHANNELS)
    np.testing.assert_array_equal(as_numpy(_Way(listed, mask)(x)), _as_list(x, mask))
    np.testing.assert_array_equal(as_numpy(_Way(mapped, mask)(rows)), _as_map(rows, mask))


def test_the_gradient_of_one_way_is_the_other(mask):
    x, rows = _numbers(3, HEIGHT, WIDTH, CHANNELS), _numbers(3, COUNT, 1, CHANNELS)
    (of_map,) = backward(_Way(listed, mask), x, rows)
    (of_list,) = backward(_Way(mapped, mask), rows, x)
    np.testing.assert_array_equal(as_numpy(of_map), _as_map(rows, mask))
    np.testing.assert_array_equal(as_numpy(of_list), _as_list(x, mask))


@pytest.mark.torch_alone
def test_a_mask_of_another_number_of_positions_stays_within_bounds():
    everything, nothing = np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2, 1), np.float32)
    too_many = find_positions(ops.convert_to_tensor(everything), 3)
    assert as_numpy(too_many.in_list).tolist() == [[[0, 1], [2, 3]]]
    too_few = find_positions(ops.convert_to_tensor(nothing), 3)
    assert as_numpy(too_few.in_list).tolist() == [[[3, 3], [3, 3]]]
    assert as_numpy(too_few.on_map).tolist() == [[0, 1, 2]]
