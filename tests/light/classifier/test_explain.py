"""Grad-CAM against differences of logits and, where there is one, against its closed form; the
region against the pixels themselves.

`tests/heavy/test_classifier.py` holds it against automatic gradients.
"""

import math

import numpy as np
import pytest
from PIL import Image

from convnext.architecture import adapted_strides, feature_sizes
from convnext.classifier import ClassScore, Explanation
from convnext.classifier.explain import (
    activated,
    grad_cam,
    linear,
    normed,
    pooled,
    seen_region,
)
from convnext.images.recipe import Preprocess
from convnext.images.transform import pixels

HEIGHT, WIDTH, CHANNELS, HIDDEN = 3, 2, 6, 5
NORMS = ("layer", "rms", "simple")
ACTIVATIONS = ("gelu", "gelu_tanh", "silu")
EPSILON = 1e-6


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def norm(kind, epsilon=EPSILON):
    return normed(kind, epsilon, numbers(1, CHANNELS), numbers(2, CHANNELS))


def classifier(inputs=CHANNELS):
    return linear(numbers(3, inputs, 1), numbers(4, 1))


def hidden(activation):
    layer = linear(numbers(5, CHANNELS, HIDDEN), numbers(6, HIDDEN))
    return [layer, activated(activation), classifier(HIDDEN)]


def logit(features, head):
    for layer in head:
        features, _ = layer(features)
    [answer] = features
    return answer


def differences(function, x, step):
    """The gradient of a number, by moving each number that it depends on."""
    gradient = np.empty_like(x)
    for position in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][position] -= step
        moved[1][position] += step
        below, above = map(function, moved)
        gradient[position] = (above - below) / (2 * step)
    return gradient


def closed_form(feature_map, gamma, kernel):
    """Grad-CAM through a layer norm behind the pooling.

    With m = mean of A, s = sqrt(var(m) + epsilon), x = (m - mean(m)) / s and g = gamma w,
    d logit / d A[i, j] = (g - mean(g) - x mean(g x)) / s / positions.
    """
    mean = feature_map.mean((0, 1))
    scale = np.sqrt(mean.var() + EPSILON)
    x = (mean - mean.mean()) / scale
    g = gamma * kernel
    gradient = (g - g.mean() - x * (g * x).mean()) / scale
    return np.maximum(feature_map @ gradient / (HEIGHT * WIDTH), 0)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_a_norm_behind_the_pooling_has_a_closed_form(seed, scale):
    features = scale * numbers(seed, HEIGHT, WIDTH, CHANNELS)
    expected = closed_form(features, numbers(1, CHANNELS), numbers(3, CHANNELS))
    heat = grad_cam(features, [pooled, norm("layer"), classifier()])
    assert heat.dtype == np.float32
    assert heat.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=1e-6, atol=1e-6 * expected.max())


HEADS = {
    **{f"pool, {kind}": [pooled, norm(kind), classifier()] for kind in NORMS},
    **{f"{kind}, pool": [norm(kind), pooled, classifier()] for kind in NORMS},
    **{f"hidden {kind}": [pooled, norm("layer"), *hidden(kind)] for kind in ACTIVATIONS},
    "clip": [norm("layer", 1e-2), pooled, *hidden("gelu")],
    "no norm": [pooled, classifier()],
}


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_grad_cam_is_what_its_definition_says(head, scale):
    features = scale * numbers(7, HEIGHT, WIDTH, CHANNELS)
    gradient = differences(lambda f: logit(f, head), features, 1e-5 * scale)
    expected = np.maximum(features @ gradient.mean((0, 1)), 0)
    assert expected.max() > 0
    found = grad_cam(features, head)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())


def test_norms():
    x = numbers(8, HEIGHT, WIDTH, CHANNELS)
    gamma, beta = numbers(1, CHANNELS), numbers(2, CHANNELS)
    mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
    sample = x.std(-1, ddof=1, keepdims=True)
    expected = {
        "layer": (x - mean) / np.sqrt(deviation**2 + 0.1) * gamma + beta,
        "rms": x / np.sqrt(deviation**2 + mean**2 + 0.1) * gamma + beta,
        "simple": x / np.sqrt(sample**2 + 0.1) * gamma + beta,
    }
    for kind in NORMS:
        np.testing.assert_allclose(norm(kind, 0.1)(x)[0], expected[kind], rtol=1e-12)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_and_their_slopes(kind):
    x = np.linspace(-8, 8, 65)
    value, back = activated(kind)(x)
    bare = {
        "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: (
            x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        ),
        "silu": lambda x: x / (1 + math.exp(-x)),
    }[kind]
    np.testing.assert_allclose(value, [*map(bare, x)], rtol=1e-12, atol=1e-15)
    slopes = [(bare(at + 1e-5) - bare(at - 1e-5)) / 2e-5 for at in x]
    np.testing.assert_allclose(back(np.ones_like(x)), slopes, rtol=1e-8, atol=1e-10)


def test_a_uniform_map_gives_an_empty_heat_map():
    features = np.broadcast_to(np.arange(6.0), (4, 4, CHANNELS))
    heat = grad_cam(features, [pooled, norm("layer"), classifier()])
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
