"""`convnext.optimizers.AdamW` is `keras.optimizers.AdamW`, computed in another way on PyTorch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convnext import create_convnext_v2
from convnext.optimizers import AdamW

pytestmark = pytest.mark.torch_first

OPTIONS = [
    {},
    {"weight_decay": 0.0},
    {"amsgrad": True},
    {"clipnorm": 0.5},
    {"global_clipnorm": 0.7},
    {"clipvalue": 0.1},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    {"gradient_accumulation_steps": 2, "global_clipnorm": 0.7},
    {"loss_scale_factor": 8.0},
    {"learning_rate": keras.optimizers.schedules.CosineDecay(0.02, 5)},
]
SHAPES = {"kernel": (40, 5), "bias": (5,), "narrow_kernel": (2, 2, 3, 1)}


def _run(optimizer, steps, variables=None):
    """Update variables with the gradients of these steps."""
    if variables is None:
        rng = np.random.default_rng(0)
        variables = [
            keras.Variable(rng.normal(size=shape).astype(np.float32), name=name)
            for name, shape in SHAPES.items()
        ]
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.build(variables)
    for step in steps:
        rng = np.random.default_rng(step)
        gradients = [rng.normal(size=v.shape).astype(np.float32) for v in variables]
        gradients[step % 2][:] = 0.0  # a norm of zero too
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    return variables


def _same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        a, b = (keras.ops.convert_to_numpy(v) for v in (a, b))
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(options) or "usual")
def test_steps_are_those_of_keras(options):
    options = {"learning_rate": 0.01, "weight_decay": 0.05, **options}
    ours, theirs = AdamW(**options), keras.optimizers.AdamW(**options)
    _same(_run(ours, range(7)), _run(theirs, range(7)))
    _same(ours.variables, theirs.variables)


@pytest.mark.parametrize(
    "kinds", [(AdamW, keras.optimizers.AdamW), (keras.optimizers.AdamW, AdamW)]
)
def test_each_continues_from_the_others_state(kinds):
    options = {"learning_rate": 0.01, "weight_decay": 0.05, "use_ema": True, "clipnorm": 1.0}
    whole = kinds[0](**options)
    expected = _run(whole, range(6))
    first = kinds[0](**options)
    variables = _run(first, range(3))
    second = kinds[1].from_config(first.get_config())
    second.exclude_from_weight_decay(var_names=["bias"])
    second.build(variables)
    state = {}
    first.save_own_variables(state)
    second.load_own_variables(state)
    _same(_run(second, range(3, 6), variables), expected)
    _same(second.variables, whole.variables)


def test_a_model_is_saved_with_it_and_continues(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(4, 32, 32, 3)).astype(np.float32)
    labels = np.arange(4)

    def fit(model):
        model.fit(pictures, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)

    model = create_convnext_v2("test", num_classes=4, input_shape=(32, 32, 3))
    model.compile(AdamW(1e-3, weight_decay=0.05), "sparse_categorical_crossentropy")
    fit(model)
    model.save(tmp_path / "model.keras")
    fit(model)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is AdamW
    assert int(loaded.optimizer.iterations) == 2
    fit(loaded)
    _same(loaded.optimizer.variables, model.optimizer.variables)
    _same(loaded.weights, model.weights)


@pytest.mark.torch_alone
def test_parameters_are_updated_together(monkeypatch):
    from convnext.nn import torch_updates

    calls = []
    monkeypatch.setattr(torch_updates, "adamw", lambda values, *_, **__: calls.append(len(values)))
    _run(AdamW(0.01), [1])
    assert calls == [2, 1]  # those with decay, then the rest
