"""Weights loaded in every way: at any input size, with any head, by path and by name."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest
from PIL import Image

from convnext import applications, create_convnext_v1, create_convnext_v2
from convnext.architecture import VARIANTS
from convnext.cli.main import main
from convnext.errors import ArgumentError, WeightsMismatchError, WeightsUnavailableError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise, pixels
from convnext.weights import catalog, load, published_logits
from convnext.weights.canonical import canonical_variables
from convnext.weights.catalog import Url, get_checkpoint
from convnext.weights.load import load_weights
from convnext.weights.save import save_weights
from peers import (
    answers,
    as_numpy,
    fill,
    pictures,
    published_model,
    random_weights,
    relative_error,
    timm_model,
    timm_outputs,
)

pytestmark = pytest.mark.torch_first

OPEN = (None, None, 3)
V1, V2, ATTO = VARIANTS["test_v1"], VARIANTS["test_v2"], VARIANTS["convnextv2_atto"]


@pytest.fixture
def saved(tmp_path):
    """Writes random weights of a variant and returns them with the file."""

    def saved(variant, num_classes=10, *, file="weights.safetensors", layout="convnext", **options):
        weights = random_weights(variant, num_classes, **options)
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(weights, path, layout=layout)
        return weights, path

    return saved


def values(model):
    return {name: as_numpy(v.value) for name, v in canonical_variables(model).items()}


def assert_holds(model, weights, *, fresh=()):
    held = values(model)
    assert held.keys() >= weights.keys() - {*fresh}
    for name in held.keys() - {*fresh}:
        np.testing.assert_array_equal(held[name], weights[name], err_msg=name)


@pytest.mark.parametrize("input_shape", [(32, 32, 3), (96, 96, 3), (64, 128, 3), OPEN])
@pytest.mark.parametrize(
    ("create", "variant"), [(create_convnext_v1, V1), (create_convnext_v2, V2)], ids=["v1", "v2"]
)
def test_every_input_shape_takes_the_same_file(saved, create, variant, input_shape):
    weights, path = saved(variant)
    model = create("test", 10, input_shape, weights=path)
    assert_holds(model, weights)
    side = input_shape[0] or 32
    assert model.compute_output_shape((1, side, input_shape[1] or side, 3)) == (1, 10)


@pytest.mark.upstream
def test_an_open_size_answers_as_timm(saved):
    weights, path = saved(V2)
    model = create_convnext_v2("test", 10, OPEN, weights=path, classifier_activation=None)
    images = pictures(2, 64, 64, 3)
    theirs = answers(timm_model(V2, weights, 10), images)
    assert relative_error(answers(model, images), theirs) < 1e-4


def test_the_name_of_a_model_has_no_say(saved):
    weights, path = saved(ATTO, 1000)
    model = create_convnext_v2("atto", weights=str(path), name="my_convnext_large")
    assert_holds(model, weights)


def test_a_new_head_stays_as_it_was_and_is_reported(saved):
    weights, path = saved(V1, 10)
    model = published_model(V1, input_shape=(64, 64, 3), num_classes=7)
    before = values(model)
    report = load_weights(model, path, head="new")
    assert_holds(model, weights, fresh=["head.kernel", "head.bias"])
    np.testing.assert_array_equal(values(model)["head.kernel"], before["head.kernel"])
    assert report.fit.fresh == report.fit.unused == ("head.kernel", "head.bias")
    assert "NOT LOADED, still random and to be trained: head.kernel, head.bias." in str(report)


def test_a_new_head_through_the_door(saved):
    weights, path = saved(V2, 21_841)
    model = create_convnext_v2("test", 5, (64, 64, 3), weights=path, head="new")
    assert_holds(model, weights, fresh=["head.kernel", "head.bias"])


def test_without_the_top_the_classifier_stays_in_the_file(saved):
    weights, path = saved(V2)
    model = create_convnext_v2("test", include_top=False, pooling="max", weights=path)
    report = load_weights(model, path)
    assert report.fit.unused == ("head.kernel", "head.bias")
    assert_holds(model, {n: w for n, w in weights.items() if not n.startswith("head.")})


WRONG = {
    "family": (V2, 10, "This is a V2 checkpoint; the model is V1."),
    "size": (VARIANTS["convnext_atto"], 10, "The file holds convnext_atto; the model is test_v1."),
    "classes": (V1, 1000, "The file's head has 1000 classes, the model's 10: pass head='new'"),
    "no head": (V1, 0, "The file has no head .feature extractor.: pass head='new'"),
}


@pytest.mark.parametrize(("variant", "classes", "message"), WRONG.values(), ids=WRONG)
def test_weights_that_do_not_fit_change_nothing(saved, variant, classes, message):
    _, path = saved(variant, classes)
    model = published_model(V1, input_shape=(64, 64, 3), num_classes=10)
    before = values(model)
    with pytest.raises(WeightsMismatchError, match=message) as caught:
        load_weights(model, path)
    assert str(caught.value).startswith(f"{path}: These weights do not fit the model.\n")
    assert_holds(model, before)


@pytest.mark.parametrize(("policy", "rounding"), [("mixed_float16", 0), ("bfloat16", 2**-8)])
def test_half_precision_models_load_and_save(saved, tmp_path, policy, rounding):
    weights, path = saved(V2)
    keras.config.set_dtype_policy(policy)
    model = create_convnext_v2("test", 10, (64, 64, 3), weights=path)
    held = values(model)
    for name, expected in weights.items():
        np.testing.assert_allclose(held[name], expected, rtol=rounding, err_msg=name)
    save_weights(model, tmp_path / "again.pth", layout="facebook")
    assert_holds(create_convnext_v2("test", 10, weights=tmp_path / "again.pth"), held)


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_files_saved_by_keras_load_on_this_backend(tmp_path, file):
    weights = random_weights(V1, 10)
    model = create_convnext_v1("test", 10, (64, 64, 3), drop_path_rate=0.2)
    fill(model, weights)
    getattr(model, "save_weights" if "weights" in file else "save")(tmp_path / file)
    assert_holds(create_convnext_v1("test", 10, weights=tmp_path / file), weights)


# ---- the door of keras.applications


@pytest.mark.parametrize("include_top", [True, False])
def test_applications_take_a_path(saved, include_top):
    weights, path = saved(VARIANTS["convnext_tiny"], 10, file="x.h5", layout="keras_applications")
    model = applications.ConvNeXtTiny(
        include_top, weights=path, input_shape=(32, 32, 3), classes=10, name="large"
    )
    assert_holds(model, weights, fresh=() if include_top else ["head.kernel", "head.bias"])


# ---- by name


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache on a machine without a network."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "name", ["imagenet", "convnextv2_atto.fcmae_ft_in1k", "facebook/convnextv2-atto-1k-224"]
)
def test_a_published_checkpoint_from_the_cache(saved, cache, caplog, name):
    place = "cache/convnextv2_atto.fcmae_ft_in1k/timm/model.safetensors"
    weights, path = saved(ATTO, 1000, file=place, layout="timm")
    load._announce.cache_clear()
    with caplog.at_level(logging.INFO, "convnext"):
        model = create_convnext_v2("atto", weights=name)
        report = load_weights(model, "convnextv2_atto.fcmae_ft_in1k")
    assert_holds(model, weights)
    assert path.is_relative_to(cache)
    (record,) = caplog.records
    assert str(report).endswith(f"\n{record.message}")
    assert "licence CC-BY-NC-4.0 (credit the authors; no commercial use)" in record.message


def test_masked_pretraining_by_name(saved, cache):
    place = "cache/convnextv2_atto.fcmae/facebook/convnextv2_atto_1k_224_fcmae.pt"
    weights, path = saved(ATTO, 0, head="none", file=place, layout="facebook")
    assert path.is_relative_to(cache)
    with pytest.raises(WeightsMismatchError, match=r"no head norm and no head .*head='new'"):
        create_convnext_v2("atto", weights="convnextv2_atto.fcmae")
    model = create_convnext_v2("atto", weights="convnextv2_atto.fcmae", head="new")
    new = ["head_norm.gamma", "head_norm.beta", "head.kernel", "head.bias"]
    assert_holds(model, weights, fresh=new)


def test_imagenet_through_the_door_of_applications(saved, cache):
    place = "cache/convnextv2_atto.fcmae_ft_in1k/huggingface/pytorch_model.bin"
    weights, path = saved(ATTO, 1000, file=place, layout="huggingface")
    assert path.is_relative_to(cache)
    assert_holds(applications.ConvNeXtV2Atto(), weights)


def test_a_published_checkpoint_from_a_server(saved, tmp_path, monkeypatch):
    weights, path = saved(ATTO, 1000, file="served/atto.pt", layout="facebook")
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    handler = partial(SimpleHTTPRequestHandler, directory=path.parent)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        source = Url("facebook", f"http://127.0.0.1:{server.server_port}/atto.pt")
        row = replace(get_checkpoint("convnextv2_atto"), sources=(source,))
        monkeypatch.setattr(load, "get_checkpoint", lambda _: row)
        model = create_convnext_v2("atto", weights=row.name)
        server.shutdown()
    assert_holds(model, weights)
    assert_holds(create_convnext_v2("atto", weights=row.name), weights)  # from the cache


def test_never_random_weights_instead(cache):
    with pytest.raises(
        WeightsUnavailableError, match=r"offline mode is on.*Three ways out"
    ) as said:
        create_convnext_v1("atto", weights="imagenet")
    assert str(cache) in str(said.value)
    with pytest.raises(ArgumentError, match="No weights were ever published for 'convnextv2_small"):
        create_convnext_v2("small", weights="imagenet")
    with pytest.raises(ArgumentError, match=r"neither a file .* nor a published checkpoint"):
        create_convnext_v2("atto", weights="no/such/file.pth")


# ---- against the published logits


@pytest.mark.upstream
def test_verify_runs_the_model_on_the_picture(saved, tmp_path, monkeypatch, capsys):
    weights, path = saved(V2, 1000)
    tiles = Image.fromarray(np.array(published_logits.PICTURE_TILES, np.uint8))
    cats = tiles.resize(published_logits.PICTURE_SIZE, Image.Resampling.NEAREST)
    cats.save(tmp_path / "cats.png")
    recipe = Preprocess(size=128)  # the least at which strides are the published ones
    row = replace(get_checkpoint("convnextv2_atto"), variant=V2.name, preprocess=recipe)
    monkeypatch.setattr(catalog, "get_checkpoint", lambda _: row)
    command = ["verify", row.name, f"--picture={tmp_path / 'cats.png'}", f"--weights={path}"]
    assert main(command) == 1
    assert f"{row.name} DOES NOT ANSWER AS PUBLISHED" in capsys.readouterr().out

    images = normalise(pixels(cats, recipe), recipe)[None]
    logits = timm_outputs(timm_model(V2, weights), images)["head"]
    monkeypatch.setattr(published_logits, "PUBLISHED_LOGITS", {row.name: logits[0, :5].tolist()})
    assert main(command) == 0
    assert f"{row.name} answers as published" in capsys.readouterr().out
