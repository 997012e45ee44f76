"""Parse a request's body, in one of three forms, into encoded pictures and options.

    image/*, application/octet-stream   the body is one picture
    multipart/form-data                 parts with a file name are pictures, the others options
    application/json                    {"pictures": [BASE64 or {"data": BASE64} or {"url": URL}]}

Whatever a client sends, nothing but `Problem` is raised.
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

__all__ = ["InputPicture", "PictureRequest", "is_one_picture", "json_object", "parse"]

MAX_OPTION_BYTES = 4096
MAX_OPTION_PARTS = 16

Options = dict[str, Any]


@dataclass(frozen=True)
class InputPicture:
    """One picture of a request, not decoded.

    Attributes:
        id: The client's name for it.
        data: The encoded picture; None if `url` is given.
        url: URL to download it from.
    """

    id: str
    data: bytes | None = None
    url: str | None = None


@dataclass(frozen=True)
class PictureRequest:
    """A parsed body.

    Attributes:
        pictures: At least one.
        options: By name, unchecked; strings, or from JSON any type.
    """

    pictures: tuple[InputPicture, ...]
    options: Options = field(default_factory=dict)


def parse(content_type: str, body: bytes, settings: Settings) -> PictureRequest:
    """Parse a whole body.

    Raises:
        Problem: The type is not supported, the body is invalid, or over a limit.
    """
    kind = _kind(content_type)
    if kind == "multipart/form-data":
        request = _from_multipart(content_type, body, settings)
    elif kind == "application/json":
        request = _from_json(body, settings)
    elif is_one_picture(content_type):
        request = PictureRequest((InputPicture("#0", body),) if body else ())
    else:
        raise Problem(
            415,
            "unknown-form",
            f"Content-Type {shown(kind)} is not supported. Send one picture as image/* or "
            "application/octet-stream, or several as multipart/form-data or application/json.",
        )
    _check_pictures(request.pictures, settings)
    return request


def is_one_picture(content_type: str) -> bool:
    """Whether a body of this Content-Type is one encoded picture."""
    kind = _kind(content_type)
    return kind.startswith("image/") or kind in ("application/octet-stream", "")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _check_pictures(pictures: Iterable[InputPicture], settings: Settings) -> None:
    count = 0
    for count, picture in enumerate(pictures, 1):  # noqa: B007
        if picture.data is not None and len(picture.data) > settings.max_picture_bytes:
            raise Problem(
                413,
                "picture-too-large",
                f"A picture may have at most {settings.max_picture_bytes:,} bytes; got "
                f"{len(picture.data):,}.",
            )
    if not count:
        raise Problem(
            400, "no-picture", "The request has no picture. Send one or more, see /openapi.json."
        )
    if count > settings.max_pictures:
        raise _too_many(settings)


def _too_many(settings: Settings) -> Problem:
    return Problem(
        413,
        "too-many-pictures",
        f"A request may have at most {settings.max_pictures} pictures. Split it into several.",
    )


def json_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises:
        Problem: It is not one.
    """
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "bad-json", f"The body is not valid JSON: {shown(reason)}.") from error
    if not isinstance(content, dict):
        raise Problem(400, "bad-json", f"The body must be a JSON object, not {shown(content)}.")
    return content


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _from_json(body: bytes, settings: Settings) -> PictureRequest:
    options = json_object(body)
    pictures = options.pop("pictures", None)
    if pictures is None and "picture" in options:
        pictures = [options.pop("picture")]
    if not isinstance(pictures, list):
        raise Problem(
            400,
            "bad-json",
            'pictures must be a list, as in {"pictures": ["BASE64", {"data": "BASE64", "id": '
            '"a"}]}.',
        )
    if len(pictures) > settings.max_pictures:
        raise _too_many(settings)
    items = tuple(_item(number, item) for number, item in enumerate(pictures))
    return PictureRequest(items, options)


def _item(number: int, item: Any) -> InputPicture:
    if isinstance(item, str):
        item = {"data": item}
    if not isinstance(item, dict):
        raise _bad_item(number, "must be a string in base64 or an object")
    unknown = sorted(set(item) - {"data", "url", "id"})
    if unknown:
        raise _bad_item(number, f"may have data, url and id only; got {shown(unknown[0])}")
    name = item.get("id", f"#{number}")
    if not isinstance(name, str) or len(name) > MAX_ID_LENGTH:
        raise _bad_item(number, f"must have an id of at most {MAX_ID_LENGTH} characters")
    data, url = item.get("data"), item.get("url")
    if isinstance(url, str) and data is None:
        return InputPicture(name, url=url)
    if not isinstance(data, str) or url is not None:
        raise _bad_item(number, "needs either data, in base64, or url")
    return InputPicture(name, _from_base64(number, data))


def _from_base64(number: int, text: str) -> bytes:
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise _bad_item(number, "is a data URL that is not in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_item(number, f"is not valid base64: {shown(str(error))}") from error


def _bad_item(number: int, what: str) -> Problem:
    return Problem(400, "bad-json", f"Picture {number} {what}.")


class _Parts:
    """Callbacks of the multipart parser: collect pictures and options."""

    def __init__(self, settings: Settings) -> None:
        self.pictures: list[InputPicture] = []
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
        if self._parts > self._settings.max_pictures + MAX_OPTION_PARTS:
            raise _too_many(self._settings)
        _, about = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = about.get(b"name", b"").decode("utf-8", "replace")
        is_picture = b"filename" in about or self._headers.get(b"content-type", b"").startswith(
            b"image/"
        )
        if is_picture:
            if self._data or about.get(b"filename"):  # else a form's empty file field
                number = f"#{len(self.pictures)}"
                called = about.get(b"filename", b"").decode("utf-8", "replace")[:MAX_ID_LENGTH]
                self.pictures.append(InputPicture(called or number, bytes(self._data)))
        elif len(self._data) > MAX_OPTION_BYTES:
            raise Problem(
                400,
                "bad-multipart",
                f"The part {shown(name)} has no file name, so it is an option, and an option may "
                f"have at most {MAX_OPTION_BYTES:,} bytes. Give pictures a file name.",
            )
        else:
            self.options[name] = self._data.decode("utf-8", "replace")

    def finish(self) -> None:
        self.ended = True


def _from_multipart(content_type: str, body: bytes, settings: Settings) -> PictureRequest:
    # Header fields are Latin-1; a boundary with other characters is invalid.
    _, about = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = about.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise Problem(
            400, "bad-multipart", "The Content-Type needs a boundary of 1 to 70 characters."
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
            400, "bad-multipart", f"The body is not multipart/form-data: {shown(str(error))}."
        ) from error
    if not parts.ended:
        raise Problem(
            400, "bad-multipart", "The multipart/form-data ends before its last boundary."
        )
    return PictureRequest(tuple(parts.pictures), parts.options)
