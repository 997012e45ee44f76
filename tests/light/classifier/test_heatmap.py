"""What is drawn."""

import numpy as np
import pytest
from PIL import Image

from convnext.classifier.heatmap import OPACITY, colours, overlay

# Published in the other direction than the one that the module computes in.
RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(rgb):
    encoded = np.asarray(rgb) / 255
    linear = np.where(encoded < 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ RGB_TO_LMS.T) @ LMS_TO_OKLAB.T


def test_equal_steps_of_heat_look_equal():
    assert oklab((255, 255, 255)) == pytest.approx((1, 0, 0), abs=1e-6)
    path = oklab(colours())
    assert path.shape == (256, 3)
    strides = np.linalg.norm(path[32:] - path[:-32], axis=1)  # of one step much is rounding
    assert strides.max() / strides.min() < 1.06
    assert (np.diff(path[::8, 0]) > 0).all(), "it gets lighter, so that grey prints show it"
    assert path[-1, 0] - path[0, 0] > 0.6


def test_the_heat_lies_where_it_belongs():
    heat = np.zeros((7, 7), np.float32)
    heat[1, 5] = 3
    picture = Image.new("RGB", (120, 90), (128, 128, 128))
    drawn = np.asarray(overlay(picture, heat, (20.4, 10.2, 90.4, 80.2))).astype(float)
    centre = (10 + 15, 20 + 55)  # row and column; half a pixel beyond the middle of that cell
    hottest = 128 + OPACITY * (colours()[round(255 * 0.95**2)].astype(float) - 128)
    assert np.abs(drawn[centre] - hottest).max() <= 1
    coldest = 128 + OPACITY * (colours()[0].astype(float) - 128)
    assert np.abs(drawn[70, 30] - coldest).max() <= 1
    outside = np.ones((90, 120), bool)
    outside[10:80, 20:90] = False
    assert (drawn[outside] == drawn[0, 0]).all()
    assert (drawn[0, 0] > 128).all()


def test_between_cells_the_heat_is_linear():
    heat = np.array([[0, 1, 0.5, 0.25]], np.float32)
    drawn = overlay(Image.new("RGB", (80, 1)), heat, (0, 0, 80, 1))
    positions = (np.arange(80) + 0.5) / 20 - 0.5
    expected = np.interp(positions, range(4), heat[0])
    table = OPACITY * colours()[np.rint(255 * expected).astype(int)].astype(float)
    assert np.abs(np.asarray(drawn)[0] - table).max() <= 3


@pytest.mark.parametrize("heat", [np.zeros((7, 7)), np.ones((1, 1))])
def test_heat_of_one_value_has_one_colour(heat):
    drawn = np.asarray(overlay(Image.new("RGB", (30, 30)), heat, (0, 0, 30, 30)))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_a_region_without_a_pixel_is_drawn_all_the_same():
    assert overlay(Image.new("RGB", (50, 1)), np.ones((7, 7)), (20, 0.2, 21, 0.7)).size == (50, 1)
