"""What timm's users know, in our words, beside timm's own answers."""

from __future__ import annotations

import numpy as np
import pytest
from keras.backend import backend
from PIL import Image
from timms import SMALL, close, save, timms

from convnext import Classifier, convert, hf
from convnext.errors import ArgumentError
from convnext.exports import export
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from convnext.images.transform import normalise, pixels
from peers import as_numpy

SIDE = 128
CONFIG = {
    "architecture": "convnext_tiny",
    "num_classes": 7,
    "model_args": SMALL,
    "pretrained_cfg": {
        "input_size": (3, SIDE, SIDE), "crop_pct": 1.0, "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
    },
}  # fmt: skip


@pytest.fixture
def photo(shared_data):
    """A photograph, and what networks are shown of it."""
    image = Image.open(shared_data / "photos" / "astronaut.png").convert("RGB")
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
        close(ours, theirs[0])
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
        close(as_numpy(ours).transpose(0, 2, 3, 1), theirs)
    wanted = ["stage2", "stage4"]
    backbone = hf.ConvNextBackbone.from_pretrained(folder, out_features=wanted, output_stride=8)
    for ours, theirs in zip(backbone(shown).feature_maps, expected[1::2], strict=True):
        centred = theirs - theirs.mean(-1, keepdims=True)
        normed = centred / np.sqrt(theirs.var(-1, keepdims=True) + 1e-6)
        close(as_numpy(ours).transpose(0, 2, 3, 1), normed)


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
        close(found, expected[-1])


def test_an_output_stride_is_kept_in_a_configuration(tmp_path):
    assert "output_stride" not in hf.ConvNextConfig().to_dict()
    hf.ConvNextConfig(output_stride=16).save_pretrained(tmp_path)
    assert hf.ConvNextConfig.from_pretrained(tmp_path).output_stride == 16
    with pytest.raises(ArgumentError, match="output_stride is one of 8, 16, 32, not 5"):
        hf.ConvNextModel(hf.ConvNextConfig(output_stride=5))
