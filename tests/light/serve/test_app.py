"""The routes of /v1, over loopback."""

import base64
import io
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.classifier import Classifier
from convnext.serve.openapi import PIXEL

pytestmark = pytest.mark.usefixtures("mock_engine")

OCTETS = {"Content-Type": "application/octet-stream"}


def png(shade=100, size=(16, 16)):
    stream = io.BytesIO()
    Image.new("RGB", size, (shade,) * 3).save(stream, "PNG")
    return stream.getvalue()


def jpeg(seed=0, size=(120, 90)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    stream = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def shade(number):
    return png(25 * number)


def labels(response):
    assert response.status_code == 200, response.text
    rows = response.json()["pictures"]
    return [row["classes"][0]["index"] if "classes" in row else row["error"] for row in rows]


def problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == status
    assert found["code"] == code
    assert "Traceback" not in response.text
    return found


def test_the_three_forms_of_a_request(served):
    post = served.client.post
    assert labels(post("/v1/classify", content=shade(3), headers=OCTETS)) == [3]
    files = [("picture", (f"{n}.png", shade(n))) for n in (5, 1, 7)]
    response = post("/v1/classify?top=2", files=files)
    assert labels(response) == [5, 1, 7]
    assert [row["id"] for row in response.json()["pictures"]] == ["5.png", "1.png", "7.png"]
    assert [len(row["classes"]) for row in response.json()["pictures"]] == [2, 2, 2]
    content = {"pictures": [base64.b64encode(shade(8)).decode()], "top": 1, "model": "shades"}
    assert labels(post("/v1/classify", json=content)) == [8]


def test_answers_are_those_of_the_classifier(served, named_weights):
    classifier = Classifier(named_weights)
    picture = jpeg()
    [row] = served.client.post("/v1/classify", content=picture, headers=OCTETS).json()["pictures"]
    expected = classifier(picture)
    assert [(s["label"], s["index"]) for s in row["classes"]] == [
        (score.label, score.index) for score in expected.classes
    ]
    for got, score in zip(row["classes"], expected.classes, strict=True):
        assert got["probability"] == pytest.approx(score.probability, rel=1e-5)


def test_a_bad_picture_among_others_has_an_error(served):
    files = [("p", ("a", shade(1))), ("p", ("b", b"no picture")), ("p", ("c", shade(2)))]
    first, error, last = labels(served.client.post("/v1/classify", files=files))
    assert (first, last) == (1, 2)
    assert error["code"] == "picture-unreadable"
    response = served.client.post("/v1/classify", content=b"no picture", headers=OCTETS)
    assert "is not a picture" in problem(response, 422, "picture-unreadable")["detail"]


def test_embeddings_as_numbers_and_as_bytes(served, named_weights):
    picture = jpeg(1)
    expected = Classifier(named_weights).embed(picture)
    post = served.client.post
    [row] = post("/v1/embed", content=picture, headers=OCTETS).json()["pictures"]
    np.testing.assert_array_equal(np.float32(row["vector"]), expected)
    response = post("/v1/embed?encoding=base64", content=picture, headers=OCTETS)
    vector = base64.b64decode(response.json()["pictures"][0]["vector"])
    np.testing.assert_array_equal(np.frombuffer(vector, "<f4"), expected)


def test_an_explanation_is_the_picture_under_heat(served):
    post = served.client.post
    response = post("/v1/explain?side=64", content=jpeg(2, (200, 100)), headers=OCTETS)
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (64, 32)
    response = post("/v1/explain?target=shade 4", content=shade(4), headers=OCTETS)
    assert unquote(response.headers["convnext-class-label"]) == "shade 4, nuance 4"
    assert response.headers["convnext-class-index"] == "4"
    for target, message in (
        ("99", "There is no class 99"),
        ("shadow", "No class is called 'shadow'"),
    ):
        response = post(f"/v1/explain?target={target}", content=shade(4), headers=OCTETS)
        assert message in problem(response, 400, "unknown-class")["detail"]
    two = [("p", ("a", shade(1))), ("p", ("b", shade(1)))]
    problem(post("/v1/explain", files=two), 400, "one-picture")


def test_options_are_checked(served):
    def post(query):
        return served.client.post(f"/v1/classify?{query}", content=shade(1), headers=OCTETS)

    assert "'topp'" in problem(post("topp=1"), 400, "unknown-option")["detail"]
    for query in ("top=0", "top=-1", "top=x", "top=1.5", "top=99999999999999", "top="):
        assert "whole number" in problem(post(query), 400, "bad-option")["detail"]
    problem(post("top=1&top=2"), 400, "bad-option")
    assert "There are: shades" in problem(post("model=x"), 404, "model-unknown")["detail"]
    assert len(post("top=25000").json()["pictures"][0]["classes"]) == 10


def test_models_are_described(served):
    [model] = served.client.get("/v1/models").json()["models"]
    assert model["name"] == "shades"
    assert model["licence"] == "MIT"
    assert (model["size"], model["classes"], model["state"]) == (32, 10, "ready")


def test_unknown_paths_and_methods_are_problems(served):
    problem(served.client.get("/v1/nothing"), 404, "not-found")
    response = served.client.get("/v1/classify")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"
    problem(served.client.get("/v1/models/"), 404, "not-found")
    assert served.client.head("/healthz").status_code == 200


def test_every_answer_has_the_security_headers(served):
    for path in ("/", "/healthz", "/nothing", "/v1/models", "/openapi.json"):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_requests_for_other_hosts_and_from_other_sites_are_refused(served):
    get, post = served.client.get, served.client.post
    problem(get("/v1/models", headers={"Host": "evil.example"}), 421, "wrong-host")
    problem(get("/v1/models", headers={"Host": "evil.example:8000"}), 421, "wrong-host")
    assert get("/v1/models", headers={"Host": f"localhost:{served.port}"}).status_code == 200
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        headers = {**OCTETS, "Sec-Fetch-Site": site}
        response = post("/v1/classify", content=shade(1), headers=headers)
        assert response.status_code == status


def test_tokens(running, named_weights):
    with running(named_weights, tokens=("right-token-of-someone", "another-right-token")) as run:
        for given_ in ("", "Bearer", "Bearer wrong", "Basic right-token-of-someone", "Bearer \xe9"):
            headers = {"Authorization": given_.encode("latin-1")}
            response = run.client.get("/v1/models", headers=headers)
            problem(response, 401, "no-token")
            assert response.headers["www-authenticate"].startswith("Bearer")
        for token in ("right-token-of-someone", "another-right-token"):
            headers = {"Authorization": f"bearer {token}"}
            assert run.client.get("/v1/models", headers=headers).status_code == 200
        for path, status in (("/healthz", 200), ("/", 200), ("/metrics", 401), ("/v2", 401)):
            assert run.client.get(path).status_code == status


def test_bodies_over_the_limits(running, named_weights):
    limits = {"max_body_bytes": 5000, "max_json_bytes": 2000, "max_picture_bytes": 3000}
    with running(named_weights, **limits, max_pixels=400, max_pictures=2) as run:
        post = run.client.post
        big = b"x" * 5001
        problem(post("/v1/classify", content=big, headers=OCTETS), 413, "body-too-large")
        chunks = (big[at : at + 1000] for at in range(0, len(big), 1000))  # of no stated length
        problem(post("/v1/classify", content=chunks, headers=OCTETS), 413, "body-too-large")
        response = post("/v1/classify", json={"pictures": ["x" * 2000]})
        assert "multipart" in problem(response, 413, "body-too-large")["detail"]
        response = post("/v1/classify", content=b"x" * 4000, headers=OCTETS)
        problem(response, 413, "picture-too-large")
        files = [("p", (str(n), shade(1))) for n in range(3)]
        problem(post("/v1/classify", files=files), 413, "too-many-pictures")
        response = post("/v1/classify", content=png(1, (21, 20)), headers=OCTETS)
        detail = problem(response, 422, "picture-unreadable")["detail"]
        assert "21 x 20 pixels" in detail
        assert "Limits(" not in detail
        headers = {**OCTETS, "Content-Encoding": "gzip"}
        problem(post("/v1/classify", content=b"x", headers=headers), 415, "encoded-body")
        assert run.metric("convnext_body_bytes_in_flight") == 0
        assert run.metric("convnext_queue_pictures") == 0


def test_held_bytes_stay_within_the_limit(running, named_weights):
    with running(named_weights, max_bytes_in_flight=2**20) as run:
        problem(
            run.client.post("/v1/classify", content=b"x" * (2**20 + 1), headers=OCTETS), 503, "busy"
        )
        assert run.metric("convnext_body_bytes_in_flight") == 0
        assert run.metric("convnext_rejected_total", reason="bytes-in-flight") == 1


def test_a_full_queue_is_refused_at_once_with_retry_after(running, named_weights):
    with running(named_weights, max_queue=2, max_pictures=2) as run:
        [engine] = run.engines
        engine.gate.clear()
        with ThreadPoolExecutor(2) as threads:
            ask = lambda n: run.client.post("/v1/classify", content=shade(n), headers=OCTETS)  # noqa: E731
            waiting = [threads.submit(ask, n) for n in (1, 2)]
            run.eventually(lambda: run.metric("convnext_queue_pictures") == 2)
            response = ask(3)
            problem(response, 503, "busy")
            assert 1 <= int(response.headers["retry-after"]) <= 60
            engine.gate.set()
            assert [labels(each.result()) for each in waiting] == [[1], [2]]
        assert run.metric("convnext_rejected_total", reason="queue-full") == 1
        refused = {"route": "/v1/classify", "status": "503"}
        assert run.metric("convnext_requests_total", **refused) == 1
        assert labels(ask(4)) == [4]


def test_a_full_queue_of_one_model_does_not_affect_another(running, named_weights):
    both = {"first": named_weights, "second": named_weights}
    with running(both, max_queue=1, max_pictures=1) as run:
        run.engines[0].gate.clear()
        with ThreadPoolExecutor(1) as threads:
            ask = lambda n, **which: run.client.post(  # noqa: E731
                "/v1/classify", content=shade(n), headers=OCTETS, params=which
            )
            waiting = threads.submit(ask, 1, model="first")
            run.eventually(lambda: run.metric("convnext_queue_pictures") == 1)
            problem(ask(2, model="first"), 503, "busy")
            assert labels(ask(3, model="second")) == [3]
            run.engines[0].gate.set()
            assert labels(waiting.result()) == [1]


def test_after_its_deadline_a_request_fails_and_its_pictures_are_dropped(running, named_weights):
    with running(named_weights) as run:
        [engine] = run.engines
        engine.gate.clear()
        begun = time.monotonic()
        response = run.client.post("/v1/classify?deadline_ms=100", content=shade(1), headers=OCTETS)
        assert time.monotonic() - begun < 5
        problem(response, 503, "deadline")
        assert "retry-after" in response.headers
        assert run.metric("convnext_queue_pictures") == 0


def test_pictures_of_closed_connections_are_not_computed(running, named_weights):
    with running(named_weights) as run:
        [engine] = run.engines
        before = len(engine.sizes)
        engine.gate.clear()
        head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        body = shade(1)
        for number in range(1, 6):
            with closing(socket.create_connection(("127.0.0.1", run.port))) as connection:
                connection.sendall(head % len(body) + body)
                decoded = lambda: run.metric("convnext_decode_seconds_count")  # noqa: E731
                run.eventually(lambda: decoded() == number)  # noqa: B023
            run.eventually(lambda: run.metric("convnext_queue_pictures") == 0)
        engine.gate.set()
        assert labels(run.client.post("/v1/classify", content=body, headers=OCTETS)) == [1]
        assert sum(engine.sizes[before:]) <= 2  # the first had begun
        assert run.metric("convnext_requests_total", status="499") == 5
        assert run.metric("convnext_dropped_pictures_total") >= 3


def test_concurrent_requests_get_their_own_answers(running, named_weights):
    with running(named_weights, seconds=0.001) as run, ThreadPoolExecutor(8) as threads:
        ask = lambda n: run.client.post("/v1/classify", content=shade(n % 10), headers=OCTETS)  # noqa: E731
        found = [labels(response) for response in threads.map(ask, range(80))]
        assert found == [[n % 10] for n in range(80)]
        assert max(run.engines[0].sizes[2:]) > 1
        assert run.metric("convnext_pictures_total", outcome="answered") == 80


def test_an_internal_error_hides_its_cause(running, named_weights, caplog):
    with running(named_weights) as run:
        run.engines[0].run = lambda _batch: 1 / 0
        with caplog.at_level(logging.INFO, "convnext.serve"):
            files = [("p", ("secret-name.png", shade(1)))]
            response = run.client.post("/v1/classify", files=files)
        found = problem(response, 500, "internal")
        assert found["number"] in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert "ZeroDivision" not in response.text
        assert "secret-name" not in caplog.text


def test_the_log_has_no_path_query_or_name_of_a_client(running, named_weights, caplog):
    with (
        running(named_weights, access_log=True) as run,
        caplog.at_level(logging.INFO, "convnext.serve"),
    ):
        run.client.get("/secret-path?secret-query")
        run.client.post("/v1/classify?model=secret", files=[("p", ("secret.png", shade(1)))])
        run.client.post("/v1/classify", files=[("p", ("secret.png", shade(1)))])
        run.client.get("/v2/models/secret")
        run.eventually(lambda: "/v2/models/{name} 404" in caplog.text)
        assert "POST /v1/classify 200" in caplog.text
        assert "secret" not in caplog.text


def test_the_page_can_be_switched_off(running, named_weights):
    with running(named_weights, page=False) as run:
        problem(run.client.get("/"), 404, "not-found")


def test_a_model_without_classes_embeds(running, headless_weights):
    with running(headless_weights) as run:
        response = run.client.post("/v1/classify", content=shade(1), headers=OCTETS)
        assert "It can: embed." in problem(response, 400, "not-served")["detail"]


def test_answers_match_the_openapi_document(served):
    """JSON answers validate against their schemas, and the examples work."""
    jsonschema = pytest.importorskip("jsonschema")
    described = served.client.get("/openapi.json").json()
    registry = {"components": described["components"]}

    def check(path, method, response, name=None):
        about = described["paths"][name or path][method]["responses"][str(response.status_code)]
        kind = response.headers["content-type"].partition(";")[0]
        schema = about["content"][kind]["schema"]
        jsonschema.Draft202012Validator({**schema, **registry}).validate(response.json())

    client = served.client
    for path in ("/healthz", "/readyz", "/v1/models", "/v2"):
        check(path, "get", client.get(path))
    check("/v2/models/shades", "get", client.get("/v2/models/shades"), "/v2/models/{name}")
    check("/v2/repository/index", "post", client.post("/v2/repository/index"))
    for path in ("/v1/classify", "/v1/embed", "/v1/explain"):
        body = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        example = body["examples"]["one"]["value"]
        jsonschema.Draft202012Validator({**body["schema"], **registry}).validate(example)
        response = client.post(path, json=example)
        assert response.status_code == 200
        if path != "/v1/explain":
            check(path, "post", response)
        check(path, "post", client.post(path, content=b"none", headers=OCTETS))
        check(path, "post", client.post(path, content=b"", headers=OCTETS))
    picture = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [PIXEL]}
    response = client.post("/v2/models/shades/infer", json={"inputs": [picture]})
    assert response.status_code == 200
    check("", "post", response, "/v2/models/{name}/infer")
    response = client.post("/v2/models/shades/infer", json={})
    check("", "post", response, "/v2/models/{name}/infer")
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            for found in about["responses"].values():
                for content in found.get("content", {}).values():
                    if "example" in content:
                        validator = jsonschema.Draft202012Validator(
                            {**content["schema"], **registry}
                        )
                        validator.validate(content["example"]), (path, method)


PATHS = st.sampled_from(
    ["/v1/classify", "/v1/embed", "/v1/explain", "/v2/models/shades/infer", "/v2/models/x/infer"]
)
TYPES = st.sampled_from(
    ["application/json", "multipart/form-data; boundary=b", "image/png", "text/html", "\xff;"]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.integers(-5, 300) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["pictures", "data", "id", "inputs", "name", "shape", "datatype"]),
                inner,
            )
        ),
    ).map(lambda content: json.dumps(content).encode()),
    st.binary(max_size=60).map(lambda noise: shade(1)[:40] + noise),
)


def test_malformed_requests_do_not_give_a_500(served):
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(PATHS, TYPES, BODIES, st.none() | st.integers(-2, 300), st.text(max_size=8))
    def ask(path, kind, body, length, query):
        headers = {"Content-Type": kind.encode("latin-1")}
        if length is not None:
            headers["Inference-Header-Content-Length"] = str(length)
        response = served.client.post(path, content=body, headers=headers, params={"top": query})
        assert response.status_code < 500, (path, kind, body, response.text)
        if response.status_code != 200:
            assert response.headers["content-type"] == "application/problem+json"

    ask()
    assert served.metric("convnext_queue_pictures") == 0
    assert served.metric("convnext_body_bytes_in_flight") == 0


def test_only_chosen_answers_are_served(running, named_weights):
    with running(named_weights, answers=("classify",)) as run:
        assert labels(run.client.post("/v1/classify", content=shade(1), headers=OCTETS)) == [1]
        response = run.client.post("/v1/embed", content=shade(1), headers=OCTETS)
        assert "--answers exclude it" in problem(response, 400, "not-served")["detail"]
        [output] = run.client.get("/v2/models/shades").json()["outputs"]
        assert output["name"] == "logits"
