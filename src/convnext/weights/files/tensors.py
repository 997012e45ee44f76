"""Lazy tensors and open weights files, for every format.

A checkpoint of 1.4 GB must be opened, listed and converted without a second copy in memory. So
opening a file yields shapes and dtypes, and the bytes stay in the file, memory-mapped, until
`LazyTensor.read` is called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convnext.errors import WeightsFileError

__all__ = [
    "MAX_NAME",
    "MAX_NUMBER",
    "MAX_TENSORS",
    "Array",
    "ByteSource",
    "LazyTensor",
    "Mapped",
    "WeightsFile",
    "check_name",
    "is_numpys_own",
    "map_file",
    "raw_bytes",
    "stored_tensor",
]

Array = NDArray[Any]

# A checkpoint of the largest ConvNeXt with its optimizer holds about 1,500 tensors.
MAX_TENSORS = 8_192
MAX_NAME = 512
MAX_RANK = 32
MAX_NUMBER = 2**59  # of elements, which then have a size that NumPy can count in bytes
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which UTF-8 cannot hold
MAX_EXPANDED_BYTES = 1 << 20  # of a tensor that repeats its storage (torch's `expand`)


@dataclass(frozen=True, slots=True, eq=False)
class LazyTensor:
    """A tensor whose shape is known and whose values are read on request.

    Attributes:
        shape: Its shape.
        dtype: Its dtype in native byte order; `ml_dtypes.bfloat16` for bfloat16.
        load: Returns the array; call `read` instead, which checks it.

    Example:
        >>> LazyTensor.from_array(np.ones((2, 3))).nbytes
        48
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Array] = field(repr=False)

    @classmethod
    def from_array(cls, array: Array) -> LazyTensor:
        """A lazy tensor of an array."""
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return cls(native.shape, native.dtype, lambda: native)

    @classmethod
    def of(cls, value: Any) -> LazyTensor:
        """A lazy tensor of an array or a Keras variable; a lazy tensor is returned unchanged."""
        if isinstance(value, LazyTensor):
            return value
        if isinstance(value, np.ndarray):
            return cls.from_array(value)
        dtype = np.dtype(str(value.dtype))
        return cls(tuple(value.shape), dtype, lambda: np.asarray(value.numpy(), dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of the array that `read` returns."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Array:
        """The values, read-only: a view of the mapped file where the format allows one."""
        array = np.asarray(self.load()).view()
        if array.shape != self.shape or array.dtype != self.dtype:
            raise WeightsFileError(
                f"A tensor was announced as {self.dtype} {self.shape} and turned out to be "
                f"{array.dtype} {array.shape}."
            )
        array.flags.writeable = False
        return array


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFile:
    """An open weights file; a context manager, inside which its tensors can be read.

    Attributes:
        format: The recognised format: `"pth"`, `"safetensors"`, `"npz"`, `"h5"` (the
            legacy Keras layout), `"weights.h5"`, `"keras"` or `"saved_model"`.
        tensors: Every tensor by its name, in the order of the file.
        metadata: The file's text annotations; empty if its format has none.
        release: Deletes temporary files.
    """

    format: str
    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] = field(default=lambda: None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class ByteSource(Protocol):
    """A run of bytes in a file."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def content(self) -> Array:
        """The bytes, as a one-dimensional uint8 array."""


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A memory-mapped run of bytes."""

    array: Array

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.array)

    def content(self) -> Array:
        """The bytes, as a one-dimensional uint8 array."""
        return self.array


def map_file(path: Path) -> Array:
    """The bytes of a file, memory-mapped and read-only."""
    if not path.stat().st_size:
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def stored_tensor(
    source: ByteSource,
    dtype: np.dtype[Any],
    shape: Sequence[int],
    *,
    offset: int = 0,
    strides: Sequence[int] | None = None,
) -> LazyTensor:
    """A lazy tensor of a run of bytes, checked against the length of that run.

    Args:
        source: The bytes.
        dtype: Type of the elements, in the byte order of the file.
        shape: Shape of the tensor.
        offset: Offset of its first element in bytes.
        strides: Bytes from one element to the next along each axis; by default rows in C order.
    """
    numbers = (*shape, offset, *(strides or ()))
    if any(type(n) is not int or not 0 <= n < MAX_NUMBER for n in numbers):
        raise WeightsFileError(
            "A tensor's shape, offset or strides are no whole numbers, or too large."
        )
    if len(shape) > MAX_RANK or (strides is not None and len(strides) != len(shape)):
        raise WeightsFileError(f"A tensor has {len(shape)} axes; {MAX_RANK} is the most we read.")
    size = math.prod(shape) * dtype.itemsize
    extent = size
    if strides is not None and size:
        steps = zip(shape, strides, strict=True)
        extent = dtype.itemsize + sum((n - 1) * stride for n, stride in steps)
    if (
        offset + extent > source.size
        or size > max(source.size, MAX_EXPANDED_BYTES)
        or math.prod(max(n, 1) for n in shape) >= MAX_NUMBER  # numpy counts empty axes as one
    ):
        raise WeightsFileError(
            f"A tensor of shape {tuple(shape)} needs {max(offset + extent, size):,} bytes, and "
            f"there are {source.size:,} for it. The file is truncated or damaged."
        )

    def load() -> Array:
        array: Array = np.ndarray(tuple(shape), dtype, source.content(), offset, strides)
        return np.require(array, dtype.newbyteorder("="), "A")

    return LazyTensor(tuple(shape), dtype.newbyteorder("="), load)


def raw_bytes(array: Array) -> memoryview:
    """The bytes of an array as every format stores them: in C order, little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def is_numpys_own(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is a number or boolean of NumPy itself, not of `ml_dtypes`."""
    return issubclass(dtype.type, np.number | np.bool_)


def check_name(name: str) -> str:
    """The name, if it is valid: 1 to `MAX_NAME` characters that UTF-8 can encode."""
    if not 0 < len(name) <= MAX_NAME or SURROGATE.search(name):
        raise WeightsFileError(
            f"A tensor has an impossible name, {name[:50]!a}: 1 to {MAX_NAME} characters that "
            "UTF-8 can hold are allowed."
        )
    return name
