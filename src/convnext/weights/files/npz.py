"""Reads and writes NumPy's .npz files: a zip archive of .npy files, pickles refused.

NumPy has no bfloat16: such arrays are stored as two-byte elements without a type (`|V2`), and these
are read as bfloat16.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files.tensors import (
    MAX_TENSORS,
    LazyTensor,
    check_name,
    is_numpys_own,
    raw_bytes,
    stored_tensor,
)
from convnext.weights.files.zips import Member, add_member

__all__ = ["read", "write"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# NumPy evaluates the header as a Python literal, after a second try with the tokenizer.
NUMPY_FAILURES = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)
MAX_HEADER = 16 << 10  # bytes; NumPy refuses text of more than 10,000


def read(members: Mapping[str, Member]) -> dict[str, LazyTensor]:
    """The arrays of an .npz file."""
    if len(members) > MAX_TENSORS:
        raise WeightsFileError(f"It holds more than {MAX_TENSORS:,} arrays.")
    return {
        check_name(name.removesuffix(".npy")): _tensor(member) for name, member in members.items()
    }


def _tensor(member: Member) -> LazyTensor:
    file = io.BytesIO(member.head(MAX_HEADER))
    try:
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran_order, dtype = read_header[version](file)
    except (*NUMPY_FAILURES, KeyError) as error:
        raise WeightsFileError(f"The header of {member.name[:100]!r} is damaged.") from error
    if dtype == np.dtype("V2"):
        dtype = BFLOAT16
    elif not is_numpys_own(dtype):
        raise WeightsFileError(
            f"{member.name[:100]!r} holds {str(dtype)[:100]}; numbers and booleans are allowed."
        )
    strides = None
    if fortran_order:
        strides = _fortran_strides(shape, dtype.itemsize)
    return stored_tensor(member, dtype, shape, offset=file.tell(), strides=strides)


def _fortran_strides(shape: tuple[int, ...], itemsize: int) -> list[int]:
    return [itemsize * math.prod(shape[:axis]) for axis in range(len(shape))]


def write(
    path: Path, tensors: Mapping[str, LazyTensor], on_progress: Callable[[int], None]
) -> None:
    """Writes an .npz file as `numpy.savez` does."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, tensor in tensors.items():
            add_member(archive, f"{name}.npy", _header(name, tensor), raw_bytes(tensor.read()))
            on_progress(tensor.nbytes)


def _header(name: str, tensor: LazyTensor) -> bytes:
    dtype = np.dtype("V2") if tensor.dtype == BFLOAT16 else tensor.dtype.newbyteorder("<")
    if tensor.dtype != BFLOAT16 and not is_numpys_own(dtype):
        raise ArgumentError(
            f"An .npz file cannot hold {name!r} as {tensor.dtype}: NumPy's own types and bfloat16 "
            "are allowed. Convert it first."
        )
    file = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": False, "shape": tensor.shape}
    npy.write_array_header_1_0(file, fields)
    return file.getvalue()
