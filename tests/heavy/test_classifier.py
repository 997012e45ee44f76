"""The classifier from picture to logits, held against timm's own pipeline, and Grad-CAM against
automatic gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from convnext import VARIANTS, Classifier, create_convnext_v1, create_convnext_v2, save_weights
from convnext.architecture import ARCHITECTURES
from convnext.classifier.explain import grad_cam, linear, normed, pooled
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.nn.model import classify, pool
from convnext.weights.catalog import get_checkpoint
from peers import as_numpy, backward, build_timm, randomise, relative_error

# The published ones with a centre crop and with a warp to the square; timm's transform is made of
# what timm says about them.
CROP, SQUASH = "convnext_tiny.fb_in1k", "convnext_base.fb_in22k_ft_in1k_384"
RECIPES = {"test_v1": CROP, "test_v2": SQUASH}


def timm_file(folder, variant, num_classes=1000):
    """timm's model with random weights, and its own state dict in a file."""
    torch = pytest.importorskip("torch")
    model = randomise(build_timm(VARIANTS[variant], num_classes))
    torch.save(model.state_dict(), folder / f"{variant}.pth")
    return model, folder / f"{variant}.pth"


def timm_batch(paths, name):
    """Pictures as timm's own transform for a checkpoint makes them."""
    import timm
    import torch

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config)
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(transform(image.convert("RGB")))
    return torch.stack(images)


@pytest.mark.upstream
@pytest.mark.torch_alone
@pytest.mark.parametrize(("variant", "name"), RECIPES.items())
def test_logits_are_those_of_timms_pipeline(variant, name, photographs, tmp_path):
    torch = pytest.importorskip("torch")
    assert len(photographs) > 30
    model, path = timm_file(tmp_path, variant)
    with torch.inference_mode():
        theirs = model(timm_batch(photographs, name)).numpy()
    classifier = Classifier(path, "keras", preprocess=get_checkpoint(name).preprocess)
    answers = list(classifier.run(photographs, ("logits",), batch_size=16))
    assert [answer.error for answer in answers] == [None] * len(photographs)
    ours = np.stack([answer.outputs["logits"] for answer in answers])
    assert relative_error(ours, theirs) < 1e-4


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_vectors_and_maps_are_timms(photographs, tmp_path):
    torch = pytest.importorskip("torch")
    model, path = timm_file(tmp_path, "test_v2")
    batch = timm_batch(photographs[:1], CROP)
    with torch.inference_mode():
        last, maps = model.forward_intermediates(batch)
        vector = model.forward_head(last, pre_logits=True)
    names = ("embedding", "stage_0", "stage_1", "stage_2", "stage_3")
    [answer] = Classifier(path, "keras", preprocess="imagenet").run(photographs[:1], names)
    assert relative_error(answer.outputs["embedding"], vector[0].numpy()) < 1e-4
    for name, theirs in zip(names[1:], maps, strict=True):
        assert relative_error(answer.outputs[name], theirs[0].permute(1, 2, 0).numpy()) < 1e-4


@pytest.mark.upstream
@pytest.mark.torch_alone
@pytest.mark.parametrize("target", [None, 17])
def test_grad_cam_is_that_of_autograd_through_timms_model(target, photographs, tmp_path):
    torch = pytest.importorskip("torch")
    model, path = timm_file(tmp_path, "test_v1")
    kept = []

    def keep(_module, _arguments, output):
        output.retain_grad()
        kept.append(output)

    model.stages[3].register_forward_hook(keep)
    logits = model(timm_batch(photographs[:1], CROP))[0]
    index = int(logits.argmax()) if target is None else target
    logits[index].backward()
    features, gradient = kept[0][0].detach(), kept[0].grad[0]
    weights = gradient.mean((1, 2), keepdim=True)  # as Grad-CAM defines them
    expected = torch.relu((weights * features).sum(0)).numpy()
    explanation = Classifier(path, "keras", preprocess="imagenet").explain(photographs[0], target)
    assert explanation.target.index == index
    assert relative_error(explanation.heat, expected) < 1e-4


def test_grad_cam_is_that_of_this_backends_gradient():
    inputs, variant = keras.Input((5, 7, 32)), ARCHITECTURES["test_v1"]
    top = randomise(keras.Model(inputs, classify(pool(inputs, variant), variant, 4)))
    features = np.random.default_rng(0).standard_normal((1, 5, 7, 32), np.float32)
    for index, towards in enumerate(np.eye(4, dtype=np.float32)):
        gradient = as_numpy(backward(top, features, towards[None])[0])[0]
        expected = np.maximum(features[0] @ gradient.mean((0, 1)), 0)
        norm, last = (top.get_layer(name) for name in ("head_norm", "head"))
        steps = [
            pooled,
            normed("layer", 1e-6, *map(as_numpy, (norm.gamma, norm.beta))),
            linear(as_numpy(last.kernel)[:, [index]], as_numpy(last.bias)[[index]]),
        ]
        assert relative_error(grad_cam(features[0], steps), expected) < 1e-5


@pytest.mark.upstream
def test_heat_between_cells_is_torchs_interpolation():
    torch = pytest.importorskip("torch")
    from convnext.classifier.heatmap import OPACITY, colours, overlay

    heat = np.random.default_rng(0).random((7, 7), np.float32)
    drawn = np.asarray(overlay(Image.new("RGB", (224, 161)), heat, (0, 0, 224, 161)))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(heat / heat.max())[None, None], (161, 224), mode="bilinear"
    )[0, 0].numpy()
    expected = OPACITY * colours()[np.rint(255 * smooth).astype(int)].astype(float)
    assert np.abs(drawn - expected).max() <= 3


class TestKerasModels:
    @pytest.fixture
    def picture(self):
        return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)

    def test_a_model_answers_as_its_file(self, picture, tmp_path):
        model = randomise(create_convnext_v2("test", 10, (64, 64, 3)))
        save_weights(model, tmp_path / "w.safetensors")
        recipe = Preprocess(64, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
        ours = Classifier(model, "keras", preprocess=recipe, labels=list("abcdefghij"))
        theirs = Classifier(tmp_path / "w.safetensors", "keras", preprocess=recipe)
        mine, file = (classifier.explain(picture) for classifier in (ours, theirs))
        assert mine.target.label == "abcdefghij"[file.target.index]
        assert mine.target.probability == pytest.approx(file.target.probability, rel=1e-4)
        assert relative_error(mine.heat, file.heat) < 1e-4
        assert repr(ours).startswith("<Classifier model 'test_v2', licence unknown, 10 classes")

    def test_a_model_without_a_size_of_its_own(self, picture):
        model = randomise(create_convnext_v1("test", 10, (None, None, 3)))
        assert Classifier(model).preprocess.size == 224
        maps = Classifier(model, "keras", size=64).features(picture)
        assert [m.shape for m in maps] == [(16, 16, 8), (8, 8, 16), (4, 4, 24), (2, 2, 32)]

    @pytest.mark.parametrize(
        ("shape", "options", "words"),
        [
            ((64, 96, 3), {}, "preprocessing makes 64 x 64"),
            ((64, 64, 3), {"size": 96}, "preprocessing makes 96 x 96"),
            ((64, 64, 4), {}, "takes 4 channels"),
        ],
    )
    def test_models_that_take_no_such_pictures(self, shape, options, words):
        with pytest.raises(ArgumentError, match=words):
            Classifier(create_convnext_v1("test", 10, shape), **options)
