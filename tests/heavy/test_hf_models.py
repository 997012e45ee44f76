"""The Hugging Face door on the running backend, held against transformers on PyTorch.

Every parameter has a random value of ordinary size. Between two summation orders in float32, 1e-5
of the largest value is common on PyTorch itself, and 1e-4 from one framework to another.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hf_models import (
    BACKEND,
    FAMILIES,
    FEWER_FAMILIES,
    KINDS,
    answers_of_upstream,
    assert_same,
    config_of,
    flat,
    model_of,
    tensor,
    upstream_of,
)

from convnext import hf
from convnext.architecture import VARIANTS
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnknownNameError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from convnext.hf import files
from convnext.hf.losses import classification_loss
from convnext.weights.files import LazyTensor
from peers import as_numpy, pictures, random_weights

pytestmark = pytest.mark.torch_first

VALUES = {
    "Model": {},
    "ForImageClassification": {"num_labels": 10},
    "Backbone": {"out_features": ["stem", "stage2", "stage4"]},
}
EXOTIC = {
    "patch_size": 2,
    "num_stages": 3,
    "depths": [1, 2, 1],
    "hidden_sizes": [8, 12, 16],
    "hidden_act": "gelu_new",
    "num_channels": 4,
    "layer_norm_eps": 0.1,
    "drop_path_rate": 0.3,
}


@pytest.mark.upstream
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_models_saved_by_transformers_have_the_same_outputs_here(family, kind, tmp_path):
    theirs = upstream_of(family, kind, **VALUES[kind])
    theirs.save_pretrained(tmp_path)
    ours = getattr(hf, f"{family}{kind}").from_pretrained(tmp_path)
    report = ours.loading_report
    assert not report.fresh
    assert not report.unexpected
    images = pictures(2, 3, 32, 64)
    assert_same(
        flat(ours(tensor(images), output_hidden_states=True)),
        answers_of_upstream(theirs, images, output_hidden_states=True),
    )


@pytest.mark.upstream
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_models_saved_here_have_the_same_outputs_in_transformers(family, kind, tmp_path):
    import transformers

    ours = model_of(family, kind, **VALUES[kind])
    ours.save_pretrained(tmp_path, max_shard_size="20KB" if kind == "Model" else "5GB")
    theirs, info = getattr(transformers, f"{family}{kind}").from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    images = pictures(2, 3, 32, 64)
    assert_same(flat(ours(tensor(images))), answers_of_upstream(theirs.eval(), images))


@pytest.mark.upstream
@pytest.mark.parametrize("family", FEWER_FAMILIES)
def test_unusual_configurations(family, tmp_path):
    theirs = upstream_of(family, "ForImageClassification", num_labels=3, **EXOTIC)
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    ours = getattr(hf, f"{family}ForImageClassification").from_pretrained(tmp_path)
    images = pictures(2, 4, 32, 64)
    assert_same(flat(ours(tensor(images))), answers_of_upstream(theirs, images))
    ours.save_pretrained(tmp_path / "again")
    again = type(theirs).from_pretrained(tmp_path / "again").eval()
    assert_same(flat(ours(tensor(images))), answers_of_upstream(again, images))


@pytest.mark.upstream
@pytest.mark.parametrize(
    "activation", ["relu", "selu", "quick_gelu", "leaky_relu", "silu", "mish", "relu6"]
)
def test_activations(activation):
    if activation == "selu":  # documented by transformers, and no longer in its table
        config = config_of("ConvNext", hidden_act=activation)
        hf.ConvNextModel(config)(tensor(pictures(2, 3, 32, 64)))
        return
    import torch
    from transformers.activations import ACT2FN

    from convnext.hf.network import ACTIVATIONS

    x = pictures(50)
    wanted = ACT2FN[activation](torch.from_numpy(x)).numpy()
    ours = keras.activations.get(ACTIVATIONS[activation])(tensor(x))
    np.testing.assert_allclose(as_numpy(ours), wanted, atol=1e-6)


LOSSES = {
    "classes": (10, np.array([3, 9]), "single_label_classification"),
    "an ignored class": (10, np.array([3, -100]), "single_label_classification"),
    "a number": (1, np.array([0.5, -1.0], np.float32), "regression"),
    "many labels": (4, np.eye(4, dtype=np.float32)[:2], "multi_label_classification"),
}


@pytest.mark.upstream
@pytest.mark.parametrize("case", LOSSES)
def test_losses(case, tmp_path):
    import torch

    num_labels, labels, problem = LOSSES[case]
    theirs = upstream_of("ConvNext", "ForImageClassification", num_labels=num_labels)
    theirs.save_pretrained(tmp_path)
    ours = hf.ConvNextForImageClassification.from_pretrained(tmp_path)
    images = pictures(2, 3, 32, 64)
    wanted = answers_of_upstream(theirs, images, labels=torch.from_numpy(labels))
    out = ours(tensor(images), labels=tensor(labels))
    assert ours.config.problem_type == theirs.config.problem_type == problem
    assert_same(flat(out), wanted)
    assert out.loss is out[0]


@pytest.mark.parametrize("wrong", [3, -1])
def test_labels_that_are_no_class_are_refused(wrong):
    config = config_of("ConvNext", num_labels=3)
    logits = tensor(np.zeros((2, 3), np.float32))
    with pytest.raises(ArgumentError, match="allowed are 0 to 2"):
        classification_loss(config, logits, tensor(np.array([0, wrong])))


def test_without_a_classifier_logits_are_the_pooled_vector():
    model = model_of("ConvNextV2", "ForImageClassification", num_labels=0)
    images = tensor(pictures(2, 3, 32, 64))
    logits = model(images).logits
    assert tuple(logits.shape) == (2, 24)
    with pytest.raises(ArgumentError, match="num_labels=0"):
        model(images, labels=tensor(np.array([0, 1])))


def test_answers_as_tuples_and_with_every_map():
    model = model_of("ConvNext", "Model")
    images = tensor(pictures(2, 3, 32, 64))
    out = model(images)
    assert list(out) == ["last_hidden_state", "pooler_output"]
    plain = model(images, return_dict=False)
    assert isinstance(plain, tuple)
    np.testing.assert_array_equal(as_numpy(plain[1]), as_numpy(out.pooler_output))
    model.config.output_hidden_states = True
    maps = model(images).hidden_states
    assert [tuple(m.shape) for m in maps] == [
        (2, 8, 8, 16), (2, 8, 8, 16), (2, 12, 4, 8), (2, 16, 2, 4), (2, 24, 1, 2),
    ]  # fmt: skip


def test_missing_pixels_or_wrong_channels_are_refused():
    model = model_of("ConvNext", "Model")
    with pytest.raises(ValueError, match="You have to specify pixel_values"):
        model()
    with pytest.raises(ValueError, match="channel"):
        model(tensor(pictures(1, 4, 32, 32)))
    with pytest.raises(ValueError, match="channel"):
        model(tensor(pictures(1, 32, 32, 3)))


# ---- the checks of transformers' own tests that are not about its base class


def compiled(model):
    """JAX compiles each operation of a call for itself, unless it is told to compile the whole."""
    if BACKEND != "jax":
        return model
    import jax

    return jax.jit(lambda x: model(x))


TESTER = {
    "hidden_sizes": [10, 20, 30, 40],
    "depths": [2, 2, 3, 2],
    "num_labels": 10,
    "out_features": ["stage2", "stage3", "stage4"],
}


@pytest.mark.parametrize("family", FEWER_FAMILIES)
def test_shapes_of_transformers_own_tests(family):
    images = tensor(pictures(13, 3, 32, 32))
    config = getattr(hf, f"{family}Config")(**TESTER, output_hidden_states=True)
    out = compiled(getattr(hf, f"{family}Model")(config))(images)
    assert tuple(out.last_hidden_state.shape) == (13, 40, 1, 1)
    assert len(out.hidden_states) == 5
    assert tuple(out.hidden_states[0].shape[-2:]) == (8, 8)
    classifier = getattr(hf, f"{family}ForImageClassification")(config)
    assert tuple(compiled(classifier)(images).logits.shape) == (13, 10)
    backbone = getattr(hf, f"{family}Backbone")(config)
    maps = compiled(backbone)(images).feature_maps
    assert len(maps) == 3
    assert tuple(maps[0].shape) == (13, 20, 4, 4)
    assert backbone.channels == config.hidden_sizes[1:]
    assert backbone.out_feature_channels["stem"] == 10
    config.out_features = None
    last = getattr(hf, f"{family}Backbone")(config)
    assert [tuple(m.shape) for m in compiled(last)(images).feature_maps] == [(13, 40, 1, 1)]
    assert last.channels == [40]


# ---- loading


def test_another_head_is_said_loudly(tmp_path, caplog):
    model_of("ConvNext", "ForImageClassification", num_labels=10).save_pretrained(tmp_path)
    with pytest.raises(WeightsMismatchError, match="ignore_mismatched_sizes=True"):
        hf.ConvNextForImageClassification.from_pretrained(tmp_path, num_labels=3)
    with caplog.at_level(logging.WARNING, "convnext"):
        model, info = hf.ConvNextForImageClassification.from_pretrained(
            tmp_path, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert "newly initialised and to be trained: classifier.weight" in caplog.text
    assert {name for name, _, _ in info["mismatched_keys"]} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert model.config.num_labels == 3
    named = {0: "a", 1: "b", 2: "c"}
    again = hf.ConvNextForImageClassification.from_pretrained(
        tmp_path, id2label=named, ignore_mismatched_sizes=True
    )
    assert again.config.label2id == {"a": 0, "b": 1, "c": 2}


def test_a_classifier_from_a_model_and_a_backbone_from_a_classifier(tmp_path, caplog):
    model_of("ConvNextV2", "Model").save_pretrained(tmp_path / "model")
    classifier = hf.ConvNextV2ForImageClassification.from_pretrained(tmp_path / "model")
    assert classifier.loading_report.missing == ("classifier.weight", "classifier.bias")
    assert "classifier.weight" in caplog.text
    classifier.save_pretrained(tmp_path / "classifier")
    backbone = hf.ConvNextV2Backbone.from_pretrained(
        tmp_path / "classifier", out_features=["stage1"]
    )
    assert set(backbone.loading_report.unexpected) == {
        "layernorm.weight", "layernorm.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_the_pickled_form_and_repeated_saving(tmp_path):
    model = model_of("ConvNext", "ForImageClassification", num_labels=2)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "pytorch_model.bin"]
    again = hf.ConvNextForImageClassification.from_pretrained(tmp_path)
    images = tensor(pictures(2, 3, 32, 64))
    np.testing.assert_array_equal(as_numpy(again(images).logits), as_numpy(model(images).logits))


def test_saving_replaces_weights_and_leaves_other_files(tmp_path):
    others = {"model_best.safetensors", "model.ema.safetensors", "pytorch_model_old.bin"}
    for name in others | {"model-00001-of-00002.safetensors"}:
        (tmp_path / name).touch()
    model_of("ConvNext", "Model").save_pretrained(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == others | {"config.json", "model.safetensors"}


def test_published_names_and_files_of_the_catalogue(monkeypatch):
    """A checkpoint is what the catalogue says it is, however its file names things."""

    weights = random_weights(VARIANTS["convnextv2_atto"], 1000)
    asked = []

    found = SimpleNamespace(
        variant=VARIANTS["convnextv2_atto"],
        tensors={name: LazyTensor.from_array(value) for name, value in weights.items()},
    )

    @contextmanager
    def opened(source):
        asked.append(source)
        yield found

    monkeypatch.setattr(files, "read_weights", opened)
    model = hf.ConvNextV2ForImageClassification.from_pretrained("convnextv2_atto.fcmae_ft_in1k")
    assert asked == ["convnextv2_atto.fcmae_ft_in1k"]
    assert model.config.layer_norm_eps == 1e-6
    assert model.config.id2label[0] == "tench, Tinca tinca"
    assert not model.loading_report.fresh


@pytest.mark.parametrize("option", [{"variant": "fp16"}, {"device_map": "auto"}])
def test_arguments_of_transformers_that_do_nothing_here_are_refused(option, tmp_path):
    with pytest.raises(ArgumentError, match=f"not support {next(iter(option))}"):
        hf.ConvNextModel.from_pretrained(tmp_path, **option)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(UnknownNameError, match="checkpoint"):
        hf.ConvNextModel.from_pretrained("convnext_gigantic")
    with pytest.raises(WeightsUnavailableError, match=r"config\.json"):
        hf.ConvNextModel.from_pretrained(tmp_path)
    config_of("ConvNext").save_pretrained(tmp_path)
    with pytest.raises(WeightsUnavailableError, match=r"model\.safetensors"):
        hf.ConvNextModel.from_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match="ConvNextV2 classes"):
        hf.ConvNextV2Model.from_pretrained(tmp_path)
    with pytest.raises(ArgumentTypeError, match="ConvNextV2Config"):
        hf.ConvNextV2Model(config_of("ConvNext"))
    with pytest.raises(ArgumentTypeError, match="ConvNextConfig"):
        hf.ConvNextModel(config_of("ConvNextV2"))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_stages": 3}, "contradict"),
        ({"hidden_act": "gelo"}, "Did you mean 'gelu'"),
        ({"patch_size": [4, 2]}, "square"),
    ],
)
def test_configurations_that_are_no_network(values, match):
    with pytest.raises(ArgumentError, match=match):
        hf.ConvNextModel(config_of("ConvNext", **values))


def test_a_model_is_uploaded_with_its_card(monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, token):
            uploaded["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            assert exist_ok
            uploaded["private"] = private
            return type("Repository", (), {"repo_id": f"me/{repo_id}"})

        def upload_folder(self, repo_id, folder_path, **options):
            from pathlib import Path

            uploaded["repo"] = repo_id
            uploaded["files"] = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}
            return options["commit_message"]

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    model = model_of("ConvNext", "ForImageClassification", num_labels=2)
    said = model.push_to_hub(
        "pets", processor=hf.ConvNextImageProcessor(size=32), licence="MIT", private=True, token="t"
    )
    assert said == "Upload ConvNextForImageClassification"
    assert (uploaded["repo"], uploaded["private"], uploaded["token"]) == ("me/pets", True, "t")
    assert uploaded["files"].keys() == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    assert b"license: mit" in uploaded["files"]["README.md"]
    architectures = json.loads(uploaded["files"]["config.json"])["architectures"]
    assert architectures == ["ConvNextForImageClassification"]


def test_names_for_tensorflow():
    if BACKEND == "tensorflow":
        assert hf.TFConvNextModel is hf.ConvNextModel
    else:
        with pytest.raises(ArgumentError, match="Use ConvNextV2Backbone"):
            hf.TFConvNextV2Backbone  # noqa: B018
