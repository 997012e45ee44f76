"""The int8 rounding common to both runtimes."""

import numpy as np
import pytest

from convnext.int8.rounding import best_balance, chosen_positions, is_rounded, round_kernel

RNG = np.random.default_rng(0)


def test_all_blocks_but_the_first_are_rounded():
    for name in ("stage_0_block_0", "stage_0_block_0.pwconv1"):
        assert not is_rounded(name)
    for name in ("stage_0_block_1.pwconv1", "stage_1_block_0", "stage_0_block_01"):
        assert is_rounded(name)


def test_enough_positions_are_drawn_and_the_same_in_every_run():
    for pictures, each in ((1, 1024), (1000, 2), (5000, 1)):
        one, two = chosen_positions(pictures), chosen_positions(pictures)
        found = [one(49) for _ in range(3)]
        assert {len(places) for places in found} == {each}
        assert max(places.max() for places in found) < 49
        np.testing.assert_array_equal(found, [two(49) for _ in range(3)])


@pytest.mark.parametrize("in_pairs", [False, True])
def test_a_kernel_is_rounded_channel_by_channel(in_pairs):
    kernel = RNG.standard_normal((9, 5), np.float32) * np.array([1, 10, 0.1, 3, 0], np.float32)
    whole, steps = round_kernel(kernel, in_pairs=in_pairs)
    assert (whole.dtype, steps.dtype) == (np.int8, np.float32)
    np.testing.assert_allclose(whole * steps, kernel, atol=steps.max() / 2 + 1e-6)
    assert (np.abs(whole[:, :4]).max(axis=0) == 127).all() != in_pairs
    assert not whole[:, 4].any()


def test_the_balance_with_the_least_noise_is_taken_and_its_shift_taken_back():
    exact = RNG.standard_normal((50, 3), np.float32)
    noise = RNG.standard_normal((50, 3), np.float32)

    def rounded(balance):
        return exact + np.float32(abs(balance - 0.75) + 0.1) * (noise - noise.mean(axis=0)) + 2

    best = best_balance(exact, rounded)
    assert best.balance == 0.75
    np.testing.assert_allclose(best.correction, -2, atol=1e-5)
    assert best.noise == pytest.approx(0.01 * noise.var(axis=0).mean(), rel=1e-3)
    assert best_balance(exact, rounded, (0.0,)).balance == 0
