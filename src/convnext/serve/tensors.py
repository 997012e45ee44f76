"""Parse requests of the Open Inference Protocol: tensors in JSON, or as binary data after it.

Reference: https://github.com/kserve/open-inference-protocol, "Inference Protocol REST", and for
binary data Triton's extension_binary_data.md.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.serve.inputs import json_object
from convnext.serve.problems import Problem, shown
from convnext.serve.settings import Settings

__all__ = ["HEADER_LENGTH", "InferRequest", "Tensor", "bad", "read_request"]

HEADER_LENGTH = "inference-header-content-length"
MAX_NAME = 256
MAX_DIMENSIONS = 8
MOST_OUTPUTS = 16

Parameters = dict[str, Any]


def bad(detail: str) -> Problem:
    """A 400: the request is invalid."""
    return Problem(400, "bad-inference-request", detail)


@dataclass(frozen=True, eq=False)
class Tensor:
    """An input tensor.

    Attributes:
        name: Its name.
        datatype: The protocol's name of its type.
        shape: Its sizes.
        data: A list from JSON, or binary data.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | bytes

    def pixels(self) -> NDArray[np.uint8]:
        """Convert to a uint8 array.

        Raises:
            Problem: The type, a value or the number of values is wrong.
        """
        if self.datatype != "UINT8":
            raise bad(f"{shown(self.name)} must be UINT8; got {shown(self.datatype)}.")
        if isinstance(self.data, bytes):
            array = np.frombuffer(self.data, np.uint8)
        else:
            array = self._numbers(self.data)
        self._check_size(array.size)
        return array.reshape(self.shape)

    def _numbers(self, data: list[Any]) -> NDArray[np.uint8]:
        try:
            # dtype object: with a text type, one long string would make every cell as wide.
            numbers = np.asarray(data, object).reshape(-1)
        except (ValueError, RecursionError, MemoryError) as error:
            raise bad(f"The data of {shown(self.name)} must be an array.") from error
        self._check_size(numbers.size)
        if set(map(type, numbers)) != {int} or numbers.min() < 0 or numbers.max() > 255:
            raise bad(f"The data of {shown(self.name)} must be integers from 0 to 255.")
        return numbers.astype(np.uint8)

    def _check_size(self, size: int) -> None:
        if not 0 < size == math.prod(self.shape):
            raise bad(
                f"{shown(self.name)} has {size:,} numbers, but its shape {list(self.shape)} needs "
                f"{math.prod(self.shape):,}."
            )

    def strings(self) -> list[bytes]:
        """Convert to byte strings; in JSON they are base64.

        Raises:
            Problem: The type, an element or the number of elements is wrong.
        """
        if self.datatype != "BYTES":
            raise bad(f"{shown(self.name)} must be BYTES; got {shown(self.datatype)}.")
        found = _prefixed(self.data) if isinstance(self.data, bytes) else _texts(self.data)
        if len(found) != math.prod(self.shape):
            raise bad(
                f"{shown(self.name)} has {len(found)} elements, but its shape {list(self.shape)} "
                f"needs {math.prod(self.shape)}."
            )
        return found


def _prefixed(data: bytes) -> list[bytes]:
    """Split elements that are each preceded by their length, four bytes little-endian."""
    found, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        if position + 4 > len(data) or end > len(data):
            raise bad("The binary data of a BYTES tensor ends before its last element.")
        found.append(data[position + 4 : end])
        position = end
    return found


def _texts(items: Sequence[Any]) -> list[bytes]:
    try:
        return [base64.b64decode(item, validate=True) for item in items]
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad("In JSON, the elements of a BYTES tensor must be base64 strings.") from error


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A parsed inference request.

    Attributes:
        id: The client's id, repeated in the response.
        inputs: The input tensors.
        outputs: Names of the requested outputs with their parameters; empty for all.
        parameters: Of the whole request.
    """

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[tuple[str, Parameters], ...] = ()
    parameters: Parameters = field(default_factory=dict)


def read_request(body: bytes, header_length: str | None, settings: Settings) -> InferRequest:
    """Parse an inference request.

    Args:
        body: The whole body.
        header_length: Value of Inference-Header-Content-Length: the size of the JSON, if binary
            data follows it.
        settings: The limits.

    Raises:
        Problem: The request is invalid.
    """
    length = len(body)
    if header_length is not None:
        text = header_length.strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= length):
            raise bad(
                f"Inference-Header-Content-Length must be from 0 to {length:,}, the size of the "
                f"body; got {shown(text)}."
            )
        length = int(text)
    if length > settings.max_json_bytes:
        raise Problem(
            413,
            "body-too-large",
            f"JSON may have at most {settings.max_json_bytes:,} bytes; send larger tensors as "
            "binary data.",
        )
    content = json_object(body[:length])
    name = content.get("id")
    if name is not None and (not isinstance(name, str) or len(name) > MAX_NAME):
        raise bad(f"id must be a string of at most {MAX_NAME} characters.")
    inputs, rest = [], body[length:]
    for item in _objects(content, "inputs"):
        tensor, used = _tensor(item, rest)
        rest = rest[used:]
        inputs.append(tensor)
    if rest:
        raise bad(f"{len(rest):,} bytes are left after the last input; see binary_data_size.")
    if not inputs:
        raise bad("The request has no inputs. Give one.")
    outputs = tuple((_name(item), _parameters(item)) for item in _objects(content, "outputs"))
    return InferRequest(name, tuple(inputs), outputs, _parameters(content))


def _objects(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = content.get(name, [])
    if not isinstance(items, list) or len(items) > MOST_OUTPUTS:
        raise bad(f"{name} must be a list of at most {MOST_OUTPUTS} objects.")
    if not all(isinstance(item, dict) for item in items):
        raise bad(f"{name} must be a list of objects.")
    return items


def _name(item: dict[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise bad(f"The name of an input or output must have 1 to {MAX_NAME} characters.")
    return name


def _parameters(item: dict[str, Any]) -> Parameters:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise bad("parameters must be an object.")
    return parameters


def _tensor(item: dict[str, Any], rest: bytes) -> tuple[Tensor, int]:
    name, datatype, shape = _name(item), item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str):
        raise bad(f"{shown(name)} needs a datatype: UINT8 or BYTES.")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(side) is int and 0 <= side < 2**31 for side in shape)
    ):
        raise bad(
            f"The shape of {shown(name)} must be a list of at most {MAX_DIMENSIONS} integers, 0 or "
            "more."
        )
    size = _parameters(item).get("binary_data_size")
    if size is None:
        data = item.get("data")
        if not isinstance(data, list):
            raise bad(f"{shown(name)} needs data, a list, or binary_data_size.")
        return Tensor(name, datatype, tuple(shape), data), 0
    if type(size) is not int or not 0 <= size <= len(rest):
        raise bad(
            f"binary_data_size of {shown(name)} is {shown(size)}, but {len(rest):,} bytes follow."
        )
    return Tensor(name, datatype, tuple(shape), rest[:size]), size
