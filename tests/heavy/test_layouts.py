"""Files of networks that no other test has, as their own libraries write and run them.

Random values throughout, one network each, as small as its kind may be.
"""

from __future__ import annotations

import numpy as np
import pytest

from convnext.architecture import Architecture
from convnext.create import create_convnext_v1
from convnext.engines import open_engine
from convnext.nn.model import feature_maps
from convnext.weights import load
from convnext.weights.save import convert
from peers import as_numpy, build_timm, random_weights, randomise, relative_error, state_dict

pytestmark = pytest.mark.upstream
TOLERANCE = 1e-4  # of the largest value
SIDE = 128  # the smallest at which strides are the published ones
SMALL = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)}
V1 = Architecture("convnext_custom", "custom", **SMALL)
V2 = Architecture("convnextv2_custom", "custom", **SMALL, grn=True, layer_scale=False)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3), np.float32)


def answers(model, pictures):
    """What a model of PyTorch answers."""
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()


def check(path, pictures, expected, **options):
    """Every engine gives what was expected, from the file."""
    options = {"precision": "float32", "input": "float32", "size": SIDE} | options
    for engine in ("keras", "openvino", "onnxruntime"):
        opened = open_engine(path, engine, **options)
        assert relative_error(opened.predict(pictures), expected) < TOLERANCE, engine


def isotropic_by_hand(depth, dim, *, layer_scale, num_classes):
    """An isotropic ConvNeXt in PyTorch, as the V1 paper describes it, under the authors' names."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
            if layer_scale:
                self.gamma = nn.Parameter(torch.ones(dim))

        def forward(self, x):
            y = self.norm(self.dwconv(x).movedim(1, -1))
            y = self.pwconv2(nn.functional.gelu(self.pwconv1(y)))
            return x + (y * self.gamma if layer_scale else y).movedim(-1, 1)

    class Isotropic(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, dim, 16, stride=16)
            self.blocks = nn.ModuleList(Block() for _ in range(depth))
            self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, num_classes)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x.mean((2, 3))))

    return randomise(Isotropic()).eval()


@pytest.mark.parametrize("layer_scale", [False, True])
def test_an_isotropic_file_of_the_authors(tmp_path, pictures, layer_scale):
    import torch

    model = isotropic_by_hand(3, 24, layer_scale=layer_scale, num_classes=7)
    path = tmp_path / "iso.pth"
    torch.save({"model": model.state_dict()}, path)
    check(path, pictures, answers(model, pictures))
    convert(path, tmp_path / "ours.safetensors", progress=False)
    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth", to_layout="isotropic")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


@pytest.mark.torch_alone
def test_the_authors_isotropic_small_by_its_size(tmp_path, pictures):
    import torch

    model = isotropic_by_hand(18, 384, layer_scale=False, num_classes=1000)
    path = tmp_path / "convnext_iso_small_1k_224_ema.pth"
    torch.save({"model": model.state_dict()}, path)
    ours = create_convnext_v1(
        "isotropic_small", input_shape=(SIDE, SIDE, 3), classifier_activation=None, weights=path
    )
    assert relative_error(as_numpy(ours(pictures, training=False)), answers(model, pictures)) < (
        TOLERANCE
    )
    assert [tuple(m.shape) for m in feature_maps(ours).outputs] == [(None, 8, 8, 384)]
    with load.read_weights(path) as weights:
        assert weights.architecture.name == "convnext_isotropic_small"


@pytest.mark.parametrize("architecture", [V1, V2], ids=["V1", "V2"])
def test_a_file_under_mmpretrains_names(tmp_path, pictures, architecture):
    """timm reads it, once it is spelled as the authors do, and answers as we do."""
    import torch
    from timm.models.convnext import checkpoint_filter_fn

    state = state_dict(random_weights(architecture, 7), "mmpretrain", architecture)
    path = tmp_path / "mm.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, path)
    spellings = {
        "backbone.norm3.": "norm.",
        "backbone.": "",
        "depthwise_conv": "dwconv",
        "pointwise_conv": "pwconv",
        "head.fc.": "head.",
    }
    authors = {}
    for name, tensor in state.items():
        for theirs, the_authors in spellings.items():
            name = name.replace(theirs, the_authors)
        authors[name] = tensor
    model = build_timm(architecture, 7)
    model.load_state_dict(checkpoint_filter_fn(authors, model), strict=True)
    # Without `head.norm` in it timm takes a file for one of the authors'.
    check(path, pictures, answers(model, pictures))
    convert(path, tmp_path / "back.pth", to_layout="mmpretrain", progress=False)
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
