"""Files of networks that no other test has, as their own libraries write and run them.

Random values throughout, one network each, as small as its kind may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from convnext import Classifier
from convnext.architecture import ARCHITECTURES, Architecture
from convnext.create import create_convnext_v1
from convnext.engines import open_engine
from convnext.errors import ArgumentError, UnstatedError
from convnext.nn.alterations import feature_maps
from convnext.weights import load
from convnext.weights.save import convert
from peers import as_numpy, build_timm, random_weights, randomise, relative_error, state_dict

pytestmark = [pytest.mark.upstream, pytest.mark.torch_first]
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
    """Every engine gives what was expected, from the file: logits, or outputs by name."""
    expected = expected if isinstance(expected, dict) else {"logits": expected}
    options = {"precision": "float32", "input": "float32", "size": SIDE} | options
    for engine in ("keras", "openvino", "onnxruntime"):
        opened = open_engine(path, engine, outputs=tuple(expected), **options)
        for name, values in opened.predict_all(pictures).items():
            assert relative_error(values, expected[name]) < TOLERANCE, (engine, name)


def assert_converts(path, layout, state):
    """A file becomes ours, and ours the library's with the same tensors, which are returned."""
    import torch

    ours, back = path.with_name("ours.safetensors"), path.with_name("back.pth")
    convert(path, ours, progress=False)
    convert(ours, back, to_layout=layout, progress=False)
    found = torch.load(back, weights_only=True)
    found = found.get("model", found.get("state_dict", found))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    return found


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
    assert_converts(path, "isotropic", model.state_dict())


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
    assert_converts(path, "mmpretrain", state)


TEXT = {"context_length": 7, "vocab_size": 20, "width": 8, "heads": 2, "layers": 1}


def clip(kind, name, proj, width=12, **options):
    """A CLIP model of open_clip's with this tower of timm's, and the config that lies beside it."""
    model = pytest.importorskip("open_clip.model")
    vision = {"timm_model_name": name, "timm_pool": "", "timm_proj": proj, "image_size": SIDE}
    vision |= options
    built = getattr(model, kind)(embed_dim=width, vision_cfg=vision, text_cfg=TEXT)
    config = {"embed_dim": width, "vision_cfg": vision, "text_cfg": TEXT}
    return randomise(built).eval(), {"model_cfg": config, "preprocess_cfg": {}}


def projected_from(visual, x):
    """What the last linear layer of open_clip's tower sees."""
    x = visual.trunk(x)
    return visual.head.mlp.act(visual.head.mlp.fc1(x)) if hasattr(visual.head, "mlp") else x


def visual(state: Mapping):
    return {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}


@pytest.mark.parametrize(
    ("kind", "name", "proj"),
    [("CLIP", "test_convnext2", "linear"), ("CustomTextCLIP", "test_convnext", "mlp")],
)
def test_a_clip_model_of_open_clips(tmp_path, pictures, kind, name, proj):
    import torch
    from safetensors.torch import save_file

    model, config = clip(kind, name, proj)
    state = model.state_dict() | {"attn_mask": torch.zeros(7, 7)}
    path = tmp_path / "open_clip_model.safetensors"
    save_file(state, path)
    with pytest.raises(UnstatedError, match="names and shapes do not tell"):
        open_engine(path, "openvino")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    expected = {
        "logits": answers(model.encode_image, pictures),
        "embedding": answers(lambda x: model.encode_image(x, normalize=True), pictures),
        "pre_logits": answers(lambda x: projected_from(model.visual, x), pictures),
    }
    check(path, pictures, expected)
    with load.read_weights(path) as weights:
        assert weights.architecture.head_hidden == (24 if proj == "mlp" else 0)
        assert weights.architecture.epsilon == 1e-5
        assert set(weights.found.ignored) == {n for n in state if not n.startswith("visual.")}
        assert (weights.info.task, weights.recipe.mean[0]) == ("clip", 0.48145466)
        assert (weights.recipe.size, weights.recipe.crop_fraction) == (SIDE, 1.0)
    back = assert_converts(path, "open_clip", {n: t for n, t in state.items() if "visual." in n})
    other, _ = clip(kind, name, proj)
    other.visual.load_state_dict(visual(back), strict=True)
    assert np.array_equal(answers(other.encode_image, pictures), expected["logits"])


@pytest.mark.torch_alone
def test_a_picture_as_a_vector_of_clips(tmp_path):
    """From pixels on, with open_clip's own transform, and what a tower of CLIP's cannot do."""
    from PIL import Image
    from safetensors.torch import save_file

    model, config = clip("CLIP", "test_convnext2", "linear")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    transform = pytest.importorskip("open_clip.transform")
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (150, 201, 3), np.uint8))
    x = transform.image_transform_v2(transform.PreprocessCfg(size=SIDE), is_train=False)(picture)
    expected = answers(
        lambda x: model.encode_image(x, normalize=True), x[None].movedim(1, -1).numpy()
    )
    classifier = Classifier(tmp_path / "model.safetensors", "openvino", precision="float32")
    vector = classifier.embed(picture)
    assert vector.shape == (classifier.vector_width,) == (12,)
    assert relative_error(vector, expected[0]) < TOLERANCE
    with pytest.raises(ArgumentError, match="has no classifier"):
        classifier(picture)


@pytest.mark.torch_alone
@pytest.mark.parametrize(
    "options", [{"timm_proj_bias": True}, {"timm_proj": "", "timm_pool": "avg"}]
)
def test_a_clip_model_with_a_bias_is_read_and_not_written(tmp_path, pictures, options):
    """A projection of either kind has a place for it, and published ones have not."""
    import torch

    model, _ = clip("CLIP", "test_convnext2", "linear", **options)
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, path)
    stated = {"architecture": "test_convnext2"}
    check(path, pictures, answers(model.encode_image, pictures), **stated)
    with pytest.raises(ArgumentError, match=r"no head\.bias, and this one is not zero"):
        convert(path, tmp_path / "back.safetensors", to_layout="open_clip", **stated)


@pytest.mark.torch_alone
def test_a_hidden_layer_that_open_clip_cannot_have():
    architecture = replace(ARCHITECTURES["convnext_atto"], **SMALL, head_hidden=20)
    weights = random_weights(architecture, 12)
    weights["head.bias"][:] = 0
    with pytest.raises(ArgumentError, match="twice as wide as the vectors: not 20 for 12"):
        state_dict(weights, "open_clip", architecture)


def dinov3_by_hand():
    """DINOv3's encoder, and EUPE's, as far as its names go: the norm occurs twice."""
    import torch
    from torch import nn

    depths, dims = SMALL["depths"], SMALL["dims"]

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(dim))
            self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    model = nn.Module()
    layers = [nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), nn.LayerNorm(dims[0]))]
    for before, dim in pairwise(dims):
        layers.append(nn.Sequential(nn.LayerNorm(before), nn.Conv2d(before, dim, 2, stride=2)))
    model.downsample_layers = nn.ModuleList(layers)
    blocks = ((Block(dim) for _ in range(n)) for n, dim in zip(depths, dims, strict=True))
    model.stages = nn.ModuleList(nn.Sequential(*stage) for stage in blocks)
    model.norm = nn.LayerNorm(dims[-1], eps=1e-6)
    model.norms = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Identity(), model.norm])
    return randomise(model)


def test_dinov3_and_eupe_under_their_authors_names(tmp_path, pictures):
    """timm reads them as well, and answers as we do."""
    import torch
    from timm.models.convnext import checkpoint_filter_fn

    state = dinov3_by_hand().state_dict()
    more = {"projectors.0.weight": torch.ones(3, 3), "norms.1.weight": torch.ones(24)}
    path = tmp_path / "EUPE-ConvNeXt-T.pt"
    torch.save(state | more, path)
    model = build_timm(V1, 0)
    model.load_state_dict(checkpoint_filter_fn(state | more, model), strict=True)
    normed = answers(lambda x: model.head.norm(model.forward_features(x)), pictures)
    expected = {"embedding": answers(model, pictures), "tokens": normed.transpose(0, 2, 3, 1)}
    check(path, pictures, expected)
    with load.read_weights(path) as weights:
        assert (weights.layout, weights.found.ignored) == ("dinov3_facebook", tuple(more))
    dinov3_by_hand().load_state_dict(assert_converts(path, "dinov3_facebook", state), strict=True)


def test_tokens_are_dinov3s_of_transformers(tmp_path, pictures):
    import transformers

    sizes = {"depths": list(V1.depths), "hidden_sizes": list(V1.dims)}
    model = transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**sizes))
    randomise(model).eval().save_pretrained(tmp_path)
    tokens = answers(lambda x: model(x).last_hidden_state[:, 1:], pictures)
    side = SIDE // 32
    expected = {
        "embedding": answers(lambda x: model(x).pooler_output, pictures),
        "tokens": tokens.reshape(len(pictures), side, side, -1),
    }
    check(tmp_path / "model.safetensors", pictures, expected)
