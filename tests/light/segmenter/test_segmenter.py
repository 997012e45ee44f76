"""Ways of inference against mmsegmentation's definition, computed with all scores in memory."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import convnext
from convnext.errors import ArgumentError, ArgumentTypeError, ImageError, UnknownNameError
from convnext.images.resizing import enlarged
from convnext.segmenter import Segmentation, Segmenter
from convnext.segmenter.segmenter import LIMITS
from convnext.segmenter.windows import segment_windows

pytestmark = pytest.mark.usefixtures("mock_segmenter")

SIDE, CLASSES = 64, 5  # of the models in ../conftest.py


def noise(height, width, seed=0):
    """A picture with large and small parts."""
    rng = np.random.default_rng(seed)
    parts = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return parts.resize((width, height), Image.Resampling.BICUBIC)


def resized(scores, height, width):
    down, across = (enlarged(n, m) for n, m in zip(scores.shape, (height, width), strict=False))
    return np.einsum("yh,hwc,xw->yxc", down, scores, across, optimize=True)


def slid(scores_of, pixels, stride):
    """mmsegmentation's slide_inference: the mean scores of all windows at each pixel."""
    height, width = pixels.shape[:2]
    total, count = np.zeros((height, width, CLASSES)), np.zeros((height, width, 1))
    rows, columns = (max(n - SIDE + stride - 1, 0) // stride + 1 for n in (height, width))
    for row, column in itertools.product(range(rows), range(columns)):
        bottom, right = min(row * stride + SIDE, height), min(column * stride + SIDE, width)
        top, left = max(bottom - SIDE, 0), max(right - SIDE, 0)
        [scores] = scores_of(pixels[None, top:bottom, left:right])
        total[top:bottom, left:right] += resized(scores, SIDE, SIDE)
        count[top:bottom, left:right] += 1
    return total / count


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def probabilities(scores_of, pixels, stride, height, width, flip):
    one = softmax(resized(slid(scores_of, pixels, stride), height, width))
    if not flip:
        return one
    mirrored = slid(scores_of, pixels[:, ::-1], stride)[:, ::-1]
    return (one + softmax(resized(mirrored, height, width))) / 2


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("stride", [27, 42, 64])
@pytest.mark.parametrize(("height", "width"), [(90, 199), (210, 81), (65, 65)])
def test_tiles(upernet, mock_segmenter, height, width, stride, flip):
    picture = noise(height, width)
    segmenter = Segmenter(upernet, inference="tiles", stride=stride, flip=flip)
    expected = probabilities(
        mock_segmenter.scores, np.asarray(picture), stride, height, width, flip
    )
    found = segmenter(picture, confidence=True)
    np.testing.assert_array_equal(found.class_map, expected.argmax(-1))
    np.testing.assert_allclose(found.confidence, expected.max(-1), atol=1e-3)
    np.testing.assert_array_equal(segmenter(picture).class_map, expected.argmax(-1))
    assert len(np.unique(found.class_map)) > 2


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width"), [(40, 110), (300, 133)])
def test_slide(upernet, mock_segmenter, height, width, flip):
    picture = noise(height, width)
    scale = SIDE / min(height, width)
    sides = (round(width * scale), round(height * scale))
    seen = np.asarray(picture.resize(sides, Image.Resampling.BILINEAR))
    expected = probabilities(mock_segmenter.scores, seen, 42, height, width, flip).argmax(-1)
    found = Segmenter(upernet, inference="slide", flip=flip)(picture).class_map
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("flip", [False, True])
def test_whole(upernet, mock_segmenter, flip):
    pictures = [noise(20, 31, 1), noise(70, 40, 2), noise(1, 1, 3)]
    found = list(Segmenter(upernet, flip=flip).predict(pictures, batch_size=2))
    for picture, each in zip(pictures, found, strict=True):
        seen = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        expected = probabilities(
            mock_segmenter.scores, seen, SIDE, picture.height, picture.width, flip
        ).argmax(-1)
        np.testing.assert_array_equal(each.class_map, expected)
        assert each.picture.size == picture.size
    assert mock_segmenter.sizes == ([4, 2] if flip else [2, 1])


def test_where_a_picture_is_smaller_than_a_window_it_sees_the_mean_colour(upernet, mock_segmenter):
    strip = noise(10, 100)
    segmenter = Segmenter(upernet, inference="tiles", stride=40)
    mean = [round(255 * part) for part in segmenter.preprocess.mean]
    canvas = np.empty((SIDE, 100, 3), np.uint8)
    canvas[:] = mean
    canvas[:10] = np.asarray(strip)
    expected = slid(mock_segmenter.scores, canvas, 40)[:10].argmax(-1)
    np.testing.assert_array_equal(segmenter(strip).class_map, expected)
    mirrored = Segmenter(upernet, inference="tiles", stride=40, flip=True)
    assert mirrored(noise(100, 10)).class_map.shape == (100, 10)


def test_long_pictures_are_resized_into_a_box_of_four_sides(upernet, mock_segmenter):
    Segmenter(upernet, inference="slide", stride=64)(noise(10, 400))
    assert mock_segmenter.sizes == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [(10_000, 64), (64, 10_000)])
def test_memory_does_not_grow_with_the_longer_side(size):
    classes, positions = 600, SIDE // 4
    scores = np.zeros((1, positions, positions, classes), np.float32)
    picture = Image.new("RGB", size)
    windows = []

    def compute(pixels):
        windows.append(len(pixels))
        return scores

    tracemalloc.start()
    shape = (positions, classes)
    found = segment_windows(picture, size[::-1], SIDE, 2 * SIDE // 3, compute, shape)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.numbers.shape == size[::-1]
    assert len(windows) > 200
    assert peak < len(windows) * scores.nbytes / 3


def test_pictures_of_10_000_pixels_a_side_are_within_the_limits():
    assert LIMITS.pixels == 10_000 * 10_000


def test_a_bad_picture_does_not_stop_the_others(upernet, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    noise(8, 8).save(tmp_path / "good.png")
    segmenter = Segmenter(upernet)
    bad, good = segmenter.predict(tmp_path)
    assert isinstance(bad.error, ImageError)
    assert good.error is None
    assert good.id.endswith("good.png")
    with pytest.raises(ImageError):
        segmenter(tmp_path / "bad.png")
    with pytest.raises(ImageError):
        _ = bad.areas
    assert bad.record()["error"] in bad._repr_html_()


def test_options_are_checked(upernet, named_weights):
    with pytest.raises(UnknownNameError, match="slid"):
        Segmenter(upernet, inference="slid")
    with pytest.raises(ArgumentError, match="stride must be from 1 to 64"):
        Segmenter(upernet, stride=65)
    with pytest.raises(ArgumentTypeError, match="use predict"):
        Segmenter(upernet)([noise(4, 4)])
    with pytest.raises(ArgumentError, match="batch_size"):
        Segmenter(upernet).predict([], batch_size=0)
    with pytest.raises(ArgumentError):
        Segmenter(named_weights)


def test_public_names():
    assert convnext.Segmenter is Segmenter
    assert convnext.Segmentation is Segmentation
