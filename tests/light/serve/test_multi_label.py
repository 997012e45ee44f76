"""A server with a multi-label model beside one of exclusive classes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from convnext.images.recipe import Preprocess

OCTETS = {"Content-Type": "application/octet-stream"}


def png(shade=100):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (shade,) * 3).save(stream, "PNG")
    return stream.getvalue()


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.fixture
def served(running, write_weights, named_weights, tmp_path, mock_engine):  # noqa: ARG001
    tagger = write_weights(
        tmp_path / "tagger.safetensors",
        labels=tuple(f"tag_{number}" for number in range(10)),
        thresholds=(0.5,) * 10,
        preprocess=Preprocess(size=32),
    )
    with running({"tagger": tagger, "shades": named_weights}) as run:
        yield run


def _classes(served, shade, **parameters):
    response = served.client.post(
        "/v1/classify", content=png(shade), headers=OCTETS, params=parameters
    )
    assert response.status_code == 200, response.text
    return [row["label"] for row in response.json()["pictures"][0]["classes"]]


def test_answers_are_the_labels_that_reach_the_threshold(served):
    assert _classes(served, 25) == ["tag_1"]
    assert _classes(served, 37) == []
    assert _classes(served, 37, threshold="0.03") == ["tag_1", "tag_2"]
    assert _classes(served, 37, threshold=0.03, top=1) == ["tag_1"]
    assert len(_classes(served, 37, threshold=0)) == 10
    assert len(_classes(served, 37, model="shades")) == 5


def test_only_multi_label_models_have_a_threshold(served):
    post = served.client.post
    query = "/v1/classify?model=shades&threshold=0.5"
    problem(post(query, content=png(), headers=OCTETS), 400, "no-thresholds")
    for wrong in ("2", "-1", "nan", "x", ""):
        query = f"/v1/classify?threshold={wrong}"
        problem(post(query, content=png(), headers=OCTETS), 400, "bad-option")
    models = served.client.get("/v1/models").json()["models"]
    assert [model["multi_label"] for model in models] == [True, False]


def test_the_inference_protocol_ranks_as_many_labels_for_each_picture(served):
    content = {
        "inputs": [
            {
                "name": "pixels",
                "shape": [1, 32, 32, 3],
                "datatype": "UINT8",
                "data": [37] * 32 * 32 * 3,
            }
        ],
        "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
    }
    [output] = served.client.post("/v2/models/tagger/infer", json=content).json()["outputs"]
    assert output["shape"] == [1, 3]
    assert [text.split(":")[1] for text in output["data"]] == ["1", "2", "0"]
