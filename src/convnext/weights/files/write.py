"""Writes a weights file of any format: tensor by tensor, and atomically."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from convnext.atomic import replaced
from convnext.errors import ArgumentError, ConvNeXtError, WeightsError
from convnext.weights.files import hdf5, npz, pth, safetensors_file
from convnext.weights.files.tensors import LazyTensor

__all__ = ["write_weights"]

FORMATS_BY_SUFFIX = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".pth": "pth",
    ".pt": "pth",
    ".bin": "pth",
    ".h5": "h5",
    ".hdf5": "h5",
}
NOTHING: Mapping[str, str] = MappingProxyType({})


def write_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str] = NOTHING,
    *,
    format: str | None = None,
    nested_under: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    check: Callable[[Path], object] = lambda _: None,
) -> None:
    """Write tensors to a file, one at a time and atomically.

    Args:
        path: The file. An existing one is replaced once the new one is complete.
        tensors: Tensors by name; read one at a time. For .h5 a name is `layer/weight`.
        metadata: Text annotations, for .safetensors and .h5.
        format: `"safetensors"`, `"npz"`, `"pth"` or `"h5"` (the legacy Keras layout); by default
            what the path ends in.
        nested_under: For .pth: key of an outer dictionary, such as `"model"` in official files.
        on_progress: Called after each tensor with the number of bytes it has.
        check: Called with the complete file before it replaces the target; an error prevents that.

    Raises:
        ArgumentError: The format cannot hold these tensors or this metadata.
        WeightsError: The disk is full, or the file cannot be written.

    Example:
        >>> write_weights("a.npz", {"w": LazyTensor.from_array(np.ones(3))})
    """
    path = Path(path)
    write = _writer(path, format, metadata, nested_under)
    total = sum(tensor.nbytes for tensor in tensors.values())
    try:
        free = shutil.disk_usage(path.absolute().parent).free
        if free < total:
            text = f"{os.strerror(errno.ENOSPC)}: {total:,} bytes are needed and {free:,} are free"
            raise OSError(errno.ENOSPC, text)
        with replaced(path) as temporary:
            write(temporary, tensors, on_progress=on_progress or (lambda _: None))
            check(temporary)
    except ConvNeXtError:  # some are OSErrors as well
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(
            f"{path} cannot be written: {reason}. Nothing was left behind, and a "
            "file that was there before is untouched."
        ) from error


def _writer(
    path: Path, format: str | None, metadata: Mapping[str, str], nested_under: str | None
) -> Callable[..., None]:
    kind = format or FORMATS_BY_SUFFIX.get(path.suffix.lower())
    if format is None and path.name.lower().endswith(".weights.h5"):
        raise ArgumentError(
            f"{path.name} would be Keras 3's own layout, which only a model can write. Name it "
            "without '.weights' for the layout that every Keras reads."
        )
    if kind not in set(FORMATS_BY_SUFFIX.values()):
        raise ArgumentError(
            f"Unknown format for {path.name}: {format or path.suffix!r}. Allowed: "
            f"{', '.join(dict.fromkeys(FORMATS_BY_SUFFIX.values()))}, or a path that ends in "
            f"{', '.join(FORMATS_BY_SUFFIX)}."
        )
    if metadata and kind in ("npz", "pth"):
        raise ArgumentError(f"A .{kind} file has no place for metadata; .safetensors has.")
    if nested_under is not None and kind != "pth":
        raise ArgumentError(f"nested_under={nested_under!r} is for .pth files only.")
    writers: dict[str, Callable[..., None]] = {
        "safetensors": partial(safetensors_file.write, metadata=metadata),
        "npz": npz.write,
        "pth": partial(pth.write, nested_under=nested_under),
        "h5": partial(hdf5.write, metadata=metadata),
    }
    return writers[kind]
