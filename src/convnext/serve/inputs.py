"""From the body of a request to pictures and options, whichever of three forms it has.

    image/*, application/octet-stream   the body is one picture
    multipart/form-data                 each part with a file name is one, the others are options
    application/json                    {"pictures": [BASE64 or {"data": BASE64} or {"url": URL}]}

Nothing is decoded here, and nothing that a client can send makes it raise anything but `Problem`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from convnext.serve.limits import MAX_ID_LENGTH
from convnext.serve.problems import Problem, shown
from convnext.serve.settings import Settings

__all__ = ["Asked", "Given", "is_one_picture", "json_object", "parse"]

MAX_OPTION_BYTES = 4096
MAX_PARTS_MORE = 16  # besides pictures

Options = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """One picture, as it was given.

    Attributes:
        id: What the client calls it.
        data: The encoded picture; None if it lies elsewhere.
        url: Where.
    """

    id: str
    data: bytes | None = None
    url: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a body asks for.

    Attributes:
        pictures: One at least.
        options: By name; from JSON of any type.
    """

    pictures: tuple[Given, ...]
    options: Options = field(default_factory=dict)


def parse(content_type: str, body: bytes, settings: Settings) -> Asked:
    """Take a body apart.

    Args:
        content_type: As the request has it.
        body: All of it.
        settings: The limits.

    Raises:
        Problem: It is of no form that is known, or not in order.
    """
    kind = _kind(content_type)
    if kind == "multipart/form-data":
        asked = _from_multipart(content_type, body, settings)
    elif kind == "application/json":
        asked = _from_json(body, settings)
    elif is_one_picture(content_type):
        asked = Asked((Given("#0", body),) if body else ())
    else:
        raise Problem(
            415,
            "unknown-form",
            f"Got a body of type {shown(kind)}. Send one picture as image/* or "
            "application/octet-stream, or several as multipart/form-data or application/json.",
        )
    _check_pictures(asked.pictures, settings)
    return asked


def is_one_picture(content_type: str) -> bool:
    """Whether a body of this type is a picture as it stands, with nothing to take apart."""
    kind = _kind(content_type)
    return kind.startswith("image/") or kind in ("application/octet-stream", "")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _check_pictures(pictures: Iterable[Given], settings: Settings) -> None:
    count = 0
    for count, picture in enumerate(pictures, 1):  # noqa: B007
        if picture.data is not None and len(picture.data) > settings.max_picture_bytes:
            raise Problem(
                413,
                "picture-too-large",
                f"A picture may have {settings.max_picture_bytes:,} bytes; one has "
                f"{len(picture.data):,}.",
            )
    if not count:
        raise Problem(
            400, "no-picture", "The request holds no picture. Send one or more, see /openapi.json."
        )
    if count > settings.max_pictures:
        raise _too_many(settings)


def _too_many(settings: Settings) -> Problem:
    return Problem(
        413,
        "too-many-pictures",
        f"A request may hold {settings.max_pictures} pictures. Send more requests.",
    )


def json_object(body: bytes) -> dict[str, Any]:
    """The object that a body is in JSON.

    Raises:
        Problem: It is none.
    """
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "bad-json", f"The body is no JSON: {shown(reason)}.") from error
    if not isinstance(content, dict):
        raise Problem(400, "bad-json", "The body is JSON, but no object.")
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _from_json(body: bytes, settings: Settings) -> Asked:
    options = json_object(body)
    given = options.pop("pictures", None)
    if given is None and "picture" in options:
        given = [options.pop("picture")]
    if not isinstance(given, list):
        raise Problem(
            400,
            "bad-json",
            'Give the pictures as a list, as in {"pictures": ["BASE64", {"data": "BASE64", '
            '"id": "a"}]}.',
        )
    if len(given) > settings.max_pictures:
        raise _too_many(settings)
    return Asked(tuple(_item(number, item) for number, item in enumerate(given)), options)


def _item(number: int, item: Any) -> Given:
    if isinstance(item, str):
        item = {"data": item}
    if not isinstance(item, dict):
        raise _bad_item(number, "is neither text in base64 nor an object")
    unknown = sorted(set(item) - {"data", "url", "id"})
    if unknown:
        raise _bad_item(number, f"has {shown(unknown[0])}, where data, url and id are known")
    name = item.get("id", f"#{number}")
    if not isinstance(name, str) or len(name) > MAX_ID_LENGTH:
        raise _bad_item(number, f"has an id that is no text of at most {MAX_ID_LENGTH} characters")
    data, url = item.get("data"), item.get("url")
    if isinstance(url, str) and data is None:
        return Given(name, url=url)
    if not isinstance(data, str) or url is not None:
        raise _bad_item(number, "needs either data, in base64, or url")
    return Given(name, _from_base64(number, data))


def _from_base64(number: int, text: str) -> bytes:
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise _bad_item(number, "is a data URL, but not in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_item(number, f"is no base64: {shown(str(error))}") from error


def _bad_item(number: int, what: str) -> Problem:
    return Problem(400, "bad-json", f"Picture {number} {what}.")


class _Parts:
    """Gathers what the parser of a multipart body finds."""

    def __init__(self, settings: Settings) -> None:
        self.pictures: list[Given] = []
        self.options: Options = {}
        self.ended = False
        self._settings = settings
        self._parts = 0
        self.begin()

    def begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def end(self) -> None:
        self._parts += 1
        if self._parts > self._settings.max_pictures + MAX_PARTS_MORE:
            raise _too_many(self._settings)
        _, about = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = about.get(b"name", b"").decode("utf-8", "replace")
        is_picture = b"filename" in about or self._headers.get(b"content-type", b"").startswith(
            b"image/"
        )
        if is_picture:
            if self._data or about.get(b"filename"):  # a form's empty field is no picture
                number = f"#{len(self.pictures)}"
                called = about.get(b"filename", b"").decode("utf-8", "replace")[:MAX_ID_LENGTH]
                self.pictures.append(Given(called or number, bytes(self._data)))
        elif len(self._data) > MAX_OPTION_BYTES:
            raise Problem(
                400,
                "bad-multipart",
                f"The part {shown(name)} is no picture, for it has no file name, and too long for "
                "an option. Give pictures a file name.",
            )
        else:
            self.options[name] = self._data.decode("utf-8", "replace")

    def finish(self) -> None:
        self.ended = True


def _from_multipart(content_type: str, body: bytes, settings: Settings) -> Asked:
    # Header fields come as Latin-1; a boundary of other letters is none.
    _, about = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = about.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise Problem(
            400, "bad-multipart", "The Content-Type has no boundary of 1 to 70 characters."
        )
    parts = _Parts(settings)
    callbacks: Mapping[str, Any] = {
        "on_part_begin": parts.begin,
        "on_part_data": parts.data,
        "on_part_end": parts.end,
        "on_header_field": parts.name,
        "on_header_value": parts.value,
        "on_header_end": parts.header,
        "on_end": parts.finish,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)  # type: ignore[arg-type]
    except (MultipartParseError, ValueError) as error:
        raise Problem(
            400, "bad-multipart", f"The body is no multipart/form-data: {shown(str(error))}."
        ) from error
    if not parts.ended:
        raise Problem(
            400, "bad-multipart", "The multipart/form-data ends before its last boundary."
        )
    return Asked(tuple(parts.pictures), parts.options)
