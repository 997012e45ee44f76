"""Files that our peers wrote, read by us; files that we wrote, read by our peers.

Every parameter of a peer is random, set by its own means, and it is saved and loaded by its own
functions. What is compared is what the models answer, so a tensor in the wrong place, or with its
axes in the wrong order, cannot pass.
"""

from __future__ import annotations

import argparse
import math

import keras
import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.weights.canonical import decoder_shapes
from convnext.weights.load import load_weights
from convnext.weights.save import save_weights
from peers import (
    answers,
    build_keras_applications,
    build_timm,
    build_torchvision,
    build_transformers,
    fill,
    pictures,
    published_model,
    random_weights,
    randomise,
    relative_error,
)

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.torch_first,
    # torch announces its next version, keras.applications pickles what NumPy will soon not.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TOLERANCE = 1e-4
SIDE = 64
IMAGES = pictures(2, SIDE, SIDE, 3)

BUILD = {
    "timm": build_timm,
    "transformers": build_transformers,
    "torchvision": build_torchvision,
    "keras_applications": build_keras_applications,
}
MODELS = [
    ("timm", "test_v1"),
    ("timm", "test_v2"),
    ("timm", "convnextv2_atto"),  # its linear layers are 1x1 convolutions
    ("transformers", "test_v1"),
    ("transformers", "test_v2"),
    ("torchvision", "test_v1"),
    ("keras_applications", "test_v1"),
]
LAYOUTS = {"transformers": "huggingface"}


def our_model(variant, num_classes):
    options = {"input_shape": (SIDE, SIDE, 3)}
    if num_classes:
        return published_model(variant, num_classes=num_classes, **options)
    return published_model(variant, include_top=False, pooling="avg", **options)


# ---- how they save


def state_dict(model, folder):
    import torch

    torch.save(model.state_dict(), folder / "model.pth")
    return folder / "model.pth"


def training_state(model, folder):
    """As training scripts save it, the authors' among them."""
    import torch

    state = {
        "model": model.state_dict(),
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "epoch": 299,
        "args": argparse.Namespace(lr=4e-3, model="convnext", output_dir=folder),
    }
    torch.save(state, folder / "checkpoint-best.pth")
    return folder / "checkpoint-best.pth"


def before_torch_1_6(model, folder):
    import torch

    torch.save(model.state_dict(), folder / "m.pt", _use_new_zipfile_serialization=False)
    return folder / "m.pt"


def safetensors(model, folder):
    from safetensors.torch import save_file

    save_file(model.state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def save_pretrained(model, folder):
    model.save_pretrained(folder)
    return folder


def sharded(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder / "model.safetensors.index.json"


def keras_weights(model, folder):
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.weights.h5"


def keras_archive(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def keras_h5(model, folder):
    model.save(folder / "model.h5")
    return folder / "model.h5"


TORCH = [state_dict, training_state, before_torch_1_6, safetensors]
WAYS = {
    "timm": TORCH,
    "torchvision": TORCH,
    "transformers": [*TORCH, save_pretrained, sharded],
    "keras_applications": [keras_weights, keras_archive, keras_h5],
}


@pytest.mark.parametrize(("peer", "name"), MODELS)
def test_weights_saved_by_a_peer_give_its_outputs(peer, name, tmp_path):
    variant = VARIANTS[name]
    theirs = randomise(BUILD[peer](variant, 10))
    expected = answers(theirs, IMAGES)
    ours = our_model(variant, 10)
    initial = random_weights(variant, 10)
    for way in WAYS[peer]:
        fill(ours, initial)
        folder = tmp_path / way.__name__
        folder.mkdir()
        report = load_weights(ours, way(theirs, folder))
        assert report.fit.fresh == report.fit.unused == (), way
        assert report.found.layout == LAYOUTS.get(peer, peer)
        assert relative_error(answers(ours, IMAGES), expected) < TOLERANCE, way


@pytest.mark.torch_alone
@pytest.mark.parametrize("num_classes", [0, 21_841])
@pytest.mark.parametrize(("peer", "name"), [model for model in MODELS if "test" in model[1]])
def test_features_and_large_heads_of_a_peer(peer, name, num_classes, tmp_path):
    theirs = randomise(BUILD[peer](VARIANTS[name], num_classes))
    ours = our_model(VARIANTS[name], num_classes)
    report = load_weights(ours, WAYS[peer][0](theirs, tmp_path))
    assert (report.found.num_classes, report.found.head_norm) == (num_classes, True)
    assert report.fit.fresh == report.fit.unused == ()
    assert relative_error(answers(ours, IMAGES), answers(theirs, IMAGES)) < TOLERANCE


def loaded(model, path):
    """A peer's model, strictly filled from our file by its own functions."""
    if isinstance(model, keras.Model):
        model.load_weights(path)
        return model
    if path.is_dir():
        model.config.save_pretrained(path)
        model, said = type(model).from_pretrained(path, output_loading_info=True)
        assert not any(said.values()), said
        return model.eval()
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        import torch

        state = torch.load(path, weights_only=True)
    model.load_state_dict(state, strict=True)
    return model


FILES = {
    "timm": ["model.pth", "model.safetensors"],
    "torchvision": ["model.pth"],
    "transformers": ["pytorch_model.bin", "model.safetensors"],
    "keras_applications": ["model.h5"],
}


@pytest.mark.torch_alone
@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize(("peer", "name"), MODELS)
def test_a_peer_loads_what_we_saved_and_answers_as_we_do(peer, name, num_classes, tmp_path):
    variant = VARIANTS[name]
    ours = our_model(variant, num_classes)
    fill(ours, random_weights(variant, num_classes))
    for file in FILES[peer]:
        save_weights(ours, tmp_path / file, layout=LAYOUTS.get(peer, peer))
        theirs = loaded(BUILD[peer](variant, num_classes), tmp_path / file)
        assert relative_error(answers(theirs, IMAGES), answers(ours, IMAGES)) < TOLERANCE, file


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_transformers_finds_our_file_in_a_folder(name, tmp_path):
    ours = our_model(VARIANTS[name], 10)
    fill(ours, random_weights(VARIANTS[name], 10))
    save_weights(ours, tmp_path / "model.safetensors", layout="huggingface")
    theirs = loaded(build_transformers(VARIANTS[name], 10), tmp_path)
    assert relative_error(answers(theirs, IMAGES), answers(ours, IMAGES)) < TOLERANCE


# ---- the authors' files, which timm's own reader understands


def by_timms_reader(state, variant, num_classes=10):
    from timm.models.convnext import checkpoint_filter_fn

    model = build_timm(variant, num_classes)
    missing, unexpected = model.load_state_dict(checkpoint_filter_fn(state, model), strict=False)
    assert not unexpected
    return model, missing


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_the_authors_files(name, tmp_path):
    import torch

    variant = VARIANTS[name]
    ours = our_model(variant, 10)
    fill(ours, random_weights(variant, 10))
    save_weights(ours, tmp_path / "model.pth", layout="facebook")
    saved = torch.load(tmp_path / "model.pth", weights_only=True)
    assert list(saved) == ["model"]
    theirs, missing = by_timms_reader(saved, variant)
    assert not missing
    expected = answers(theirs, IMAGES)
    assert relative_error(answers(ours, IMAGES), expected) < TOLERANCE

    torch.save(saved | {"args": argparse.Namespace(lr=1e-3)}, tmp_path / "with_args.pth")
    again = our_model(variant, 10)
    report = load_weights(again, tmp_path / "with_args.pth")
    assert (report.found.layout, report.fit.fresh) == ("facebook", ())
    assert relative_error(answers(again, IMAGES), expected) < TOLERANCE


def remapped(sparse):
    """The authors' `remap_checkpoint_keys`, by which their dense model reads their sparse files."""
    dense = {}
    for key, value in sparse.items():
        if key.startswith(("decoder", "mask_token", "pred", "proj")):
            continue
        name = key.removeprefix("encoder.").replace(".ln.", ".").replace(".linear.", ".")
        if name.endswith("kernel"):
            value = value.permute(2, 1, 0) if value.ndim == 3 else value.permute(1, 0)[:, None]
            side = math.isqrt(value.shape[-1])
            value = value.unflatten(-1, (side, side)).transpose(3, 2)  # columns came first
            name = name.replace("kernel", "weight")
        elif name.endswith("bias"):
            value = value.flatten()
        elif "grn" in name:
            value = value[None, None]
        dense[name] = value
    return dense


@pytest.fixture
def sparse_training(tmp_path):
    """A file as FCMAE training writes it, with the encoder's weights under our names."""
    import torch

    variant = VARIANTS["test_v2"]
    encoder = random_weights(variant, 0, head="none")
    decoder = {
        name: np.ones(shape, np.float32)
        for name, shape in decoder_shapes(variant, 3072, width=16).items()
    }
    save_weights(encoder | decoder, tmp_path / "sparse.pth", layout="fcmae")
    state = torch.load(tmp_path / "sparse.pth", weights_only=True)["model"]
    assert state["mask_token"].shape == (1, 16, 1, 1)
    assert state["encoder.stages.0.0.dwconv.kernel"].shape == (49, 8)
    assert state["encoder.downsample_layers.1.1.kernel"].shape == (4, 8, 16)
    assert state["encoder.stages.2.1.grn.gamma"].shape == (1, 96)
    return variant, tmp_path / "sparse.pth", state


@pytest.mark.parametrize("published", [False, True], ids=["sparse", "pt_only"])
def test_fcmae_encoders(sparse_training, tmp_path, published):
    import torch

    variant, path, state = sparse_training
    dense = remapped(state)
    theirs, missing = by_timms_reader(dense, variant)
    assert missing == ["head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"]
    if published:
        # Dense already, but for GRN: whether it is (1, 4C) or (1, 1, 1, 4C), nobody could check.
        path = tmp_path / "pt_only.pt"
        flat = {name: v[0, 0] if "grn" in name else v for name, v in dense.items()}
        torch.save({"model": flat}, path)
    ours = published_model(variant, input_shape=(SIDE, SIDE, 3), num_classes=10)
    report = load_weights(ours, path, head="new")
    assert report.fit.fresh == ("head_norm.gamma", "head_norm.beta", "head.kernel", "head.bias")
    assert len(report.fit.unused) == (0 if published else 15)
    assert "NOT LOADED, still random and to be trained: head_norm.gamma" in str(report)
    with torch.inference_mode():
        expected = theirs.forward_features(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    maps = answers(keras.Model(ours.input, ours.get_layer("stage_3").output), IMAGES)
    assert relative_error(maps, expected.permute(0, 2, 3, 1).numpy()) < TOLERANCE


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_a_backbone_of_transformers(name, tmp_path):
    import torch

    theirs = randomise(build_transformers(VARIANTS[name], 10, "Backbone"))
    theirs.save_pretrained(tmp_path)
    ours = published_model(VARIANTS[name], include_top=False, input_shape=(SIDE, SIDE, 3))
    report = load_weights(ours, tmp_path)
    assert report.fit.fresh == ()
    assert report.fit.unused == ("feature_3_norm.gamma", "feature_3_norm.beta")
    with torch.inference_mode():
        out = theirs(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), output_hidden_states=True)
    expected = out.hidden_states[-1].permute(0, 2, 3, 1).numpy()
    assert relative_error(answers(ours, IMAGES), expected) < TOLERANCE
