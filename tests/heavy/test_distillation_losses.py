"""The losses of distillation, and their gradients, against references in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convnext.errors import UnknownNameError
from convnext.train.distillation.losses import dist, features, soft_targets
from peers import backward

STEP = 1e-6  # of finite differences


def _logits(seed, scale=3.0, shape=(5, 7)):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def _softmax(logits, temperature):
    values = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return values / values.sum(-1, keepdims=True)


def _divergence(logits, teachers, temperature):
    p, q = _softmax(teachers, temperature), _softmax(logits, temperature)
    return temperature**2 * (p * (np.log(p) - np.log(q))).sum(-1)


def _correlated(logits, teachers, temperature, between, within):
    p, q = _softmax(teachers, temperature), _softmax(logits, temperature)
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (between * (1 - rows) + within * (1 - columns))


def _cosine(own, teachers):
    lengths = np.linalg.norm(own, axis=-1) * np.linalg.norm(teachers, axis=-1)
    return (1 - (own * teachers).sum(-1) / lengths).reshape(len(own), -1).mean(-1)


def _smooth_l1(own, teachers):
    whitened = teachers - teachers.mean(-1, keepdims=True)
    whitened = whitened / np.sqrt(teachers.var(-1, keepdims=True) + 1e-5)
    gap = np.abs(own - whitened)
    return np.where(gap < 2, gap**2 / 4, gap - 1).reshape(len(own), -1).mean(-1)


CASES = {
    "soft_targets": (lambda s, t: soft_targets(s, t, 2.0), lambda s, t: _divergence(s, t, 2.0)),
    "soft_targets_hard": (
        lambda s, t: soft_targets(s, t, 1.0),
        lambda s, t: _divergence(s, t, 1.0),
    ),
    "dist": (
        lambda s, t: dist(s, t, 1.0, 1.0, 1.0),
        lambda s, t: _correlated(s, t, 1.0, 1.0, 1.0),
    ),
    "dist_softer": (
        lambda s, t: dist(s, t, 4.0, 2.0, 0.5),
        lambda s, t: _correlated(s, t, 4.0, 2.0, 0.5),
    ),
    "cosine": (lambda s, t: features(s, t, "cosine"), _cosine),
    "smooth_l1": (lambda s, t: features(s, t, "smooth_l1"), _smooth_l1),
}


class _Applied(keras.Layer):
    """A function as a layer, for `backward`."""

    def __init__(self, function):
        super().__init__(dtype="float32")
        self.function = function
        self.built = True

    def call(self, x):
        return self.function(x)


def _ours(loss, own, teachers):
    """The loss and the gradient of its sum."""
    values = keras.ops.convert_to_numpy(loss(own, keras.ops.convert_to_tensor(teachers)))
    layer = _Applied(lambda x: loss(x, keras.ops.convert_to_tensor(teachers)))
    gradient = backward(layer, own, np.ones(values.shape, np.float32))[0]
    return values, keras.ops.convert_to_numpy(gradient)


def _differences(reference, own):
    gradient = np.zeros(own.shape)
    for index in np.ndindex(own.shape):
        moved = np.zeros(own.shape)
        moved[index] = STEP
        gap = np.sum(reference(own + moved)) - np.sum(reference(own - moved))
        gradient[index] = gap / (2 * STEP)
    return gradient


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_the_reference(name):
    loss, reference = CASES[name]
    own, teachers = _logits(1), _logits(2)
    values, gradient = _ours(loss, own, teachers)
    teachers = teachers.astype(np.float64)
    expected = reference(own.astype(np.float64), teachers)
    assert values.shape == np.shape(expected)
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)
    slopes = _differences(lambda x: reference(x, teachers), own.astype(np.float64))
    np.testing.assert_allclose(gradient, slopes, atol=1e-5 * max(1, np.abs(slopes).max()))


@pytest.mark.parametrize("kind", ["cosine", "smooth_l1"])
def test_features_of_maps_are_the_mean_over_positions(kind):
    own, teachers = _logits(1, shape=(3, 2, 2, 5)), _logits(2, shape=(3, 2, 2, 5))
    values = keras.ops.convert_to_numpy(features(own, teachers, kind))
    flat = keras.ops.convert_to_numpy(features(own.reshape(-1, 5), teachers.reshape(-1, 5), kind))
    np.testing.assert_allclose(values, flat.reshape(3, 4).mean(1), rtol=1e-5)


@pytest.mark.torch_alone
def test_losses_are_those_of_pytorchs_functions():
    import torch
    from torch.nn import functional

    own, teachers = torch.from_numpy(_logits(1)), torch.from_numpy(_logits(2))
    found = soft_targets(own, teachers, 3.0)
    logs = functional.log_softmax(own / 3, -1), functional.log_softmax(teachers / 3, -1)
    expected = 9 * functional.kl_div(*logs, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found.cpu(), expected)
    found = features(own, teachers, "cosine").cpu()
    torch.testing.assert_close(found, 1 - functional.cosine_similarity(own, teachers))
    found = features(own, teachers, "smooth_l1").cpu()
    white = functional.layer_norm(teachers, (7,))
    expected = functional.smooth_l1_loss(own, white, beta=2.0, reduction="none").mean(-1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_no_loss_is_infinite_for_extreme_numbers(name):
    own = np.array([[3e4, -3e4, 0, 1], [-3e4, 3e4, 0, 1], [1e-30, 0, 0, 0]], np.float32)
    teachers = np.array([[-3e4, 3e4, 0, 1], [-3e4, 3e4, 0, 1], [3e4, 0, 0, 0]], np.float32)
    values, gradient = _ours(CASES[name][0], own, teachers)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    if name == "soft_targets_hard":
        np.testing.assert_allclose(values, [6e4, 0, np.log(4)], rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("constant", ["student", "teacher", "both", "zero"])
def test_constant_rows_have_finite_gradients(name, constant):
    own, teachers = _logits(1), _logits(2)
    if constant != "teacher":
        own[:] = 0 if constant == "zero" else 0.3
    if constant != "student":
        teachers[:] = 0 if constant == "zero" else -7.1
    values, gradient = _ours(CASES[name][0], own, teachers)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 10
    if name == "dist":
        assert values == pytest.approx(2)  # nothing is correlated with a constant
        assert not gradient.any()


def test_dist_learns_from_rows_that_vary_beside_constant_ones():
    own, teachers = _logits(1), _logits(2)
    _, alone = _ours(lambda s, t: dist(s, t, 1.0, 1.0, 0.0), own[1:], teachers[1:])
    own[0] = 0.25
    _, gradient = _ours(lambda s, t: dist(s, t, 1.0, 1.0, 0.0), own, teachers)
    assert not gradient[0].any()
    np.testing.assert_allclose(gradient[1:], alone * 4 / 5, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_losses_are_computed_in_float32_under_bfloat16(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    loss = CASES[name][0]
    own, teachers = (keras.ops.cast(_logits(seed), "bfloat16") for seed in (1, 2))
    values = loss(own, teachers)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    keras.config.set_dtype_policy("float32")
    exact = loss(keras.ops.cast(own, "float32"), keras.ops.cast(teachers, "float32"))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (values, exact)))


@pytest.mark.parametrize("name", CASES)
def test_no_gradient_reaches_the_teacher(name):
    own, teachers = _logits(1), _logits(2)
    loss = CASES[name][0]
    towards = np.ones(keras.ops.shape(loss(own, teachers)), np.float32)
    through_both = _Applied(lambda x: loss(x, 2 * x + keras.ops.convert_to_tensor(teachers)))
    doubled = 2 * own + teachers
    alone = _Applied(lambda x: loss(x, keras.ops.convert_to_tensor(doubled)))
    found, expected = (
        keras.ops.convert_to_numpy(backward(layer, own, towards)[0])
        for layer in (through_both, alone)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_unknown_feature_loss_is_refused():
    with pytest.raises(UnknownNameError, match="cosine, smooth_l1"):
        features(_logits(1), _logits(2), "l2")
