"""Traits of an architecture beside timm; `test_golden.py` compares a network with each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from timms import answers, randomised, save, timms

from contracts import assert_close
from convnext.architecture import ARCHITECTURES, parameters
from convnext.create import create_convnext_v1
from convnext.engines import open_engine
from convnext.errors import UnstatedError
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.nn.layers import DepthwiseConv
from convnext.nn.model import build_model
from convnext.weights.canonical import canonical_variables, parameter_shapes
from convnext.weights.load import load_weights
from golden.networks import SIDE, SMALL, TRAITS, architecture
from peers import as_numpy, backward


@pytest.fixture
def pictures():
    return np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3), np.float32)


@pytest.mark.upstream
@pytest.mark.torch_alone
@pytest.mark.parametrize("name", ["test_convnext", "test_convnext2", "test_convnext3"])
def test_timms_test_models_by_name_by_config_and_not_without(tmp_path, pictures, name):
    import timm

    model = randomised(timm.create_model(name, num_classes=7))
    expected = answers(model, pictures)
    path = save(model, tmp_path)
    options = {"precision": "float32", "input": "float32", "size": SIDE}
    with pytest.raises(UnstatedError, match=f"{name}: epsilon=1e-05"):
        open_engine(path, "openvino", **options)
    opened = open_engine(path, "openvino", architecture=name, **options)
    assert_close(opened.predict(pictures), expected)
    save(model, tmp_path, {"architecture": name, "num_classes": 7, "pretrained_cfg": {}})
    assert_close(open_engine(path, "openvino", **options).predict(pictures), expected)


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_timms_xxlarge_at_one_block_a_stage(tmp_path, pictures):
    """Its published shapes would do as well, and take 3.4 GB."""
    import timm

    sizes = {"depths": (1, 1, 1, 1), "dims": (24, 32, 40, 48)}
    model = randomised(timm.create_model("convnext_xxlarge", num_classes=7, **sizes))
    expected = answers(model, pictures)
    path = save(model, tmp_path)
    options = {"precision": "float32", "input": "float32", "size": SIDE}
    with pytest.raises(UnstatedError, match="may be"):
        open_engine(path, "openvino", **options)
    stated = replace(ARCHITECTURES["convnext_xxlarge"], size="custom", **sizes)
    assert_close(
        open_engine(path, "openvino", architecture=stated, **options).predict(pictures), expected
    )
    config = {"architecture": "convnext_xxlarge", "model_args": sizes, "pretrained_cfg": {}}
    save(model, tmp_path, config)
    assert_close(open_engine(path, "openvino", **options).predict(pictures), expected)
    opened = open_engine(path, "openvino", architecture="epsilon=1e-5", **options)
    assert_close(opened.predict(pictures), expected)


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_clips_recipe_comes_from_its_config_or_from_the_caller(tmp_path):
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    model = timms({})
    pixels = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    normalised = ((pixels / 255 - mean) / std).astype(np.float32)
    expected = answers(model, normalised)
    path = save(model, tmp_path)
    options = {"precision": "float32", "size": SIDE}
    stated = {"architecture": "epsilon=1e-6"}
    with pytest.raises(UnstatedError, match="how pixels are normalised"):
        open_engine(path, "openvino", **stated, **options)
    opened = open_engine(path, "openvino", preprocess="clip", **stated, **options)
    assert_close(opened.predict(pixels), expected)
    cfg = {"mean": mean, "std": std, "input_size": [3, SIDE, SIDE], "crop_pct": 1.0}
    config = {"architecture": "convnext_base", "model_args": SMALL, "pretrained_cfg": cfg}
    save(model, tmp_path, config)
    assert_close(open_engine(path, "openvino", **options).predict(pixels), expected)


@pytest.mark.upstream
@pytest.mark.torch_alone
@pytest.mark.parametrize("trait", ["usual", "hidden", "norm_pool", "rms", "simple"])
def test_explanations_are_the_gradients_of_every_head(tmp_path, trait):
    import torch
    from PIL import Image

    from convnext import Classifier

    model = timms(TRAITS[trait][1])
    recipe = Preprocess(size=SIDE, crop_fraction=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    classifier = Classifier(
        save(model, tmp_path), "openvino", precision="float32", architecture=architecture(trait),
        preprocess=recipe,
    )  # fmt: skip
    found = classifier.explain(Image.fromarray(pixels), 3)
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
    features = model.stages(model.stem(x)).detach().requires_grad_()
    model.head(model.norm_pre(features))[0, 3].backward()
    weights = features.grad[0].mean((1, 2), keepdim=True)
    expected = torch.relu((weights * features[0]).sum(0)).detach().numpy()
    assert_close(found.heat, expected)


@pytest.mark.parametrize(("side", "dilation"), [(6, 1), (6, 3), (12, 2)])
def test_gradients_of_dilated_convolutions(side, dilation):
    """Those of each backend's own kernels, against the sum over shifted products they are of."""
    layer = DepthwiseConv(5, dilation=dilation)
    rng = np.random.default_rng(0)
    x, towards = (rng.standard_normal((2, side, side, 3), np.float32) for _ in range(2))
    layer.build(x.shape)
    kernel = rng.standard_normal((5, 5, 3, 1), np.float32)
    layer.set_weights([kernel, np.zeros(3, np.float32)])
    around = 2 * dilation
    padded = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    of_x, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(5):
        for j in range(5):
            rows, columns = (slice(dilation * k, dilation * k + side) for k in (i, j))
            of_x[:, rows, columns] += towards * kernel[i, j, :, 0]
            of_kernel[i, j, :, 0] = (padded[:, rows, columns] * towards).sum((0, 1, 2))
    found = backward(layer, x, towards)
    assert_close(as_numpy(found[0]), of_x[:, around:-around, around:-around])
    assert_close(as_numpy(found[1]), of_kernel)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.torch_alone
def test_parameters_are_the_canonical_ones_in_order(name):
    """`architecture.py` and `nn/model.py` spell the same network."""
    row = ARCHITECTURES[name]
    small = replace(row, depths=(1, 2, 1, 1), dims=(16, 24, 32, 40))
    model = build_model(small, input_shape=(SIDE, SIDE, 3), num_classes=7)
    variables = canonical_variables(model)
    shapes = {name: tuple(v.shape) for name, v in variables.items() if "seed" not in name}
    assert list(shapes.items()) == list(parameter_shapes(small, 7).items())
    assert Network.of_model(model).architecture.arithmetic == small.arithmetic
    assert parameters(Network.of_model(model).steps) == shapes


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_a_model_that_is_built_says_how_its_file_computes(tmp_path, pictures):
    """Whoever builds `test_convnext2` has said what the file does not."""
    import timm

    model = randomised(timm.create_model("test_convnext2", num_classes=7))
    path = save(model, tmp_path)
    ours = create_convnext_v1(
        "test_convnext2", 7, (SIDE, SIDE, 3), classifier_activation=None, weights=path
    )
    assert_close(np.asarray(ours.predict_on_batch(pictures)), answers(model, pictures))
    load_weights(ours, path)
