"""DINOv3's ConvNeXts of the Hugging Face door, held against transformers on the running backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hf_models import (
    answers_of_upstream,
    assert_same,
    config_of,
    flat,
    model_of,
    tensor,
    upstream_of,
)
from safetensors.numpy import load_file, save_file

from convnext import hf
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.weights.layouts import recognise, to_canonical, to_foreign
from peers import as_numpy, pictures

pytestmark = pytest.mark.torch_first

FAMILY = "DINOv3ConvNext"
VALUES = {"Model": {}, "Backbone": {"out_features": ["stem", "stage2", "stage4"]}}
BOTH = pytest.mark.parametrize("kind", VALUES)


@pytest.mark.upstream
@BOTH
def test_models_saved_by_transformers_have_the_same_outputs_here(kind, tmp_path):
    theirs = upstream_of(FAMILY, kind, **VALUES[kind])
    theirs.save_pretrained(tmp_path)
    ours = getattr(hf, f"{FAMILY}{kind}").from_pretrained(tmp_path)
    assert not ours.loading_report.fresh
    assert not ours.loading_report.unexpected
    images = pictures(2, 3, 64, 96)
    found = flat(ours(tensor(images), output_hidden_states=True))
    assert_same(found, answers_of_upstream(theirs, images, output_hidden_states=True))
    if kind == "Model":
        assert found["last_hidden_state 0"].shape == (2, 1 + 2 * 3, 24)
        pooled = found["pooler_output 0"]
        np.testing.assert_array_equal(pooled, found["last_hidden_state 0"][:, 0])
    assert ours.num_features == theirs.num_features if kind == "Backbone" else True


@pytest.mark.upstream
@BOTH
def test_models_saved_here_have_the_same_outputs_in_transformers(kind, tmp_path):
    import transformers

    ours = model_of(FAMILY, kind, **VALUES[kind])
    ours.save_pretrained(tmp_path, max_shard_size="20KB")
    theirs, info = getattr(transformers, f"{FAMILY}{kind}").from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = pictures(2, 3, 64, 96)
    assert_same(flat(ours(tensor(images))), answers_of_upstream(theirs.eval(), images))
    import torch

    values = {name: torch.tensor(v.read()) for name, v in ours.parameter_values().items()}
    theirs.load_state_dict(values, strict=True)


@pytest.mark.upstream
@pytest.mark.parametrize(
    "values",
    [
        {"num_channels": 4, "hidden_act": "relu", "drop_path_rate": 0.5},
        {"depths": [1, 2, 1], "hidden_sizes": [8, 12, 16]},
    ],
)
def test_unusual_configurations(values, tmp_path):
    theirs = upstream_of(FAMILY, "Model", **values)
    theirs.save_pretrained(tmp_path)
    ours = hf.DINOv3ConvNextModel.from_pretrained(tmp_path)
    images = pictures(2, values.get("num_channels", 3), 32, 64)
    assert_same(flat(ours(tensor(images))), answers_of_upstream(theirs, images))


@pytest.mark.parametrize("names", ["without a prefix", "timm", "facebook"])
def test_the_same_weights_under_other_names(names, tmp_path):
    ours = model_of(FAMILY, "Model", layer_scale_init_value=1.0)
    ours.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    arrays = load_file(file)
    if names == "without a prefix":
        arrays = {name.removeprefix("model."): array for name, array in arrays.items()}
    else:
        shapes = {name: array.shape for name, array in arrays.items()}
        arrays = to_foreign(to_canonical(arrays), names, recognise(shapes).variant)
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, file)
    again = hf.DINOv3ConvNextModel.from_pretrained(tmp_path)
    assert not again.loading_report.fresh
    images = tensor(pictures(1, 3, 64, 64))
    wanted = as_numpy(ours(images).last_hidden_state)
    np.testing.assert_array_equal(as_numpy(again(images).last_hidden_state), wanted)


def test_configurations_of_other_models_are_refused(tmp_path):
    config_of("ConvNext").save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match="DINOv3ConvNext classes"):
        hf.DINOv3ConvNextModel.from_pretrained(tmp_path)
    with pytest.raises(ArgumentTypeError, match="DINOv3ConvNextConfig"):
        hf.DINOv3ConvNextModel(config_of("ConvNext"))
    with pytest.raises(ArgumentTypeError, match="ConvNextConfig"):
        hf.ConvNextModel(config_of(FAMILY))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="modules are no Keras models")
def test_a_keras_file_brings_the_model_back(tmp_path):
    model = model_of(FAMILY, "Model")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    images = pictures(1, 3, 64, 64)
    for one, other in zip(again(images).to_tuple(), model(images).to_tuple(), strict=True):
        np.testing.assert_array_equal(as_numpy(one), as_numpy(other))
