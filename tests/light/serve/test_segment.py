"""Segmentation models behind HTTP, with a model whose scores are the pixels."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from convnext.images.masks import read_mask
from convnext.segmenter import Segmenter

OCTETS = {"Content-Type": "application/octet-stream"}


def png(height, width, seed=0):
    parts = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(parts).resize((width, height)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def streets(running, upernet, mock_segmenter):  # noqa: ARG001
    with running({"streets": upernet}) as run:
        yield run


def test_areas_and_masks(streets, upernet):
    sent = [png(40, 60, 1), png(90, 30, 2)]
    files = [("picture", (f"{number}.png", data)) for number, data in enumerate(sent)]
    files.append(("picture", ("bad.png", b"none")))
    answer = streets.client.post("/v1/segment", files=files).json()
    assert answer["model"] == "streets"
    *rows, bad = answer["pictures"]
    assert set(bad) == {"id", "error"}
    segmenter = Segmenter(upernet)
    for row, data in zip(rows, sent, strict=True):
        expected = segmenter(data)
        np.testing.assert_array_equal(read_mask(base64.b64decode(row["mask"])), expected.class_map)
        assert row["areas"] == expected.record()["areas"]
        assert (row["height"], row["width"]) == expected.class_map.shape


def test_a_mask_as_png(streets, upernet):
    data = png(40, 60)
    headers = {**OCTETS, "Accept": "image/png;q=0.9"}
    response = streets.client.post("/v1/segment", content=data, headers=headers)
    assert response.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(read_mask(response.content), Segmenter(upernet)(data).class_map)
    two = [("p", ("a", data)), ("p", ("b", data))]
    response = streets.client.post("/v1/segment", files=two, headers={"Accept": "image/png"})
    assert response.json()["code"] == "one-picture"
    response = streets.client.post("/v1/segment", content=b"none", headers=headers)
    assert response.status_code == 422


def test_what_a_model_cannot_do_is_said(streets):
    [model] = streets.client.get("/v1/models").json()["models"]
    assert (model["answers"], model["classes"], model["vector"]) == (["segment"], 5, 0)
    response = streets.client.post("/v1/classify", content=png(4, 4), headers=OCTETS)
    assert response.status_code == 400
    assert "cannot classify" in response.json()["detail"]
    assert streets.client.get("/v2/models/streets").json()["outputs"] == []
    response = streets.client.post("/v1/segment?top=1", content=png(4, 4), headers=OCTETS)
    assert response.json()["code"] == "unknown-option"


def test_a_classifier_does_not_segment(served):
    response = served.client.post("/v1/segment", content=png(4, 4), headers=OCTETS)
    assert response.status_code == 400
    assert "cannot segment" in response.json()["detail"]


def test_answers_are_as_openapi_describes_them(streets):
    jsonschema = pytest.importorskip("jsonschema")
    described = streets.client.get("/openapi.json").json()
    about = described["paths"]["/v1/segment"]["post"]
    example = about["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
    response = streets.client.post("/v1/segment", json=example)
    content = about["responses"]["200"]["content"]
    assert set(content) == {"application/json", "image/png"}
    schema = {**content["application/json"]["schema"], "components": described["components"]}
    jsonschema.Draft202012Validator(schema).validate(response.json())
