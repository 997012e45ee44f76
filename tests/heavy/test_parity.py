"""Our numbers against those of timm, transformers, keras.applications and torchvision.

Float32 throughout. 1e-4 of the largest value is about what two orders of summation differ by after
a hundred layers; a wrong epsilon, a tanh GELU or a missing bias each differ by far more.
"""

from __future__ import annotations

import json
import math
import re

import keras
import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.nn.alterations import feature_maps
from convnext.weights.canonical import canonical_variables
from convnext.weights.layouts import to_canonical, to_foreign
from convnext.weights.layouts.table import expand
from convnext.weights.layouts.timm import TIMM
from peers import (
    FULL_DEPTH,
    FULL_WIDTH,
    as_numpy,
    fill,
    gradients,
    our_outputs,
    pictures,
    published_model,
    random_weights,
    relative_error,
    timm_model,
    timm_outputs,
    transformers_outputs,
    under_test,
)

pytestmark = pytest.mark.upstream
TOLERANCE = 1e-4
OPEN_SIZE = (None, None, 3)


QUICK = ("convnext_atto", "convnextv2_atto", "convnext_tiny")
EVERYWHERE = ("convnext_tiny", "convnextv2_tiny")


def once(name):
    """Sizes differ in numbers alone: most are compared on one backend, and most when slow."""
    backend = pytest.mark.torch_first if name in EVERYWHERE else pytest.mark.torch_alone
    return pytest.param(name, marks=[backend, *([] if name in QUICK else [pytest.mark.slow])])


@pytest.mark.parametrize("name", [once(name) for name in (*FULL_DEPTH, *FULL_WIDTH)])
def test_logits_maps_and_features_equal_timm_and_transformers(name):
    variant = under_test(name)
    weights = random_weights(variant)
    images = pictures(2, 96, 64, 3)
    model = published_model(variant, input_shape=OPEN_SIZE)
    fill(model, weights)
    ours = our_outputs(model, images)
    peers = {
        "timm": timm_outputs(timm_model(variant, weights), images),
        "transformers": transformers_outputs(variant, weights, images),
    }
    errors = {
        f"{peer} {layer}": relative_error(ours[layer], theirs)
        for peer, outputs in peers.items()
        for layer, theirs in outputs.items()
    }
    assert max(errors.values()) < TOLERANCE, errors
    assert len(errors) == 12


@pytest.mark.parametrize("size", ["Tiny", once("Small"), once("Base")])
@pytest.mark.torch_first
def test_equals_keras_applications(size):
    variant = VARIANTS[f"convnext_{size.lower()}"]
    weights = random_weights(variant)
    images = 255 * np.abs(pictures(1, 64, 96, 3))
    theirs = getattr(keras.applications, f"ConvNeXt{size}")(
        weights=None, input_shape=(64, 96, 3), classifier_activation=None
    )
    foreign = to_foreign(weights, "keras_applications", variant)
    for variable in theirs.weights:
        # Upstream leaves layer scale's gamma without a name, so Keras numbers it.
        variable.assign(foreign[re.sub(r"/variable(_\d+)?$", "/gamma", variable.path)])
    ours = published_model(variant, include_preprocessing=True, input_shape=(64, 96, 3))
    fill(ours, weights)
    got = ours.predict_on_batch(images)
    assert relative_error(got, theirs.predict_on_batch(images)) < TOLERANCE


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_gradients_equal_timm(name):
    import torch

    variant = VARIANTS[name]
    weights = random_weights(variant, num_classes=10)
    images = pictures(3, 64, 96, 3)
    towards = pictures(3, 10, seed=2)

    theirs = timm_model(variant, weights, num_classes=10)
    logits = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))
    (logits * torch.from_numpy(towards)).sum().backward()
    expected = to_canonical(
        {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()},
        "timm",
        variant,
    )

    model = published_model(variant, input_shape=OPEN_SIZE, num_classes=10)
    fill(model, weights)
    got = gradients(model, images, towards)

    assert got.keys() == expected.keys() == weights.keys()
    errors = {name: relative_error(got[name], expected[name]) for name in expected}
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.torch_first
def test_trained_weights_give_the_published_activations(shared_data):
    """Real weights: layer scale up to 10.5 and activations up to 26, as no initial values are."""
    folder = shared_data / "trained-nano-prefix"
    foreign = np.load(folder / "convnext_nano_hagrid300k_stem_stage0_stage1_timm_names.npz")
    reference = np.load(folder / "reference_activations_coco_cats_224.npz")
    variant = VARIANTS["convnext_nano"]
    model = published_model(variant)
    variables = canonical_variables(model)
    rows = {row.foreign: row for row in expand(TIMM.rows_for(variant), variant.depths)}
    for name in foreign.files:
        variables[rows[name].canonical].assign(rows[name].move.read(foreign[name]))

    layers = {
        "stem_norm": "stem",
        "stage_0": "stage0",
        "stage_1": "stage1",
        "downsample_2_conv": "stage2_downsample",
    }
    taps = keras.Model(model.input, [model.get_layer(name).output for name in layers])
    got = taps.predict_on_batch(reference["normalised_nchw"].transpose(0, 2, 3, 1))
    for ours, theirs in zip(got, layers.values(), strict=True):
        expected = reference[theirs].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(as_numpy(ours), expected, rtol=0, atol=2e-4, err_msg=theirs)


def _trunc_normal_by_inversion(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0):
    """How PyTorch drew it when the outputs were recorded; its newer way draws other numbers."""
    low, high = (math.erf((bound - mean) / std / math.sqrt(2)) for bound in (a, b))
    import torch

    with torch.no_grad():
        tensor.uniform_(low, high).erfinv_().mul_(std * math.sqrt(2)).add_(mean)
        return tensor.clamp_(min=a, max=b)


@pytest.mark.parametrize("name", ["convnext_tiny", once("convnext_small")])
@pytest.mark.torch_alone
def test_torchvisions_seeded_outputs(name, shared_data, monkeypatch):
    import torch

    monkeypatch.setattr(torch.nn.init, "trunc_normal_", _trunc_normal_by_inversion)
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    reference = json.loads(
        (shared_data / "references" / "torchvision_seeded_expected_outputs.json").read_text()
    )[name]
    torch.manual_seed(reference["seed"])
    theirs = getattr(models, name)(num_classes=50)
    images = torch.rand((1, 3, 224, 224))
    np.testing.assert_allclose(images.flatten()[:5], reference["input_first5"])

    state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    model = published_model(VARIANTS[name], num_classes=50)
    fill(model, to_canonical(state, "torchvision"))
    got = model.predict_on_batch(images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(as_numpy(got)[0], reference["expected_logits"], atol=1e-4)


@pytest.mark.torch_first
def test_feature_maps_are_the_named_stages():
    variant = VARIANTS["test_v2"]
    model = published_model(variant, input_shape=OPEN_SIZE, include_top=False)
    fill(model, random_weights(variant, num_classes=0, head="none"))
    images = pictures(1, 64, 64, 3)
    maps = feature_maps(model).predict_on_batch(images)
    assert relative_error(maps[-1], model.predict_on_batch(images)) == 0
