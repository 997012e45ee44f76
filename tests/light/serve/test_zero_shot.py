"""Labels that come with a request, for a CLIP model; bounded."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from convnext.classifier import ZeroShot

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
LABELS = ["a cat", "a dog", "a car"]


def encoded():
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def served(running, clip_folder):
    pytest.importorskip("openvino")
    with running({"clip": clip_folder}, engine="openvino", precision="float32") as run:
        yield run


def answer(response):
    assert response.status_code == 200, response.text
    [row] = response.json()["pictures"]
    return [(each["label"], each["index"], each["probability"]) for each in row["classes"]]


def test_every_form_of_labels(served, clip_folder):
    zero_shot = ZeroShot(clip_folder, "openvino", precision="float32")
    expected = [
        (score.label, score.index, pytest.approx(score.probability, abs=1e-5))
        for score in zero_shot(PICTURE, LABELS, "this is {}").classes
    ]
    picture, options = encoded(), {"labels": ",".join(LABELS), "template": "this is {}"}
    post = served.client.post
    kind = {"Content-Type": "image/png"}
    assert answer(post("/v1/classify", params=options, content=picture, headers=kind)) == expected
    body = {
        "pictures": [base64.b64encode(picture).decode()],
        "labels": LABELS,
        "template": "this is {}",
    }
    assert answer(post("/v1/classify", json=body)) == expected
    assert answer(post("/v1/classify", json=body | {"top": 1})) == expected[:1]
    files = {"picture": ("x.png", picture)}
    assert answer(post("/v1/classify", data=options, files=files)) == expected


@pytest.mark.parametrize(
    "labels",
    [[], ["cat", ""], ["cat", 3], ["cat", "cat "], ["x"] * 101, ["x" * 101], "cat,", 7, {"a": 1}],
)
def test_labels_over_a_limit(served, labels):
    body = {"pictures": [base64.b64encode(encoded()).decode()], "labels": labels}
    response = served.client.post("/v1/classify", content=json.dumps(body), headers=JSON)
    assert (response.status_code, response.json()["code"]) == (400, "bad-option")
    assert "1 to 100 different names of 1 to 100 characters" in response.json()["detail"]


JSON = {"Content-Type": "application/json"}


def test_a_template_without_a_place_for_the_name(served):
    body = {"pictures": [""], "labels": LABELS, "template": "a cat"}
    response = served.client.post("/v1/classify", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "bad-option")


def test_a_model_with_classes_of_its_own(running, named_weights, mock_engine):
    del mock_engine
    with running(named_weights) as run:
        response = run.client.post(
            "/v1/classify?labels=a,b", content=encoded(), headers={"Content-Type": "image/png"}
        )
        assert (response.status_code, response.json()["code"]) == (400, "labels-not-served")


def test_a_clip_model_whose_vocabulary_is_missing(running, clip_folder, tmp_path):
    """It still gives vectors."""
    pytest.importorskip("openvino")
    for name in ("open_clip_model.safetensors", "open_clip_config.json"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    kind = {"Content-Type": "image/png"}
    with running({"clip": tmp_path}, engine="openvino") as run:
        post = run.client.post
        assert post("/v1/embed", content=encoded(), headers=kind).status_code == 200
        response = post("/v1/classify?labels=a,b", content=encoded(), headers=kind)
        assert (response.status_code, response.json()["code"]) == (400, "labels-not-served")
