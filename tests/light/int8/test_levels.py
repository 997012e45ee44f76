"""Rounding changes a layer's outputs little."""

from dataclasses import replace

import numpy as np
import pytest

from convnext.graphs.fold import Linear
from convnext.int8.levels import InputStatistics, Levels, checksum, find_levels, merged_statistics

RNG = np.random.default_rng(0)


def linear(inputs=24, outputs=10):
    kernel = RNG.standard_normal((inputs, outputs), np.float32)
    return Linear(kernel, RNG.standard_normal(outputs, np.float32))


def seen(rows):
    return InputStatistics(rows.min(axis=0), rows.max(axis=0), rows)


def decibels(exact, rounded):
    signal = exact - exact.mean(axis=0)
    return 10 * np.log10(np.square(signal).mean() / np.square(rounded - exact).mean())


def answers(levels, layer, rows):
    """The outputs as a runtime computes them, in integers with a step for each output."""
    kernel, steps = levels.round_kernel(layer.kernel)
    sums = levels.round_inputs(rows).astype(np.int64) @ kernel.astype(np.int64)
    return sums * steps + levels.bias(layer)


ROWS = {
    "even": RNG.standard_normal((500, 24), np.float32),
    "one loud channel": RNG.standard_normal((500, 24), np.float32)
    * np.array([40] + [1] * 23, np.float32),
    "never negative, far from zero": RNG.random((500, 24), np.float32) + 7,
    "as GELU gives them": np.maximum(RNG.standard_normal((500, 24), np.float32), -0.17),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_answers_stay(rows):
    layer = linear()
    levels = find_levels(seen(rows), layer)
    exact = rows @ layer.kernel + layer.bias
    measured = decibels(exact, answers(levels, layer, rows))
    assert measured > 36
    assert measured == pytest.approx(levels.decibels, abs=0.3)


def test_channels_of_their_own_are_what_saves_a_quiet_one():
    """With one step for all inputs, 23 of 24 channels would have few levels."""
    rows = ROWS["one loud channel"]
    layer = linear()
    layer.kernel[0] /= 40  # what it says matters as much as what the others say
    exact = rows @ layer.kernel + layer.bias
    own = find_levels(seen(rows), layer)
    width = (rows.max() - rows.min()) / 255
    none = np.zeros(10, np.float32)
    low = np.full(24, rows.min(), np.float32)
    one = Levels(low, np.full(24, width, np.float32), none, 0, 0)
    assert decibels(exact, answers(own, layer, rows)) > 36
    assert decibels(exact, answers(one, layer, rows)) < 30


def test_the_mean_of_the_outputs_stays():
    rows = ROWS["even"]
    layer = linear()
    levels = find_levels(seen(rows), layer)
    difference = answers(levels, layer, rows) - (rows @ layer.kernel + layer.bias)
    np.testing.assert_allclose(difference.mean(axis=0), 0, atol=1e-5)


def test_layers_without_anything_in_them():
    rows = np.full((20, 24), 3, np.float32)
    layer = Linear(np.zeros((24, 10), np.float32), np.ones(10, np.float32))
    levels = find_levels(seen(rows), layer)
    np.testing.assert_allclose(answers(levels, layer, rows), 1, atol=1e-6)


def test_constant_inputs_are_kept():
    rows = np.full((20, 24), 3, np.float32)
    layer = linear()
    levels = find_levels(seen(rows), layer)
    exact = rows @ layer.kernel + layer.bias
    np.testing.assert_allclose(answers(levels, layer, rows), exact, atol=1e-4)


@pytest.mark.parametrize("inputs", [24, 23, 1])
@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_a_kernel_takes_all_levels_at_which_neighbouring_products_fit_into_16_bits(inputs, shift):
    layer = linear()
    layer = replace(layer, kernel=layer.kernel[:inputs] + np.float32(shift))
    levels = find_levels(seen(ROWS["even"][:, :inputs]), layer)
    kernel, _ = levels.round_kernel(layer.kernel)
    assert kernel.dtype == np.int8
    pairs = np.pad(kernel.astype(int), ((0, inputs % 2), (0, 0))).reshape(-1, 2, kernel.shape[1])
    most = 255 * np.maximum(pairs, 0).sum(axis=1).max(axis=0)
    least = 255 * np.minimum(pairs, 0).sum(axis=1).min(axis=0)
    assert most.max() < 2**15
    assert least.min() >= -(2**15)
    assert np.maximum(most, -least).min() > 255 * 125


def test_room_for_what_no_picture_had():
    """Headroom is zero if pictures agree, else half the distance of the largest."""
    highs = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 5]], np.float32)
    rows = np.zeros((2, 2), np.float32)
    both = merged_statistics([InputStatistics(-high, high, rows) for high in highs])
    np.testing.assert_allclose(both.high, [1, 7])
    np.testing.assert_allclose(both.low, [-1, -7])
    assert both.samples.shape == (10, 2)


def test_a_checksum_is_of_values_not_of_how_they_lie():
    kernel = linear().kernel
    assert checksum(kernel) == checksum(np.asfortranarray(kernel))
