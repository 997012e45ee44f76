"""A request's way through threads: the memory it holds and the requests it delays."""

import asyncio
import base64
import gc
import io
import json
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from PIL import Image

from convnext.serve import answers, inference_protocol
from convnext.serve import service as service_module
from convnext.serve.bodies import BodyReader
from convnext.serve.metrics import Metrics
from convnext.serve.service import INLINE_BYTES, Service
from convnext.serve.settings import ModelSpec, Settings

SETTINGS = Settings((ModelSpec("m", "m"),))
MIB = 2**20
OCTETS = {"Content-Type": "application/octet-stream"}
LARGE = b"x" * INLINE_BYTES  # as no picture, but long enough for a thread


@pytest.fixture(scope="module")
def picture():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (75, 75, 75)).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def decoding_stopped(run, monkeypatch, picture):
    """A server whose decoding threads are all blocked inside the context."""
    gate, decode = threading.Event(), service_module.decode_picture

    def waiting(*arguments):
        assert gate.wait(20)
        return decode(*arguments)

    monkeypatch.setattr(service_module, "decode_picture", waiting)
    with ThreadPoolExecutor(1) as threads:
        files = [("p", (str(number), picture)) for number in range(8)]
        busy = threads.submit(run.client.post, "/v1/classify", files=files)
        run.eventually(lambda: run.server.service._threads._work_queue.qsize() > 2)
        try:
            yield
        finally:
            gate.set()
        assert busy.result().status_code == 200


def test_a_body_is_in_memory_once():
    pieces = 64

    async def receive():
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": bytes(MIB // 8), "more_body": pieces > 0}

    async def main():
        metrics = Metrics()
        held = lambda: metrics.snapshot()["convnext_body_bytes_in_flight"][()]  # noqa: E731
        async with BodyReader(SETTINGS, metrics).read(receive, {}) as body:
            assert len(body) == held() == 8 * MIB
            assert tracemalloc.get_traced_memory()[0] < 9 * MIB
        assert held() == 0

    tracemalloc.start()
    try:
        asyncio.run(main())
    finally:
        tracemalloc.stop()


class Picture:
    """An object whose release the tests observe."""


def test_work_that_is_given_up_before_its_turn_holds_nothing():
    gate = threading.Event()

    async def main():
        service = Service(SETTINGS, Metrics(), None, None)
        busy = [asyncio.create_task(service.in_thread(lambda: gate.wait(20))) for _ in range(64)]
        await asyncio.sleep(0.01)
        picture = Picture()
        there = weakref.ref(picture)

        async def work(picture):
            return await service.in_thread(lambda: picture)

        task = asyncio.create_task(work(picture))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del picture, task
        gc.collect()
        assert there() is None
        gate.set()
        await asyncio.gather(*busy)
        assert await service.in_thread(lambda: 5) == 5
        service.close()

    asyncio.run(main())


@pytest.mark.usefixtures("mock_engine")
def test_bodies_and_counts_do_not_wait_for_pictures(running, named_weights, monkeypatch, picture):
    monkeypatch.setattr(service_module, "available_processors", lambda: 2)
    with (
        running(named_weights, max_queue=99) as run,
        decoding_stopped(run, monkeypatch, picture),
    ):
        assert run.client.get("/metrics", timeout=5).status_code == 200
        body = {"pictures": 1, "more": LARGE.decode()}
        assert run.client.post("/v1/classify", json=body, timeout=5).status_code == 400
        tensor = {"name": "none", "datatype": "BYTES", "shape": [1], "data": [LARGE.decode()]}
        url = "/v2/models/shades/infer"
        response = run.client.post(url, json={"inputs": [tensor]}, timeout=5)
        assert response.status_code == 400


@pytest.mark.usefixtures("mock_engine")
def test_large_pictures_are_waited_for_no_longer_than_small_ones(
    running, named_weights, monkeypatch, picture
):
    monkeypatch.setattr(service_module, "available_processors", lambda: 2)
    with (
        running(named_weights, max_queue=99) as run,
        decoding_stopped(run, monkeypatch, picture),
    ):
        url = "/v1/classify?deadline_ms=300"
        for asked in ({"content": LARGE, "headers": OCTETS}, {"files": [("p", ("a", LARGE))]}):
            response = run.client.post(url, timeout=5, **asked)
            assert response.json()["code"] == "deadline"


@pytest.mark.usefixtures("mock_engine")
def test_the_deadline_runs_while_a_body_is_taken_apart(
    running, named_weights, monkeypatch, picture
):
    parse = service_module.parse

    def slow(*arguments):
        time.sleep(0.4)
        return parse(*arguments)

    monkeypatch.setattr(service_module, "parse", slow)
    with running(named_weights) as run:
        files = [("p", ("a", picture)), ("p", ("b", LARGE))]
        post = run.client.post
        for asked in ({"params": {"deadline_ms": 200}}, {"data": {"deadline_ms": 200}}):
            response = post("/v1/classify", files=files, **asked)
            assert response.json()["code"] == "deadline"
        assert post("/v1/classify", files=files).status_code == 200


@pytest.mark.usefixtures("mock_engine")
def test_drawing_has_a_deadline(running, named_weights, monkeypatch, picture):
    gate = threading.Event()
    monkeypatch.setattr(answers, "explained", lambda *_: gate.wait(20))
    with running(named_weights) as run:
        try:
            url = "/v1/explain?deadline_ms=300"
            response = run.client.post(url, content=picture, headers=OCTETS, timeout=5)
            assert response.json()["code"] == "deadline"
        finally:
            gate.set()


@pytest.mark.usefixtures("mock_engine")
def test_the_pictures_of_a_request_for_inference_are_decoded_beside_each_other(
    running, named_weights, monkeypatch, picture
):
    monkeypatch.setattr(service_module, "available_processors", lambda: 2)
    both, decode = threading.Barrier(2), service_module.decode_picture

    def together(*arguments):
        both.wait(5)
        return decode(*arguments)

    monkeypatch.setattr(service_module, "decode_picture", together)
    data = [base64.b64encode(picture).decode()] * 4
    tensor = {"name": "image", "datatype": "BYTES", "shape": [4], "data": data}
    with running(named_weights) as run:
        response = run.client.post("/v2/models/shades/infer", json={"inputs": [tensor]})
        assert response.status_code == 200
        assert response.json()["outputs"][0]["shape"] == [4, 10]


@pytest.mark.usefixtures("mock_engine")
def test_large_answers_are_written_off_the_event_loop(running, named_weights, monkeypatch, picture):
    threads, best, dumps = set(), answers.best_classes, answers.json.dumps

    def noted(function):
        def call(*arguments, **options):
            threads.add(threading.current_thread())
            return function(*arguments, **options)

        return call

    tensor = {"name": "image", "datatype": "BYTES", "shape": [2]}
    tensor["data"] = [base64.b64encode(picture).decode()] * 2
    classes = [{"name": "logits", "parameters": {"classification": 3}}]
    files = [("p", ("a", picture)), ("p", ("b", picture))]
    with running(named_weights) as run:
        questions = (
            ("/v1/classify?top=10", {"files": files}),
            ("/v1/embed", {"files": files}),
            ("/v2/models/shades/infer", {"json": {"inputs": [tensor]}}),
            ("/v2/models/shades/infer", {"json": {"inputs": [tensor], "outputs": classes}}),
        )

        def ask(path, question):
            response = run.client.post(path, **question)
            assert response.status_code == 200
            return {**response.json(), "milliseconds": None}

        small = [ask(*question) for question in questions]
        monkeypatch.setattr(service_module, "INLINE_NUMBERS", 8, raising=False)
        for module in (answers, inference_protocol):
            monkeypatch.setattr(module, "best_classes", noted(best))
        monkeypatch.setattr(answers.json, "dumps", noted(dumps))
        for question, answer in zip(questions, small, strict=True):
            threads.clear()
            assert ask(*question) == answer
            assert any(thread.name.startswith("background") for thread in threads)
            assert run.thread not in threads


def test_an_answer_in_pieces_is_the_same_json():
    content, items = {"a": "\u00e9"}, [{"b": [1.5, None]}, "c", []]
    whole = json.loads(answers.as_json(content, list=map(answers.as_json, items), none=()))
    assert whole == {**content, "list": items, "none": []}
