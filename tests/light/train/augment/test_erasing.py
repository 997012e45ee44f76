"""Random erasing by itself; tests/heavy compares it with timm."""

import numpy as np
import pytest

from convnext.train.augment.erasing import AREA, erase, erased_boxes


def test_boxes_lie_inside_and_have_the_area_that_is_meant():
    rng = np.random.default_rng(0)
    for count in (1, 3):
        for _ in range(300):
            boxes = erased_boxes(40, 30, rng, count)
            assert 1 <= len(boxes) <= count
            for top, left, height, width in boxes:
                assert 0 <= top <= 40 - height
                assert 0 <= left <= 30 - width
                assert height * width <= AREA[1] * 1200 * 1.15  # rounding


def test_only_the_box_changes():
    picture = np.full((40, 30, 3), 5, np.float32)
    erase(picture, np.random.default_rng(1), probability=1.0, mode="const")
    erased = (picture == 0).all(axis=2)
    rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
    assert erased.sum() == len(rows) * len(columns) > 0
    assert (picture[~erased] == 5).all()


@pytest.mark.parametrize(("mode", "colours"), [("const", 1), ("rand", 1), ("pixel", None)])
def test_erased_areas_have_the_colours_of_the_mode(mode, colours):
    picture = np.full((64, 64, 3), 50, np.float32)
    erase(picture, np.random.default_rng(2), probability=1.0, mode=mode)
    inside = picture[(picture != 50).all(axis=2)]
    different = len(np.unique(inside, axis=0))
    assert different == (colours or len(inside))
    if mode == "pixel":
        assert inside.std() == pytest.approx(1, abs=0.1)
        assert inside.mean() == pytest.approx(0, abs=0.1)


def test_pictures_are_erased_with_the_given_probability():
    rng = np.random.default_rng(3)
    erased = 0
    for _ in range(2000):
        picture = np.full((16, 16, 3), 5, np.float32)
        erase(picture, rng, probability=0.25)
        erased += bool((picture != 5).any())
    assert erased / 2000 == pytest.approx(0.25, abs=0.03)


def test_a_picture_too_small_for_any_box_stays():
    picture = np.full((1, 1, 3), 5, np.float32)
    erase(picture, np.random.default_rng(0), probability=1.0)
    assert (picture == 5).all()
