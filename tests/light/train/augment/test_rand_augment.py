"""RandAugment by itself; tests/heavy compares every operation with timm's."""

import numpy as np
import pytest
from PIL import ImageChops

from convnext.errors import ArgumentError, UnknownNameError
from convnext.train.augment.rand_augment import (
    OPERATIONS,
    Canvas,
    Policy,
    RandAugment,
    parse_policy,
)


def test_the_published_policy():
    assert parse_policy("rand-m9-mstd0.5-inc1") == Policy(9, 2, 0.5, 0.5, 10, True)


def test_every_part_of_a_policy():
    assert parse_policy("rand") == Policy(10, 2, 0.5, 0, 10, False)
    assert parse_policy("rand-m15-n3-p0.7-mstd101-mmax20-inc0") == Policy(
        15, 3, 0.7, float("inf"), 20, False
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("augmix-m3", "begins with 'rand'"),
        ("rand-9", "'9' in"),
        ("rand-m9-tweights", "Names are m"),
        ("rand-m9-m5", "twice"),
        ("rand-n0", "n is 1 or more"),
        ("rand-p1.5", "p at most 1"),
        ("", "begins with 'rand'"),
    ],
)
def test_invalid_policies_are_refused(text, problem):
    with pytest.raises(ArgumentError, match=problem):
        parse_policy(text)


def test_a_misspelt_part_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean 'mstd'"):
        parse_policy("rand-m9-msdt0.5")


def test_both_tables_have_the_fifteen_operations():
    assert list(OPERATIONS[False]) == list(OPERATIONS[True])
    assert len(OPERATIONS[True]) == 15


@pytest.mark.parametrize("magnitude", [0, 5, 10])
@pytest.mark.parametrize("increasing", [False, True])
def test_every_operation_keeps_size_and_mode(picture, increasing, magnitude):
    given = picture(0, (20, 14))
    for operation in OPERATIONS[increasing].values():
        changed = operation(given, magnitude, np.random.default_rng(0), Canvas())
        assert (changed.size, changed.mode) == ((20, 14), "RGB")


def test_the_strongest_posterize_leaves_black(picture):
    changed = OPERATIONS[True]["Posterize"](picture(0), 10, np.random.default_rng(0), Canvas())
    assert not np.asarray(changed).any()


def test_more_bits_than_there_are_change_nothing(picture):
    given = picture(0)
    changed = OPERATIONS[False]["Posterize"](given, 25, np.random.default_rng(0), Canvas())
    assert changed.tobytes() == given.tobytes()


def test_no_change_at_magnitude_zero_where_strength_increases(picture):
    given = picture(0)
    for name in ("Rotate", "ShearX", "TranslateY", "Color", "Sharpness", "SolarizeAdd"):
        changed = OPERATIONS[True][name](given, 0, np.random.default_rng(0), Canvas())
        assert ImageChops.difference(given, changed).getbbox() is None, name


def test_uncovered_parts_have_the_fill_colour(picture):
    canvas = Canvas(fill=(1, 2, 3))
    changed = OPERATIONS[True]["TranslateX"](picture(0), 10, np.random.default_rng(0), canvas)
    assert (np.asarray(changed) == (1, 2, 3)).all(axis=2).all(axis=0).any()


def test_magnitudes_are_spread_and_cut():
    augment = RandAugment(parse_policy("rand-m9-mstd0.5-inc1"), Canvas())
    rng = np.random.default_rng(0)
    drawn = np.array([augment._magnitude(rng) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(9, abs=0.03)
    assert drawn.std() == pytest.approx(0.5, abs=0.03)
    assert drawn.max() == 10
    anything = RandAugment(parse_policy("rand-m8-mstd101"), Canvas())
    drawn = np.array([anything._magnitude(rng) for _ in range(4000)])
    assert (drawn.min(), drawn.max()) == (pytest.approx(0, abs=0.05), pytest.approx(8, abs=0.05))


def test_probability_and_count(picture):
    given = picture(0)
    never = RandAugment(parse_policy("rand-m9-p0"), Canvas())
    assert never(given, np.random.default_rng(0)) is given
    always = RandAugment(parse_policy("rand-m9-n4-p1-inc1"), Canvas())
    changed = [always(given, np.random.default_rng(seed)).tobytes() for seed in range(5)]
    assert len({given.tobytes(), *changed}) == 6
