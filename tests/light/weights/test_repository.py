"""A model of any repository by its name, from a Hub that is a server on this machine."""

import json

import numpy as np
import pytest

from convnext import Classifier
from convnext.architecture import ARCHITECTURES
from convnext.cli.main import main
from convnext.engines import open_engine
from convnext.errors import (
    ArgumentError,
    ConvNeXtError,
    WeightsFileError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from convnext.exports import export
from convnext.images.recipe import Preprocess
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import LazyTensor, write_weights
from convnext.weights.layouts import to_foreign
from convnext.weights.load import read_weights
from convnext.weights.repository import Repository, repository_named

V1 = ARCHITECTURES["test_v1"]
OWN = {"depths": list(V1.depths), "dims": list(V1.dims)}
TIMM = {
    "architecture": "convnext_tiny",
    "num_classes": 3,
    "model_args": OWN,
    "label_names": ["n01", "n02", "fox"],
    "label_descriptions": {"n01": "cat", "n02": "dog"},
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "license": "mit",
    },
}
TRANSFORMERS = {
    "model_type": "convnext",
    "depths": OWN["depths"],
    "hidden_sizes": OWN["dims"],
    "id2label": {"0": "cat", "1": "dog", "2": "fox"},
}
PROCESSOR = {
    "size": {"shortest_edge": 64},
    "crop_pct": 0.9,
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
RECIPE = Preprocess(64, 0.9, "crop", "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

pytestmark = pytest.mark.usefixtures("home_of_its_own")


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(V1, 3)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def hub(server, tmp_path, monkeypatch, weights):
    """Puts files into a repository of the server's."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Before 1.0 the name is imported into the module that uses it.
    file_download = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"
    monkeypatch.setattr(file_download, template, raising=False)

    def put(repository="someone/foxes", file="model.safetensors", layout="timm", **documents):
        tensors = to_foreign(weights, layout, V1)
        if file.endswith(".json"):
            names = list(tensors)
            parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
            document = {"weight_map": {n: shard for shard, part in parts.items() for n in part}}
            contents = {file: json.dumps(document).encode()}
        else:
            parts, contents = {file: list(tensors)}, {}
        for shard, part in parts.items():
            path = tmp_path / shard
            write_weights(path, {n: LazyTensor.from_array(tensors[n]) for n in part})
            contents[shard] = path.read_bytes()
        contents |= {f"{n}.json": json.dumps(d).encode() for n, d in documents.items()}
        for revision in ("main", "0123456789abcdef0123456789abcdef01234567", "v2"):
            for name, content in contents.items():
                server.files[f"/{repository}/resolve/{revision}/{name}"] = content

    return put


def held(read, weights):
    for name, values in weights.items():
        np.testing.assert_array_equal(read.tensors[name].read(), values, err_msg=name)


@pytest.mark.parametrize(
    ("file", "layout", "documents"),
    [
        ("model.safetensors", "timm", {"config": TIMM}),
        ("pytorch_model.bin", "timm", {"config": TIMM}),
        (
            "model.safetensors.index.json",
            "huggingface",
            {"config": TRANSFORMERS, "preprocessor_config": PROCESSOR},
        ),
    ],
)
def test_weights_labels_and_recipe_of_a_repository(server, hub, weights, file, layout, documents):
    hub(file=file, layout=layout, **documents)
    with read_weights("someone/foxes") as read:
        held(read, weights)
        assert read.info.labels == ("cat", "dog", "fox")
        assert read.recipe == RECIPE
    server.requests.clear()
    with read_weights("hf-hub:someone/foxes") as read:
        held(read, weights)
    assert {method for method, path in server.requests if "/resolve/" in path} == {"HEAD"}


def test_a_repository_of_open_clip(hub, weights):
    weights["head.bias"][:] = 0  # its projection has none
    tower = {"timm_model_name": "test_v1", "image_size": 64}
    config = {"model_cfg": {"embed_dim": 3, "vision_cfg": tower}}
    hub(file="open_clip_model.safetensors", layout="open_clip", open_clip_config=config)
    with read_weights("someone/foxes") as read:
        held(read, weights)
        assert read.info.task == "clip"
        assert (read.recipe.size, read.recipe.interpolation) == (64, "bicubic")


def test_every_door_takes_it(hub, tmp_path, capsys):
    hub(config=TIMM)
    picture = tmp_path / "grey.png"
    from PIL import Image

    Image.new("RGB", (80, 90), (9, 90, 200)).save(picture)
    best = Classifier("someone/foxes")(picture).best
    assert best.label in ("cat", "dog", "fox")
    assert open_engine("someone/foxes").input.shape[:2] == (64, 64)
    assert main(["predict", str(picture), "--model", "someone/foxes"]) == 0
    assert best.label in capsys.readouterr().out
    assert export("someone/foxes", tmp_path / "foxes.xml").verdict.good


def test_without_a_network_the_cache_answers(server, hub, weights, monkeypatch):
    hub(config=TIMM)
    with pytest.raises(WeightsUnavailableError, match="not in the cache, and offline"):
        offline(monkeypatch, "someone/foxes")
    with read_weights("someone/foxes"):
        pass
    server.requests.clear()
    offline(monkeypatch, "someone/foxes")
    assert server.requests == []
    for method in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{method}", no_route)
    with read_weights("someone/foxes") as read:
        held(read, weights)
    with pytest.raises(WeightsUnavailableError, match=r"no route\. Or give the path of a file"):
        read_weights("someone/cats").__enter__()


def no_route(*_, **__):
    raise ConnectionError("no route")


def offline(monkeypatch, name):
    with monkeypatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        with read_weights(name):
            pass


def test_another_revision_is_another_model(server, hub):
    hub(config=TIMM)
    with read_weights("someone/foxes@v2"):
        pass
    assert any("/resolve/v2/" in path for _, path in server.requests)
    assert not any("/resolve/main/" in path for _, path in server.requests)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((401, "GatedRepo"), "licence has to be accepted first, at https://huggingface.co/timm/"),
        ((403, "GatedRepo"), "log in with `hf auth login`, or set HF_TOKEN.* file or folder"),
        ((401, "RepoNotFound"), r"no such repository.* Did you mean 'timm/convnext_tiny.fb_in1k'"),
        ((404, "RepoNotFound"), r"no such repository.* Did you mean 'timm/convnext_tiny.fb_in1k'"),
        ((404, "RevisionNotFound"), "RevisionNotFoundError"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_refusal_says_what_to_do(server, refusal, words):
    server.refusal = refusal
    with pytest.raises(WeightsUnavailableError, match=words):
        read_weights("timm/convnext_tiny.fb_in1kk").__enter__()


def test_a_repository_without_weights(server, hub):
    hub(config=TIMM)
    server.files = {n: c for n, c in server.files.items() if n.endswith("config.json")}
    with pytest.raises(WeightsUnavailableError, match=r"does not hold one of model\.safetensors"):
        read_weights("someone/foxes").__enter__()


def test_a_shard_that_is_not_there(server, hub):
    hub(file="model.safetensors.index.json", layout="huggingface", config=TRANSFORMERS)
    server.files = {n: c for n, c in server.files.items() if not n.endswith("b.safetensors")}
    with pytest.raises(WeightsUnavailableError, match=r"does not hold b\.safetensors"):
        read_weights("someone/foxes").__enter__()


def test_only_small_files_are_fetched_of_another_network(server, hub):
    hub(config={"architecture": "resnet50"})
    with pytest.raises(WeightsFileError, match="'resnet50', which is no ConvNeXt"):
        read_weights("someone/foxes").__enter__()
    assert not any("safetensors" in path for _, path in server.requests)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_classes": 4, "label_names": None}, "says 4 classes, and their classifier has 3"),
        ({"label_names": ["cat", "dog"]}, "2 labels for a head of 3 classes"),
        (
            {"model_args": None},
            r"not of convnext_tiny.*config\.json beside them says convnext_tiny",
        ),
        ({"model_args": {"act_layer": "elu"}}, "activation 'elu'"),
    ],
)
def test_a_config_that_contradicts_the_weights(hub, config, words):
    hub(config=TIMM | config)
    with pytest.raises(ConvNeXtError, match=words) as caught:
        read_weights("someone/foxes").__enter__()
    assert isinstance(caught.value, WeightsFileError | WeightsMismatchError)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("someone/my-convnext", Repository("someone/my-convnext")),
        ("https://huggingface.co/someone/x/", Repository("someone/x")),
        ("hf_hub:someone/x@refs/pr/1", Repository("someone/x", "refs/pr/1")),
        ("runs/best.pth", None),
        ("hf-hub:someone/best.pth", Repository("someone/best.pth")),
        ("a/b/c", None),
        ("../x", None),
        ("/tmp/x", None),
        ("convnext_tiny", None),
        ("a b/c", None),
    ],
)
def test_which_texts_name_a_repository(text, found):
    assert repository_named(text) == found


@pytest.mark.usefixtures("hub")
def test_a_path_that_is_not_there_is_no_repository(server):
    with pytest.raises(ArgumentError, match="neither a file on this machine nor a published"):
        read_weights("runs/best.pth").__enter__()
    assert server.requests == []
