"""Grad-CAM's closed form against differences of logits; the region against the pixels themselves.

`tests/heavy/test_classifier.py` holds it against automatic gradients.
"""

import numpy as np
import pytest
from PIL import Image

from convnext.architecture import adapted_strides, feature_sizes
from convnext.classifier import ClassScore, Explanation
from convnext.classifier.explain import NORM_EPSILON, grad_cam, seen_region
from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels


def logit(features, gamma, beta, kernel):
    """A class's logit as the network computes it."""
    mean = features.mean((0, 1))
    normalised = (mean - mean.mean()) / np.sqrt(mean.var() + NORM_EPSILON)
    return (gamma * normalised + beta) @ kernel


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_grad_cam_is_what_its_definition_says(seed, scale):
    rng = np.random.default_rng(seed)
    features = scale * rng.standard_normal((3, 2, 6))
    gamma, beta, kernel = rng.standard_normal((3, 6))
    gradient = np.empty_like(features)
    step = 1e-5 * scale
    for position in np.ndindex(features.shape):
        moved = [features.copy(), features.copy()]
        moved[0][position] -= step
        moved[1][position] += step
        below, above = (logit(f, gamma, beta, kernel) for f in moved)
        gradient[position] = (above - below) / (2 * step)
    expected = np.maximum(features @ gradient.mean((0, 1)), 0)
    heat = grad_cam(features, gamma, kernel)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, expected, rtol=1e-6, atol=1e-6 * expected.max())


def test_where_all_positions_are_alike_nothing_is_shown():
    features = np.broadcast_to(np.arange(5.0), (4, 4, 5))
    heat = grad_cam(features, np.ones(5), np.arange(5.0))
    assert heat.max() < 1e-6


RECIPES = [
    Preprocess(224),
    Preprocess(64, crop_fraction=1.0),
    Preprocess(100, crop_fraction=0.875),  # 100 is no multiple of 32: the last 4 are not seen
    Preprocess(384, mode="squash"),
]


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (256, 256)])
@pytest.mark.parametrize("preprocess", RECIPES, ids=lambda recipe: f"{recipe.mode}-{recipe.size}")
def test_the_region_is_what_the_model_sees(size, preprocess):
    """A picture of its own coordinates says where each of its pixels went."""
    width, height = size
    down, across = np.mgrid[0:height, 0:width]
    coordinates = np.stack([across * 255 / width, down * 255 / height, 0 * down], axis=-1)
    seen = pixels(Image.fromarray(np.rint(coordinates).astype(np.uint8)), preprocess).astype(float)
    strides = adapted_strides(preprocess.size, preprocess.size)
    cells = feature_sizes(preprocess.size, preprocess.size, strides)[-1]
    left, top, right, bottom = seen_region(width, height, preprocess, cells, strides)
    last = min(preprocess.size, cells[0] * int(np.prod(strides)))
    middle = last // 2
    centres = (np.arange(last) + 0.5) / last
    expected = np.stack(
        [left + centres * (right - left) - 0.5, top + centres * (bottom - top) - 0.5]
    )
    found = np.stack([seen[middle, :last, 0] * width / 255, seen[:last, middle, 1] * height / 255])
    inner = slice(6, -6)  # at its edge a picture is continued by what is there
    assert np.abs(found - expected)[:, inner].max() < 1.2 * max(size) / 255


def test_a_drawn_explanation():
    score = ClassScore("tabby, tabby cat", 281, 0.5)
    heat = np.eye(7, dtype=np.float32)
    picture = Image.new("RGB", (300, 200), (200, 100, 50))
    drawn = Explanation("cat.jpg", score, heat, (50, 0, 250, 200), picture).draw(150)
    assert drawn.mode == "RGB"
    assert drawn.width == 2 * 150 + 8
    plain = np.asarray(drawn)[50, :150]
    assert np.abs(plain - (200, 100, 50)).max() <= 1
    assert (np.asarray(drawn)[:100, 158 + 25 : 158 + 125].std((0, 1)) > 5).all()
