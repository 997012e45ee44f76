"""The Open Inference Protocol, with plain HTTP and with Triton's client."""

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from convnext.classifier import Classifier
from convnext.engines import open_engine
from convnext.images.transform import pixels
from convnext.serve.tensors import Tensor

LIMIT = 1e-5  # of logits of order 1: batches of one and of several round differently


@pytest.fixture
def picture():
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return image, stream.getvalue()


@pytest.fixture
def real(running, named_weights):
    """A server with a real engine, in float32: batches of any size answer nearly alike."""
    pytest.importorskip("openvino")
    with running({"shades": named_weights}, precision="float32") as run:
        yield run


def expected(path, source):
    classifier = Classifier(path, precision="float32")
    [answer] = classifier.run([source], ("logits", "embedding"), batch_size=1)
    return answer.outputs


def error(response, status=400):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["error"]


def test_logits_are_those_of_the_classifier(real, named_weights, picture):
    image, data = picture
    outputs = expected(named_weights, data)
    array = pixels(image, Classifier(named_weights).preprocess)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
    answer = real.client.post(
        "/v2/models/shades/infer",
        json={"id": "42", "inputs": [{**tensor, "data": array[None].tolist()}]},
    ).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "shades", "1")
    assert [output["name"] for output in answer["outputs"]] == ["logits", "embedding"]
    for output in answer["outputs"]:
        wanted = outputs[output["name"]]
        assert output["shape"] == [1, len(wanted)]
        np.testing.assert_allclose(output["data"], wanted, rtol=LIMIT, atol=LIMIT)


def test_logits_of_many_at_once_are_those_of_each(real, named_weights):
    rng = np.random.default_rng(6)
    batch = rng.integers(0, 256, (11, 32, 32, 3), np.uint8)
    engine = open_engine(named_weights, precision="float32")
    wanted = np.stack([engine.predict(row[None])[0] for row in batch])
    head = {
        "inputs": [
            {
                "name": "pixels",
                "datatype": "UINT8",
                "shape": list(batch.shape),
                "parameters": {"binary_data_size": batch.nbytes},
            }
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    response = real.client.post(
        "/v2/models/shades/versions/1/infer",
        content=text + batch.tobytes(),
        headers={
            "Inference-Header-Content-Length": str(len(text)),
            "Content-Type": "application/octet-stream",
        },
    )
    length = int(response.headers["inference-header-content-length"])
    [output] = json.loads(response.content[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(response.content) - length
    got = np.frombuffer(response.content[length:], "<f4").reshape(output["shape"])
    np.testing.assert_allclose(got, wanted, rtol=LIMIT, atol=LIMIT)


@pytest.mark.usefixtures("mock_engine")
def test_requests_that_are_not_in_order(running, named_weights):
    with running({"shades": named_weights}) as run:

        def post(path="/v2/models/shades/infer", **changes):
            tensor = {
                "name": "pixels",
                "datatype": "UINT8",
                "shape": [1, 32, 32, 3],
                "data": [0] * 3072,
                **changes.pop("tensor", {}),
            }
            return run.client.post(path, json={"inputs": [tensor], **changes})

        assert post().status_code == 200
        assert "Give one input" in error(post(tensor={"name": "x"}))
        assert "[n, 32, 32, 3]; got [1, 3, 32, 32]" in error(post(tensor={"shape": [1, 3, 32, 32]}))
        assert "1 to 32 pictures" in error(post(tensor={"shape": [0, 32, 32, 3]}))
        assert "1 to 32 pictures" in error(post(tensor={"shape": [33, 32, 32, 3]}))
        assert "Unknown output 'x'" in error(post(outputs=[{"name": "x"}]))
        classes = {"name": "embedding", "parameters": {"classification": 2}}
        assert "classification" in error(post(outputs=[classes]))
        assert "timeout" in error(post(parameters={"timeout": "soon"}))
        assert "no version '7'" in error(post("/v2/models/shades/versions/7/infer"), 404)
        assert "Unknown model 'y'" in error(post("/v2/models/y/infer"), 404)
        files = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}
        assert "not a picture" in error(post(tensor=files), 422)
        run.engines[0].gate.clear()
        late = post(parameters={"timeout": 50_000})
        assert error(late, 503)
        assert late.headers["retry-after"]


@pytest.mark.usefixtures("mock_engine")
def test_a_timeout_longer_than_any_is_the_servers_own(running, named_weights):
    with running({"shades": named_weights}) as run:
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
        body = {"inputs": [{**tensor, "data": [0] * 3072}], "parameters": {"timeout": 10**400}}
        assert run.client.post("/v2/models/shades/infer", json=body).status_code == 200


@pytest.mark.usefixtures("mock_engine")
def test_large_tensors_in_json_are_taken_apart_off_the_event_loop(
    running, named_weights, monkeypatch
):
    threads, pixels_of = [], Tensor.pixels

    def noted(tensor):
        threads.append(threading.current_thread())
        return pixels_of(tensor)

    monkeypatch.setattr(Tensor, "pixels", noted)
    with running({"shades": named_weights}) as run:
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [16, 32, 32, 3]}
        body = {"inputs": [{**tensor, "data": [0] * (16 * 3072)}]}
        assert run.client.post("/v2/models/shades/infer", json=body).status_code == 200
        assert threads
        assert run.thread not in threads


@pytest.mark.usefixtures("mock_engine")
def test_health_and_metadata(running, named_weights):
    with running({"shades": named_weights}) as run:
        get = run.client.get
        for path in ("health/live", "health/ready", "models/shades/ready"):
            assert get(f"/v2/{path}").status_code == 200
        assert get("/v2").json()["name"] == "convnext"
        about = get("/v2/models/shades/versions/1").json()
        assert about["inputs"] == [
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}
        ]
        assert [(o["name"], o["shape"]) for o in about["outputs"]] == [
            ("logits", [-1, 10]),
            ("embedding", [-1, 32]),
        ]


def test_tritons_client(real, named_weights, picture):
    http = pytest.importorskip("tritonclient.http")
    image, data = picture
    outputs = expected(named_weights, data)
    client = http.InferenceServerClient(f"127.0.0.1:{real.port}")
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("shades")
        assert client.get_server_metadata()["name"] == "convnext"
        assert client.get_model_metadata("shades")["versions"] == ["1"]
        [row] = client.get_model_repository_index()
        assert (row["name"], row["state"]) == ("shades", "READY")
        array = pixels(image, Classifier(named_weights).preprocess)[None]
        for binary in (True, False):
            tensor = http.InferInput("pixels", array.shape, "UINT8")
            tensor.set_data_from_numpy(array, binary_data=binary)
            wanted = [http.InferRequestedOutput(n, binary_data=binary) for n in outputs]
            for asked in (wanted, None):
                answer = client.infer("shades", [tensor], outputs=asked, request_id="7")
                assert answer.get_response()["id"] == "7"
                for name, values in outputs.items():
                    got = answer.as_numpy(name)
                    np.testing.assert_allclose(got[0], values, rtol=LIMIT, atol=LIMIT)
        files = http.InferInput("image", [2], "BYTES")
        files.set_data_from_numpy(np.array([data, data], np.object_))
        best = http.InferRequestedOutput("logits", class_count=2)
        classes = client.infer("shades", [files], outputs=[best]).as_numpy("logits")
        assert classes.shape == (2, 2)
        value, index, label = classes[0, 0].decode().split(":", 2)
        assert int(index) == outputs["logits"].argmax()
        assert float(value) == pytest.approx(outputs["logits"].max(), rel=1e-4)
        assert label == f"shade {index}, nuance {index}"
        with pytest.raises(Exception, match="Unknown model 'x'"):
            client.infer("x", [tensor])
        with pytest.raises(Exception, match="without Content-Encoding"):
            client.infer("shades", [tensor], request_compression_algorithm="gzip")
    finally:
        client.close()
