"""Arrays in memory shared by processes, or mapped from files.

Shared memory is an anonymous file descriptor that child processes inherit: the system frees it with
the last process, however it ends. On Linux it is not in `/dev/shm`, which containers keep small.
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
    """An array of zeros in shared memory, which processes that inherit its descriptor can write.

    Its pickle is the descriptor's number, which only such processes can load.

    Raises:
        TrainingError: There is not enough memory.
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
                f"{size:,} bytes of shared memory cannot be allocated: {error}. Use smaller "
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
        # Duplicated, as each array closes its descriptor, and this may be the process of the first.
        self._map(os.dup(descriptor), shape, np.dtype(dtype))


class MappedArray:
    """An array memory-mapped from a file.

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
