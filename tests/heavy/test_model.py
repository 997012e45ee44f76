"""The architecture as a whole: counts, shapes, names, options, saving, precision."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from convnext import create_convnext_v1, create_convnext_v2
from convnext.architecture import VARIANTS, get_variant
from convnext.errors import ArgumentError
from convnext.nn.alterations import feature_maps
from convnext.nn.model import Block, encode
from convnext.weights.canonical import canonical_variables, parameter_shapes
from peers import as_numpy, fill, pictures, published_model, random_weights, relative_error

pytestmark = pytest.mark.torch_first

SMALL = ["test_v1", "test_v2", "convnext_atto", "convnextv2_nano"]
CREATE = {"v1": create_convnext_v1, "v2": create_convnext_v2}


def blocks_of(model):
    return [layer for layer in model.layers if isinstance(layer, Block)]


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_the_canonical_ones_in_order(name):
    variant = VARIANTS[name]
    model = published_model(variant)
    expected = parameter_shapes(variant)
    got = {name: tuple(v.shape) for name, v in canonical_variables(model).items()}
    assert list(got.items()) == list(expected.items())
    assert model.count_params() == variant.parameter_count()


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_a_family_holds_what_its_paper_says(family):
    blocks = blocks_of(CREATE[family]("test"))
    assert all((block.grn is not None) == (family == "v2") for block in blocks)
    assert all((block.layer_scale is not None) == (family == "v1") for block in blocks)


@pytest.mark.parametrize(
    ("side", "last"),
    [(224, 7), (128, 4), (96, 6), (64, 4), (48, 6), (32, 4), (16, 4), (8, 4)],
)
def test_small_pictures_keep_a_last_map_of_four_pixels(side, last):
    model = create_convnext_v2("test", input_shape=(side, side, 3), include_top=False)
    assert model.output_shape == (None, last, last, 32)
    assert model.predict_on_batch(pictures(1, side, side, 3)).shape == (1, last, last, 32)
    assert model.count_params() == VARIANTS["test_v2"].parameter_count(0) - 2 * 32


@pytest.mark.parametrize("size", [(33, 47), (225, 500), (32, 1000)])
def test_an_open_size_cuts_as_published(size):
    model = create_convnext_v1("test", 5, (None, None, 3))
    maps = feature_maps(model).predict_on_batch(pictures(1, *size, 3))
    expected = [(size[0] // stride, size[1] // stride) for stride in (4, 8, 16, 32)]
    assert [m.shape[1:3] for m in maps] == expected


@pytest.mark.parametrize("size", [(33, 47), (225, 500), (9, 70)])
def test_odd_fixed_sizes(size):
    model = create_convnext_v1("test", 5, (*size, 3))
    assert model.predict_on_batch(pictures(2, *size, 3)).shape == (2, 5)


@pytest.mark.parametrize("channels", [1, 3, 4, pytest.param(13, marks=pytest.mark.each_backend)])
def test_any_number_of_channels(channels):
    model = create_convnext_v2("test", 5, (32, 32, channels))
    assert model.predict_on_batch(pictures(1, 32, 32, channels)).shape == (1, 5)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_batch(batch):
    model = create_convnext_v2("test", 5, (32, 32, 3))
    assert model(pictures(batch, 32, 32, 3)).shape == (batch, 5)


def test_views_into_larger_arrays():
    model = create_convnext_v2("test", 5, (32, 32, 3))
    images = pictures(4, 64, 64, 6)[::2, ::2, 32:, ::2]
    expected = model.predict_on_batch(np.ascontiguousarray(images))
    np.testing.assert_allclose(as_numpy(model(images.copy())), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch(images), expected, atol=1e-6)


def test_the_batch_does_not_change_an_answer():
    model = published_model(VARIANTS["test_v2"], input_shape=(32, 32, 3))
    fill(model, random_weights(VARIANTS["test_v2"]))
    images = pictures(5, 32, 32, 3)
    together = model.predict_on_batch(images)
    alone = np.concatenate([model.predict_on_batch(images[i : i + 1]) for i in range(5)])
    assert relative_error(alone, together) < 1e-5


def test_the_top_gives_probabilities_or_logits():
    images = pictures(2, 32, 32, 3)
    probabilities = create_convnext_v1("test", 7, (32, 32, 3))
    logits = create_convnext_v1("test", 7, (32, 32, 3), classifier_activation=None)
    logits.set_weights(probabilities.get_weights())
    scores = as_numpy(logits(images))
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(as_numpy(probabilities(images)), expected, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooled_features_are_normalised_as_the_classifier_sees_them(pooling, reduce):
    variant = VARIANTS["test_v1"]
    weights = random_weights(variant, num_classes=0)
    pooled = create_convnext_v1("test", include_top=False, pooling=pooling)
    fill(pooled, weights)
    maps = create_convnext_v1("test", include_top=False)
    fill(maps, {name: w for name, w in weights.items() if not name.startswith("head_norm")})
    images = pictures(2, 224, 224, 3)
    vector = reduce(maps.predict_on_batch(images).astype("float64"), axis=(1, 2))
    centred = vector - vector.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    expected = normed * weights["head_norm.gamma"] + weights["head_norm.beta"]
    assert relative_error(pooled.predict_on_batch(images), expected) < 1e-5


def test_drop_path_rises_linearly_over_all_blocks():
    model = create_convnext_v1("tiny", 5, (32, 32, 3), drop_path_rate=0.1)
    rates = [block.drop_path.rate for block in blocks_of(model)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 18))
    assert all(type(rate) is float for rate in rates)
    images = pictures(8, 32, 32, 3)
    off, on = (as_numpy(model(images, training=training)) for training in (False, True))
    np.testing.assert_allclose(off, model.predict_on_batch(images), atol=1e-6)
    assert (off != on).any()


@pytest.mark.parametrize("none", [None, 0])
def test_layer_scale_can_be_left_out(none):
    model = create_convnext_v1("test", 5, (32, 32, 3), layer_scale_init_value=none)
    assert not any("layer_scale" in name for name in canonical_variables(model))


def test_initial_values():
    model = create_convnext_v1("tiny", head_init_scale=0.001)
    weights = {name: as_numpy(v) for name, v in canonical_variables(model).items()}
    assert abs(weights.pop("head.kernel").std() - 2e-5) < 2e-7
    for name, array in weights.items():
        if name.endswith("kernel"):
            assert abs(array.std() - 0.02) < 2e-3, name
        elif name.endswith("layer_scale.gamma"):
            np.testing.assert_allclose(array, 1e-6)
        elif name.endswith("norm.gamma"):
            np.testing.assert_array_equal(array, 1)
        else:
            np.testing.assert_array_equal(array, 0)
    kernels = [array for name, array in weights.items() if name.endswith("kernel")]
    assert len({float(kernel.flat[0]) for kernel in kernels}) == len(kernels)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_preprocessing_takes_pixels(channels):
    with_it = create_convnext_v1("test", 5, (32, 32, channels), include_preprocessing=True)
    without = create_convnext_v1("test", 5, (32, 32, channels))
    without.set_weights(with_it.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels)).astype("float32")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    if channels != 3:
        mean, std = mean.mean(), std.mean()
    normalised = ((pixels / 255 - mean) / std).astype("float32")
    np.testing.assert_allclose(
        with_it.predict_on_batch(pixels), without.predict_on_batch(normalised), atol=1e-5
    )


def test_feature_maps_refuse_another_model():
    other = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)])
    with pytest.raises(ArgumentError, match="create_convnext_v1"):
        feature_maps(other)


def test_summary_shows_one_line_a_block(capsys):
    create_convnext_v1("test", 5).summary(line_length=100)
    printed = capsys.readouterr().out
    assert "stage_2_block_1 (Block)" in printed
    assert f"{VARIANTS['test_v1'].parameter_count(5):,}" in printed


LOAD_IN_A_FRESH_PROCESS = """
import sys
import numpy as np
import keras
import convnext.nn.model
folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
whole = keras.saving.load_model(f"{folder}/model.keras")
again = keras.Model.from_config(whole.get_config())
again.load_weights(f"{folder}/model.weights.h5")
np.save(f"{folder}/got.npy", np.stack([m.predict_on_batch(images) for m in (whole, again)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["v1", "v2"])
def test_saved_models_load_in_a_fresh_process(family, tmp_path):
    model = CREATE[family]("test", 5, (48, 48, 3), drop_path_rate=0.2, include_preprocessing=True)
    fill(model, random_weights(get_variant(family, "test"), 5))
    images = 100 * np.abs(pictures(2, 48, 48, 3))
    np.save(tmp_path / "images.npy", images)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    subprocess.run(
        [sys.executable, "-c", LOAD_IN_A_FRESH_PROCESS, tmp_path], check=True, env=os.environ
    )
    expected = model.predict_on_batch(images)
    for got in np.load(tmp_path / "got.npy"):
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("family", ["v1", pytest.param("v2", marks=pytest.mark.each_backend)])
def test_clones_and_configs_build_the_same_network(family):
    model = CREATE[family]("test", 5, (48, 48, 3), drop_path_rate=0.2)
    fill(model, random_weights(get_variant(family, "test"), 5))
    images = pictures(2, 48, 48, 3)
    clone, again = keras.models.clone_model(model), keras.Model.from_config(model.get_config())
    assert clone.get_config() == again.get_config() == model.get_config()
    for other in (clone, again):
        assert list(canonical_variables(other)) == list(canonical_variables(model))
    again.set_weights(model.get_weights())
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-6)


def test_a_model_works_as_a_layer_of_another_model():
    inner = create_convnext_v2("test", include_top=False, pooling="avg", input_shape=(32, 32, 3))
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(2)])
    assert outer.predict_on_batch(pictures(2, 32, 32, 3)).shape == (2, 2)


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("v1", "mixed_bfloat16"),
        ("v1", "mixed_float16"),
        ("v2", "mixed_bfloat16"),
        ("v2", "mixed_float16"),
    ],
)
def test_half_precision_survives_large_activations(family, precision):
    """Activations of order 1e3: a variance or a squared norm in half precision would overflow."""
    variant = get_variant(family, "test")
    images = pictures(4, 32, 32, 3)
    weights = random_weights(variant, 5)
    weights["stem_norm.gamma"] = 1000 * weights["stem_norm.gamma"]
    keras.config.set_dtype_policy(precision)
    model = CREATE[family]("test", 5, (32, 32, 3), classifier_activation=None)
    fill(model, weights)
    maps = feature_maps(model).predict_on_batch(images)
    largest = np.abs(as_numpy(keras.ops.cast(maps[0], "float32"))).max()
    assert 1e3 < largest < 6e4
    logits = model.predict_on_batch(images)
    assert as_numpy(logits).dtype == np.float32
    keras.config.set_dtype_policy("float32")
    exact = CREATE[family]("test", 5, (32, 32, 3), classifier_activation=None)
    fill(exact, weights)
    expected = exact.predict_on_batch(images)
    assert relative_error(logits, expected) < (0.02 if precision == "mixed_float16" else 0.15)


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("v1", "mixed_bfloat16"),
        ("v2", "float32"),
        ("v2", "mixed_float16"),
        pytest.param("v1", "float32", marks=pytest.mark.torch_alone),
        pytest.param("v1", "mixed_float16", marks=pytest.mark.torch_alone),
        pytest.param("v2", "mixed_bfloat16", marks=pytest.mark.torch_alone),
    ],
)
def test_a_training_step_reduces_the_loss(family, precision):
    keras.config.set_dtype_policy(precision)
    model = CREATE[family]("test", 4, (32, 32, 3), layer_scale_init_value=1e-6)
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    images, labels = pictures(16, 32, 32, 3), np.arange(16) % 4
    before = model.evaluate(images, labels, verbose=0)
    for _ in range(4):  # the first step of a scaled loss may be skipped
        model.train_on_batch(images, labels)
    after = model.evaluate(images, labels, verbose=0)
    assert np.isfinite(after)
    assert after < before
    assert all(np.isfinite(as_numpy(w)).all() for w in model.weights)


def test_encode_takes_another_activation():
    inputs = keras.Input((32, 32, 3))
    variant = VARIANTS["test_v1"]
    last = encode(inputs, variant, layer_scale_init_value=None, activation="relu")[-1]
    model = keras.Model(inputs, last)
    again = keras.Model.from_config(model.get_config())
    assert blocks_of(again)[0].activation is keras.activations.relu
