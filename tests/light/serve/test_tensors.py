"""Tensors of the Open Inference Protocol, in JSON and as binary data."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from convnext.serve.problems import Problem
from convnext.serve.settings import ModelSpec, Settings
from convnext.serve.tensors import read_request

SETTINGS = Settings((ModelSpec("m", "m"),))


def binary(*inputs, **more):
    """A request with binary data after its JSON, and the length of the JSON."""
    items = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(d)}}
        for name, kind, shape, d in inputs
    ]
    head = json.dumps({"inputs": items, **more}).encode()
    return head + b"".join(data for *_, data in inputs), str(len(head))


@given(arrays(np.uint8, array_shapes(max_dims=4, max_side=5)))
def test_pixels_come_through_as_they_are(array):
    body, length = binary(("pixels", "UINT8", array.shape, array.tobytes()))
    [tensor] = read_request(body, length, SETTINGS).inputs
    np.testing.assert_array_equal(tensor.pixels(), array)
    for data in (array.tolist(), array.reshape(-1).tolist()):
        item = {"name": "pixels", "datatype": "UINT8", "shape": array.shape, "data": data}
        body = json.dumps({"inputs": [item]}).encode()
        [tensor] = read_request(body, None, SETTINGS).inputs
        np.testing.assert_array_equal(tensor.pixels(), array)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_strings_come_through_as_they_are(texts):
    data = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    body, length = binary(("image", "BYTES", [len(texts)], data))
    [tensor] = read_request(body, length, SETTINGS).inputs
    assert tensor.strings() == texts


def test_two_inputs_share_the_bytes():
    body, length = binary(("a", "UINT8", [2], b"\1\2"), ("b", "UINT8", [1], b"\3"), id="x")
    request = read_request(body, length, SETTINGS)
    assert request.id == "x"
    assert [tensor.pixels().tolist() for tensor in request.inputs] == [[1, 2], [3]]


def asked(**about):
    item = {"name": "x", "datatype": "UINT8", "shape": [1], "data": [1], **about}
    return json.dumps({"inputs": [item]}).encode()


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (b"{}", None, "has no inputs"),
        (b"{}", "-1", "Inference-Header-Content-Length"),
        (b"{}", "99", "Inference-Header-Content-Length"),
        (b"{}x", "2", "1 bytes are left"),
        (b'{"inputs": 1}', None, "must be a list"),
        (b'{"inputs": [1]}', None, "a list of objects"),
        (b'{"inputs": [{}]}', None, "must have 1 to 256"),
        (b'{"id": 1}', None, "id must be a string"),
        (b'{"inputs": [{"name": "x"}]}', None, "needs a datatype"),
        (asked(shape=[-1]), None, "must be a list of at most 8"),
        (asked(shape=[True]), None, "must be a list of at most 8"),
        (asked(shape=[1] * 9), None, "must be a list of at most 8"),
        (asked(data=1), None, "needs data, a list, or"),
        (asked(parameters=1), None, "parameters must be an object"),
        (asked(parameters={"binary_data_size": 3}), None, "is '3', but 0 bytes follow"),
    ],
)
def test_invalid_requests_are_refused(body, length, message):
    with pytest.raises(Problem) as caught:
        read_request(body, length, SETTINGS)
    assert message in caught.value.detail


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"datatype": "FP32"}, "must be UINT8"),
        ({"data": [256]}, "must be integers from 0 to 255"),
        ({"data": [-1]}, "must be integers from 0 to 255"),
        ({"data": [0.5]}, "must be integers"),
        ({"data": [True]}, "must be integers"),
        ({"data": ["1"]}, "must be integers"),
        ({"data": [10**40]}, "must be integers"),
        ({"data": [[1], [1, 2]]}, "has 2 numbers"),
        ({"data": [[1], [1, 2]], "shape": [2]}, "must be integers"),
        ({"data": []}, "has 0 numbers"),
        ({"data": [], "shape": [0]}, "has 0 numbers"),
        ({"data": [1, 2]}, "has 2 numbers"),
    ],
)
def test_invalid_pixels_are_refused(about, message):
    [tensor] = read_request(asked(**about), None, SETTINGS).inputs
    with pytest.raises(Problem) as caught:
        tensor.pixels()
    assert message in caught.value.detail


def test_a_long_text_among_numbers_makes_no_other_cell_longer():
    data = ["x" * 10_000] + [0] * 9_999
    [tensor] = read_request(asked(data=data, shape=[10_000]), None, SETTINGS).inputs
    tracemalloc.start()
    try:
        with pytest.raises(Problem, match="must be integers"):
            tensor.pixels()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_memory_that_is_not_there_is_a_problem(monkeypatch):
    def full(*_):
        raise MemoryError

    [tensor] = read_request(asked(), None, SETTINGS).inputs
    monkeypatch.setattr(np, "asarray", full)
    with pytest.raises(Problem, match="must be an array"):
        tensor.pixels()


def status(work):
    """The code of the problem raised; any other exception fails the test."""
    try:
        work()
    except Problem as problem:
        return problem.status
    return 200


@given(st.binary(max_size=30), st.integers(0, 3))
def test_any_bytes_of_strings_are_read_or_a_problem(data, count):
    body, length = binary(("image", "BYTES", [count], data))
    [tensor] = read_request(body, length, SETTINGS).inputs
    assert status(tensor.strings) in (200, 400)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("name", "datatype", "shape", "data", "parameters"), VALUES),
    ),
    st.none() | st.text(max_size=4),
)
def test_any_json_is_read_or_a_problem(item, length):
    item = {"name": "x", "datatype": "UINT8", "shape": [1], "data": [1], **item}
    body = json.dumps({"inputs": [item]}).encode()

    def read():
        for tensor in read_request(body, length, SETTINGS).inputs:
            tensor.pixels()

    assert status(read) in (200, 400, 413)
