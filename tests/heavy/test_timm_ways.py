"""What timm's users know, in our words, beside timm's own answers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras.backend import backend
from PIL import Image
from timms import randomised, save, timms

from contracts import assert_close
from convnext import (
    Classifier,
    convert,
    create_convnext_v1,
    create_convnext_v2,
    feature_maps,
    hf,
    load_weights,
    reset_classifier,
    set_grad_checkpointing,
)
from convnext.engines import open_engine
from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.exports import export
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convnext.images.transform import normalise, pixels
from convnext.nn.operations import recomputed
from golden.networks import SMALL
from peers import as_numpy, gradients

pytestmark = pytest.mark.torch_first

SIDE = 128
PHOTOS = Path(__file__).parent.parent.parent / "examples" / "photos"
CONFIG = {
    "architecture": "convnext_tiny",
    "num_classes": 7,
    "model_args": SMALL,
    "pretrained_cfg": {
        "input_size": (3, SIDE, SIDE), "crop_pct": 1.0, "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
    },
}  # fmt: skip


@pytest.fixture
def photo():
    """A photograph, and what networks are shown of it."""
    image = Image.open(PHOTOS / "astronaut.png").convert("RGB")
    recipe = Preprocess(SIDE, crop_fraction=1.0)
    return image, normalise(pixels(image, recipe)[None], recipe)


def maps(model, shown):
    """Every stage's map from timm, channels last."""
    import torch

    with torch.no_grad():
        x = torch.from_numpy(shown.transpose(0, 3, 1, 2).copy())
        found = model.forward_intermediates(x, intermediates_only=True)
    return [m.numpy().transpose(0, 2, 3, 1) for m in found]


@pytest.fixture
def dilated(tmp_path, photo):
    """A classifier of timm's in a file, and what timm makes of the photograph at a stride of 8."""
    model = timms({}, output_stride=8)
    return save(model, tmp_path, CONFIG), maps(model, photo[1])


@pytest.mark.upstream
def test_maps_of_an_output_stride(photo, dilated):
    path, expected = dilated
    engine = "onnxruntime" if backend() == "torch" else "keras"
    classifier = Classifier(path, engine, precision="float32", output_stride=8)
    for ours, theirs in zip(classifier.features(photo[0]), expected, strict=True):
        assert_close(ours, theirs[0])
    assert expected[-1].shape[1:3] == (SIDE // 8, SIDE // 8)
    assert classifier.explain(photo[0], 3).heat.shape == (SIDE // 8, SIDE // 8)


@pytest.mark.upstream
def test_an_output_stride_of_transformers_classes(tmp_path, photo, dilated):
    path, expected = dilated
    folder = tmp_path / "hf"
    folder.mkdir()
    convert(path, folder / "model.safetensors", to_layout="huggingface")
    sizes = {"depths": SMALL["depths"], "hidden_sizes": SMALL["dims"]}
    hf.ConvNextConfig(num_labels=7, **sizes).save_pretrained(folder)
    shown = photo[1].transpose(0, 3, 1, 2).copy()
    if backend() == "torch":
        import torch

        shown = torch.from_numpy(shown)
    model = hf.ConvNextModel.from_pretrained(folder, output_stride=8)
    found = model(shown, output_hidden_states=True).hidden_states[1:]
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(as_numpy(ours).transpose(0, 2, 3, 1), theirs)
    wanted = ["stage2", "stage4"]
    backbone = hf.ConvNextBackbone.from_pretrained(folder, out_features=wanted, output_stride=8)
    for ours, theirs in zip(backbone(shown).feature_maps, expected[1::2], strict=True):
        centred = theirs - theirs.mean(-1, keepdims=True)
        normed = centred / np.sqrt(theirs.var(-1, keepdims=True) + 1e-6)
        assert_close(as_numpy(ours).transpose(0, 2, 3, 1), normed)


@pytest.mark.upstream
def test_an_export_of_an_output_stride(tmp_path, photo, dilated):
    path, expected = dilated
    options = {"output": "stage_3", "output_stride": 8}
    assert export(path, tmp_path / "maps.keras", **options).verdict.good
    with pytest.raises(ArgumentError, match="safetensors has no output stride"):
        export(path, tmp_path / "maps.safetensors", output_stride=8)
    if backend() == "torch":
        import onnxruntime

        export(path, tmp_path / "maps.onnx", **options)
        [found] = onnxruntime.InferenceSession(tmp_path / "maps.onnx").run(
            None, {"pictures": photo[1]}
        )
        assert_close(found, expected[-1])


def test_an_output_stride_is_kept_in_a_configuration(tmp_path):
    assert "output_stride" not in hf.ConvNextConfig().to_dict()
    hf.ConvNextConfig(output_stride=16).save_pretrained(tmp_path)
    assert hf.ConvNextConfig.from_pretrained(tmp_path).output_stride == 16
    with pytest.raises(ArgumentError, match="output_stride is one of 8, 16, 32, not 5"):
        hf.ConvNextModel(hf.ConvNextConfig(output_stride=5))


# ---- models that are built

TEST = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}  # create_convnext_v1("test")


def theirs(**options):
    """timm's model of the size that ours has for tests, every value random."""
    import timm

    return randomised(timm.create_model("convnext_tiny", **{"num_classes": 7, **TEST, **options}))


def ours(path, num_classes=7, channels=3, **options):
    shape = (SIDE, SIDE, channels)
    options = {"classifier_activation": None, "weights": path, **options}
    return create_convnext_v1("test", num_classes, shape, **options)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3), np.float32)


def of_timm(function, shown):
    """What a function of timm's makes of pictures, channels last."""
    import torch

    with torch.no_grad():
        found = function(torch.from_numpy(shown.transpose(0, 3, 1, 2).copy())).numpy()
    return found.transpose(0, 2, 3, 1) if found.ndim == 4 else found


@pytest.mark.upstream
def test_chosen_maps_and_features_before_the_head(tmp_path, pictures):
    model = theirs()
    path = save(model, tmp_path)
    built = ours(path)
    second, last = feature_maps(built, (1, 3))(pictures)
    expected = maps(model, pictures)
    assert_close(as_numpy(second), expected[1])
    assert_close(as_numpy(last), expected[3])
    assert_close(as_numpy(last), of_timm(model.forward_features, pictures))
    bare = ours(path, include_top=False, pooling="avg")
    head = lambda x: model.forward_head(model.forward_features(x), pre_logits=True)  # noqa: E731
    assert_close(as_numpy(bare(pictures)), of_timm(head, pictures))
    with pytest.raises(ArgumentError, match="has no layers stage_4"):
        feature_maps(built, (4,))


@pytest.mark.upstream
def test_another_classifier(tmp_path, pictures):
    model = theirs()
    built = ours(save(model, tmp_path))
    for classes in (5, 0):
        model.reset_classifier(classes)
        other = reset_classifier(built, classes)
        if classes:
            head = model.get_classifier()
            values = [head.weight.detach().numpy().T, head.bias.detach().numpy()]
            other.get_layer("head").set_weights(values)
        assert_close(as_numpy(other(pictures)), of_timm(model, pictures))
        assert other.get_layer("stem_conv") is built.get_layer("stem_conv")
    with pytest.raises(ArgumentError, match="no layer head"):
        reset_classifier(other, 5)


@pytest.mark.upstream
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pictures_of_other_channels(tmp_path, channels):
    import timm
    from timm.models._manipulate import adapt_input_conv

    model = theirs()
    path = save(model, tmp_path)
    state = model.state_dict()
    state["stem.0.weight"] = adapt_input_conv(channels, state["stem.0.weight"])
    other = timm.create_model("convnext_tiny", num_classes=7, in_chans=channels, **TEST).eval()
    other.load_state_dict(state)
    shape = (2, SIDE, SIDE, channels)
    shown = np.random.default_rng(1).standard_normal(shape, np.float32)
    built = ours(path, channels=channels)
    assert_close(as_numpy(built(shown)), of_timm(other, shown))
    with pytest.raises(WeightsMismatchError, match=f"the model with {channels}"):
        load_weights(built, path)


@pytest.mark.upstream
@pytest.mark.parametrize("kind", ["avg", "max", "avgmax"])
def test_kinds_of_pooling(tmp_path, pictures, kind):
    model = theirs(global_pool=kind)
    built = ours(save(model, tmp_path), pooling=kind)
    assert_close(as_numpy(built(pictures)), of_timm(model, pictures))
    if kind != "avg" and backend() == "torch":
        with pytest.raises(ArgumentError, match="does not classify a mean"):
            open_engine(built, "openvino")


@pytest.mark.upstream
def test_rates_of_dropping(tmp_path, pictures):
    rates = {"drop_rate": 0.3, "drop_path_rate": 0.2}
    model = theirs(**rates)
    built = ours(save(model, tmp_path), **rates)
    assert_close(as_numpy(built(pictures)), of_timm(model, pictures))
    paths = [block for stage in model.stages for block in stage.blocks]
    expected = [getattr(block.drop_path, "drop_prob", 0) for block in paths]
    blocks = [layer for layer in built.layers if "_block_" in layer.name]
    np.testing.assert_allclose([block.drop_path_rate for block in blocks], expected, atol=1e-7)
    assert built.get_layer("head_drop").rate == model.head.drop.p == 0.3
    trained = [as_numpy(built(pictures, training=True)) for _ in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 0


@pytest.mark.upstream
def test_frozen_layers():
    from timm.utils.model import freeze

    model, built = theirs(), create_convnext_v1("test", 7, (SIDE, SIDE, 3))
    freeze(model, ["stem", "stages.0", "stages.1"])
    for layer in built.layers:
        if layer.name.startswith(("stem", "stage_0", "downsample_1", "stage_1")):
            layer.trainable = False
    count = sum(np.prod(variable.shape) for variable in built.trainable_variables)
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)


# JAX compiles both ways, which takes it half a minute.
@pytest.mark.parametrize(
    "create",
    [
        pytest.param(create_convnext_v2, marks=[pytest.mark.slow] if backend() == "jax" else []),
        pytest.param(create_convnext_v1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.each_backend
def test_checkpointing_keeps_the_gradients(create, monkeypatch):
    """Of every variable and of the pictures, while paths are dropped at random too."""
    options = {"classifier_activation": None, "drop_path_rate": 0.5}
    model = create("test", 7, (32, 32, 3), **options)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:  # of a small scale, no gradient of a branch is seen
        variable.assign(0.3 * rng.standard_normal(variable.shape, np.float32))
    shown, towards = (rng.standard_normal(n, np.float32) for n in ((4, 32, 32, 3), (4, 7)))
    seeds = [(v, keras.ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    plain = gradients(model, shown, towards, training=True)
    for variable, state in seeds:
        variable.assign(state)
    calls = []
    monkeypatch.setattr(
        "convnext.nn.block.recomputed", lambda f, x: calls.append(f) or recomputed(f, x)
    )
    set_grad_checkpointing(model)
    again = gradients(model, shown, towards, training=True)
    assert len(calls) == 5
    # XLA fuses other operations and so rounds otherwise.
    largest = max(np.abs(one).max() for one in plain.values())
    for name, one in plain.items():
        assert np.abs(one - again[name]).max() <= 1e-6 * largest, name
    set_grad_checkpointing(model, enable=False)
    assert not model.get_layer("stage_0_block_0").grad_checkpointing
    with pytest.raises(ArgumentError, match="no ConvNeXt blocks"):
        set_grad_checkpointing(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
