"""Request bodies: the three supported forms, and everything else."""

import base64
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.serve.inputs import InputPicture, parse
from convnext.serve.problems import Problem
from convnext.serve.settings import ModelSpec, Settings

SETTINGS = Settings(
    (ModelSpec("m", "m"),), max_pictures=4, max_picture_bytes=2000, max_json_bytes=100_000
)
FORM = "multipart/form-data; boundary=b"


def form(files, data=None):
    """A multipart body as httpx encodes it."""
    request = httpx.Request("POST", "http://x/", files=files, data=data)
    return request.headers["content-type"], request.read()


def encoded(data):
    return base64.b64encode(data).decode()


def test_a_body_that_is_a_picture():
    asked = parse("image/png", b"\0picture", SETTINGS)
    assert asked.pictures == (InputPicture("#0", b"\0picture"),)
    assert parse("", b"x", SETTINGS).pictures[0].data == b"x"


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=9),
            st.binary(max_size=200),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_form_gives_back_what_went_in(pictures):
    kind, body = form([("picture", item) for item in pictures], {"top": "3"})
    asked = parse(kind, body, SETTINGS)
    assert [picture.data for picture in asked.pictures] == [data for _, data in pictures]
    assert asked.options == {"top": "3"}


def test_a_forms_picture_is_called_as_its_file():
    kind, body = form([("a", ("cat.jpg", b"1")), ("b", (None, b"2", "image/png"))])
    assert [picture.id for picture in parse(kind, body, SETTINGS).pictures] == ["cat.jpg", "#1"]


def test_json_gives_pictures_by_their_bytes_or_urls():
    content = {
        "pictures": [
            encoded(b"a"),
            {"data": "data:image/png;base64," + encoded(b"b"), "id": "B"},
            {"url": "https://example.org/c.png"},
        ],
        "top": 2,
    }
    asked = parse("application/json; charset=utf-8", json.dumps(content).encode(), SETTINGS)
    assert asked.pictures == (
        InputPicture("#0", b"a"),
        InputPicture("B", b"b"),
        InputPicture("#2", url="https://example.org/c.png"),
    )
    assert asked.options == {"top": 2}


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        ("text/plain", b"x", 415, "Send one picture as image"),
        ("image/png", b"", 400, "has no picture"),
        ("image/png", b"x" * 2001, 413, "at most 2,000 bytes; got 2,001"),
        ("application/json", b"{", 400, "is not valid JSON"),
        ("application/json", b"[]", 400, "must be a JSON object"),
        ("application/json", b"[" * 100_000, 400, "nested too deeply"),
        ("application/json", b'{"pictures": NaN}', 400, "NaN is not a JSON number"),
        ("application/json", b"{}", 400, "pictures must be a list"),
        ("application/json", b'{"pictures": []}', 400, "has no picture"),
        ("application/json", b'{"pictures": [1]}', 400, "Picture 0 must be"),
        ("application/json", b'{"pictures": ["!"]}', 400, "Picture 0 is not valid base64"),
        ("application/json", b'{"pictures": ["\\u00e9"]}', 400, "Picture 0 is not valid base64"),
        (
            "application/json",
            b'{"pictures": [{"file": "x"}]}',
            400,
            "may have data, url and id only; got 'file'",
        ),
        ("application/json", b'{"pictures": [{"id": "x"}]}', 400, "needs either data"),
        ("application/json", b'{"pictures": [{"data": "", "url": ""}]}', 400, "needs either"),
        ("application/json", b'{"pictures": [{"data": "", "id": 1}]}', 400, "an id of at most"),
        ("application/json", b'{"pictures": ["data:x,y"]}', 400, "not in base64"),
        ("application/json", b'{"pictures": ["", "", "", "", ""]}', 413, "at most 4 pictures"),
        ("multipart/form-data", b"", 400, "needs a boundary"),
        (FORM, b"", 400, "ends before its last boundary"),
        (FORM, b"--b\r\n", 400, "ends before"),
        (FORM, b"nonsense", 400, "is not multipart"),
        (FORM, b"--b--\r\n", 400, "has no picture"),
        (
            FORM,
            b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--b--\r\n',
            400,
            "no picture",
        ),
        (FORM, b"--b\r\nA: b\r\n\r\n" + b"x" * 5000 + b"\r\n--b--\r\n", 400, "no file name"),
    ],
)
def test_invalid_bodies_are_refused(kind, body, status, message):
    with pytest.raises(Problem) as caught:
        parse(kind, body, SETTINGS)
    assert caught.value.status == status
    assert message in caught.value.detail


def test_a_form_of_very_many_parts_is_refused():
    kind, body = form([("picture", (f"{n}.png", b"x")) for n in range(100)])
    with pytest.raises(Problem, match="at most 4 pictures"):
        parse(kind, body, SETTINGS)


def status(kind, body):
    """The code of the problem raised; any other exception fails the test."""
    try:
        parse(kind, body, SETTINGS)
    except Problem as problem:
        return json.loads(problem.body())["status"]
    return 200


KINDS = st.sampled_from(
    ["image/jpeg", "application/json", FORM, "multipart/form-data; boundary=\xff", "", "a/b;;;="]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["pictures", "data", "url", "id", "top"]), inner)
    ),
    max_leaves=12,
)


@given(KINDS, st.binary(max_size=300))
def test_any_bytes_are_answered_or_refused(kind, body):
    assert status(kind, body) in (200, 400, 413, 415)


@given(JSON | st.dictionaries(st.just("pictures"), st.lists(JSON)))
def test_any_json_is_answered_or_refused(content):
    assert status("application/json", json.dumps(content).encode()) in (200, 400, 413)


@given(st.data())
def test_a_damaged_form_is_answered_or_refused(data):
    kind, body = form([("picture", ("a.png", b"picture"))], {"top": "1"})
    body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert status(kind, bytes(body)) in (200, 400, 413)
