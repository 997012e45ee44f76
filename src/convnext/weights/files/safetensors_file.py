"""Reads and writes .safetensors files.

The safetensors library validates the header. It copies tensors when reading, and needs all of them
in memory when writing, so tensors are mapped, and written one by one, here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files.tensors import (
    MAX_TENSORS,
    LazyTensor,
    Mapped,
    check_name,
    map_file,
    raw_bytes,
    stored_tensor,
)

__all__ = ["read", "write"]

MAX_HEADER = 4 << 20  # bytes; a tensor's entry takes about 100, and so may each class's label
ALIGNMENT = 8  # of the first tensor, as the format demands

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
    "C64": np.dtype("<c8"),
}


def read(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors and the metadata of a .safetensors file."""
    data = Mapped(map_file(path))
    length = int.from_bytes(data.array[:8].tobytes(), "little")
    if length > MAX_HEADER:
        raise WeightsFileError(
            f"Its header claims {length:,} bytes; {MAX_HEADER:,} is the most we read."
        )
    try:
        with safe_open(path, "numpy"):
            pass  # opening it validates the whole header
    except SafetensorError as error:
        raise WeightsFileError(f"Its header is damaged: {error}.") from error
    start = 8 + length
    header: dict[str, Any] = json.loads(data.array[8:start].tobytes())
    metadata: dict[str, str] = header.pop("__metadata__", None) or {}
    if len(header) > MAX_TENSORS:
        raise WeightsFileError(f"It holds more than {MAX_TENSORS:,} tensors.")
    tensors = {
        check_name(name): stored_tensor(
            data, _dtype(entry["dtype"]), entry["shape"], offset=start + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
    return tensors, metadata


def _dtype(code: str) -> np.dtype[Any]:
    if code not in DTYPES:
        raise WeightsFileError(f"It holds numbers of the type {code}; we read {', '.join(DTYPES)}.")
    return DTYPES[code]


def write(
    path: Path,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str],
    on_progress: Callable[[int], None],
) -> None:
    """Writes a .safetensors file; large elements come first, so that each tensor is aligned."""
    codes = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in codes or name == "__metadata__":
            raise ArgumentError(
                f"A .safetensors file cannot hold {name!r} as {tensor.dtype}. Allowed: "
                f"{', '.join(str(dtype) for dtype in codes)}, and any name but '__metadata__'."
            )
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise ArgumentError(
            f"The header of a .safetensors file would take {len(text):,} bytes; {MAX_HEADER:,} is "
            "the most we read. Shorten its annotations, such as the labels of the classes."
        )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(raw_bytes(tensor.read()))
            on_progress(tensor.nbytes)
