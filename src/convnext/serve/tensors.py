"""Tensors as the Open Inference Protocol has them: in JSON, or as bytes behind it.

It knows the forms, and nothing of models.

Reference: https://github.com/kserve/open-inference-protocol, "Inference Protocol REST", and for the
bytes Triton's extension_binary_data.md.
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
    """A request that is not in order."""
    return Problem(400, "bad-inference-request", detail)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One input.

    Attributes:
        name: As the client has it.
        datatype: As the protocol has it.
        shape: Numbers from 0 on.
        data: A list out of JSON, or bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | bytes

    def pixels(self) -> NDArray[np.uint8]:
        """As an array of 8-bit numbers.

        Raises:
            Problem: It holds others, or not as many as its shape says.
        """
        if self.datatype != "UINT8":
            raise bad(f"{shown(self.name)} is of {shown(self.datatype)}; it must be UINT8.")
        if isinstance(self.data, bytes):
            array = np.frombuffer(self.data, np.uint8)
        else:
            array = self._numbers(self.data)
        self._check_size(array.size)
        return array.reshape(self.shape)

    def _numbers(self, data: list[Any]) -> NDArray[np.uint8]:
        try:
            # Objects: of another type, one long text would make every cell as wide as itself.
            numbers = np.asarray(data, object).reshape(-1)
        except (ValueError, RecursionError, MemoryError) as error:
            raise bad(f"The data of {shown(self.name)} are no array.") from error
        self._check_size(numbers.size)
        if set(map(type, numbers)) != {int} or numbers.min() < 0 or numbers.max() > 255:
            raise bad(f"The data of {shown(self.name)} are no whole numbers from 0 to 255.")
        return numbers.astype(np.uint8)

    def _check_size(self, size: int) -> None:
        if not 0 < size == math.prod(self.shape):
            raise bad(
                f"{shown(self.name)} has {size:,} numbers, and its shape {list(self.shape)} needs "
                f"{math.prod(self.shape):,}."
            )

    def strings(self) -> list[bytes]:
        """As byte strings: those in JSON are base64.

        Raises:
            Problem: They are none, or not as many as the shape says.
        """
        if self.datatype != "BYTES":
            raise bad(f"{shown(self.name)} is of {shown(self.datatype)}; it must be BYTES.")
        found = _prefixed(self.data) if isinstance(self.data, bytes) else _texts(self.data)
        if len(found) != math.prod(self.shape):
            raise bad(
                f"{shown(self.name)} has {len(found)} elements, and its shape {list(self.shape)} "
                f"needs {math.prod(self.shape)}."
            )
        return found


def _prefixed(data: bytes) -> list[bytes]:
    """Each behind its length, four bytes with the lowest first."""
    found, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        if position + 4 > len(data) or end > len(data):
            raise bad("The bytes of a BYTES tensor end before its last element does.")
        found.append(data[position + 4 : end])
        position = end
    return found


def _texts(items: Sequence[Any]) -> list[bytes]:
    try:
        return [base64.b64decode(item, validate=True) for item in items]
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad("In JSON, the elements of a BYTES tensor are text in base64.") from error


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a request for inference asks.

    Attributes:
        id: Comes back with the answer.
        inputs: Tensors.
        outputs: Names of the wanted outputs with their parameters; empty for all.
        parameters: Of the whole request.
    """

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[tuple[str, Parameters], ...] = ()
    parameters: Parameters = field(default_factory=dict)


def read_request(body: bytes, header_length: str | None, settings: Settings) -> InferRequest:
    """Take a request apart.

    Args:
        body: All of it.
        header_length: How much of it is JSON, if bytes follow.
        settings: The limits.

    Raises:
        Problem: It is not in order.
    """
    length = len(body)
    if header_length is not None:
        text = header_length.strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= length):
            raise bad(f"Inference-Header-Content-Length is {shown(text)} for {length:,} bytes.")
        length = int(text)
    if length > settings.max_json_bytes:
        raise Problem(
            413,
            "body-too-large",
            f"JSON may have {settings.max_json_bytes:,} bytes; send larger tensors as bytes.",
        )
    content = json_object(body[:length])
    name = content.get("id")
    if name is not None and (not isinstance(name, str) or len(name) > MAX_NAME):
        raise bad(f"id is no text of at most {MAX_NAME} characters.")
    inputs, rest = [], body[length:]
    for item in _objects(content, "inputs"):
        tensor, used = _tensor(item, rest)
        rest = rest[used:]
        inputs.append(tensor)
    if rest:
        raise bad(f"{len(rest):,} bytes are left behind the last input's.")
    if not inputs:
        raise bad("There are no inputs.")
    outputs = tuple((_name(item), _parameters(item)) for item in _objects(content, "outputs"))
    return InferRequest(name, tuple(inputs), outputs, _parameters(content))


def _objects(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = content.get(name, [])
    if not isinstance(items, list) or len(items) > MOST_OUTPUTS:
        raise bad(f"{name} is no list of at most {MOST_OUTPUTS} objects.")
    if not all(isinstance(item, dict) for item in items):
        raise bad(f"{name} holds something that is no object.")
    return items


def _name(item: dict[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise bad("An input or output has no name.")
    return name


def _parameters(item: dict[str, Any]) -> Parameters:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise bad("parameters is no object.")
    return parameters


def _tensor(item: dict[str, Any], rest: bytes) -> tuple[Tensor, int]:
    name, datatype, shape = _name(item), item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str):
        raise bad(f"{shown(name)} has no datatype.")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(side) is int and 0 <= side < 2**31 for side in shape)
    ):
        raise bad(f"The shape of {shown(name)} is no list of at most 8 whole numbers from 0 on.")
    size = _parameters(item).get("binary_data_size")
    if size is None:
        data = item.get("data")
        if not isinstance(data, list):
            raise bad(f"{shown(name)} has neither data nor binary_data_size.")
        return Tensor(name, datatype, tuple(shape), data), 0
    if type(size) is not int or not 0 <= size <= len(rest):
        raise bad(f"{shown(name)} says {shown(size)} bytes, and there are {len(rest):,}.")
    return Tensor(name, datatype, tuple(shape), rest[:size]), size
