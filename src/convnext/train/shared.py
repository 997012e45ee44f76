"""Arrays that several processes see at once, without copies and without names.

Why it exists: batches and small pictures go between processes as memory, not as messages. The
memory has no name that could be left behind: it is a file descriptor, which child processes are
started with, and which the system frees with the last of them, however they end. On Linux it is
no part of `/dev/shm`, which containers keep small.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convnext.errors import TrainingError

__all__ = ["MappedArray", "SharedArray"]


class SharedArray:
    """An array of zeros that processes started with its descriptor can write to as well.

    Pickled, it is the descriptor's number: only such processes can make something of it.

    Args:
        shape: Of the array.
        dtype: Of the array.

    Raises:
        TrainingError: There is no room for it.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        descriptor = _nameless()
        try:
            os.ftruncate(descriptor, max(size, 1))
            self._map(descriptor, tuple(shape), np.dtype(dtype))
        except (OSError, ValueError) as error:
            os.close(descriptor)
            raise TrainingError(
                f"There is no room for {size:,} bytes of shared memory: {error}. Use smaller "
                "batches, or prefetch fewer."
            ) from error

    def _map(self, descriptor: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        memory = mmap.mmap(descriptor, 0)
        count = int(np.prod(shape, dtype=np.int64))
        self.descriptor = descriptor
        self.array: NDArray[Any] = np.frombuffer(memory, dtype, count).reshape(shape)
        weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> tuple[int, tuple[int, ...], str]:
        return self.descriptor, self.array.shape, self.array.dtype.str

    def __setstate__(self, state: tuple[int, tuple[int, ...], str]) -> None:
        descriptor, shape, dtype = state
        # A descriptor of our own, as each closes its own: the pickle may be read where it was made.
        self._map(os.dup(descriptor), shape, np.dtype(dtype))


class MappedArray:
    """An array inside a file, read where it lies when it is asked for.

    Args:
        path: The file.
        offset: Bytes before the array.
        shape: Of the array.
        dtype: Of the array.
    """

    def __init__(
        self, path: Path, offset: int, shape: Sequence[int], dtype: DTypeLike = np.uint8
    ) -> None:
        self._of = (path.absolute(), offset, tuple(shape), np.dtype(dtype).str)
        self.array = self._opened()

    def _opened(self) -> NDArray[Any]:
        path, offset, shape, dtype = self._of
        return np.asarray(np.memmap(path, dtype, "r", offset, shape))

    def __getstate__(self) -> dict[str, Any]:
        return {"_of": self._of}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._of = state["_of"]
        self.array = self._opened()


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("convnext")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
