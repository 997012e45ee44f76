"""Generators that depend on their purpose and number alone."""

import pytest

from convnext.data.random_streams import Purpose, check_seed, stream
from convnext.errors import ArgumentError


def test_a_stream_repeats_its_numbers():
    assert (
        stream(3, Purpose.EXAMPLE, 5).random(4) == stream(3, Purpose.EXAMPLE, 5).random(4)
    ).all()


def test_streams_of_other_seeds_purposes_numbers_and_parts_differ():
    begun = {
        stream(seed, purpose, number, part).random()
        for seed in (0, 1, 2**63 - 1)
        for purpose in Purpose
        for number in (0, 1, 2**62)
        for part in (0, 1)
    }
    assert len(begun) == 3 * len(Purpose) * 3 * 2


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes(seed):
    with pytest.raises(ArgumentError, match="A seed is a whole number"):
        check_seed(seed)
