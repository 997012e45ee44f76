"""Lists the tensors of an HDF5 file; run as a program of its own, never imported by the package.

Why it exists: libhdf5 trusts its input. On damaged files it crashes (about one of 2,000 randomly
altered files), and it loops or allocates without end. Such a file must not take the caller down,
so `hdf5.py` runs this program in a short-lived process with little memory and time, and maps the
tensors itself at the offsets printed here. It contains accidents; it is no sandbox.
It imports the standard library, NumPy and h5py only.

    python hdf5_survey.py FILE START LENGTH SPILL

prints one JSON object: `{"refused": reason}`, or the layout, the metadata and for each tensor its
name, dtype, shape and offset. Tensors that do not lie in one piece (chunked, compressed, compact)
are written to the file SPILL, and their offsets are offsets there.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MAX_OBJECTS = 16_384  # groups, datasets and attributes
MAX_DEPTH = 32
MAX_TEXT = 4 << 20  # characters in attributes; a model's configuration takes 150,000
MAX_NAME = 512
MAX_EXPANSION = 8  # of all tensors together over the file
SMALL = 8 << 20  # bytes; tensors may always inflate to this size
MEMORY = 128 << 20  # bytes beside what the interpreter and its libraries take
SECONDS = 3  # of processor time; 1,000 tensors take about 0.3, and 64 MB take one more


class RefusedError(Exception):
    """The file is readable HDF5, but not supported or beyond the limits."""


class _Region(io.RawIOBase):
    """A range of a file as a file, for h5py to read from a .keras archive."""

    def __init__(self, file: io.FileIO, start: int, length: int) -> None:
        self._file = file
        self._start, self._length, self._position = start, length, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(self._length - self._position, 0)]
        self._file.seek(self._start + self._position)
        count = self._file.readinto(view)
        self._position += count
        return count


class _Survey:
    """The tensors and metadata of one file, collected by `visit`."""

    def __init__(self, length: int, spill: Path) -> None:
        self.length = length
        self.spill = spill
        self.spilled = 0
        self.objects = 0
        self.text = 0
        self.metadata: dict[str, str] = {}
        self.tensors: list[dict[str, Any]] = []

    def visit(self, file: h5py.File) -> str:
        """Lists all tensors; returns the layout, `"h5"` or `"weights.h5"`."""
        self.note(file, "")
        root = file
        if "model_weights" in file:  # a whole model, saved by a Keras before version 3
            root = _descend(file, "model_weights")
            self.note(root, "")
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            self.legacy(root)
            return "h5"
        self.walk(root, "")
        return "weights.h5"

    def count_object(self) -> None:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise RefusedError(f"it holds more than {MAX_OBJECTS:,} objects")

    def note(self, group: h5py.Group, prefix: str) -> None:
        """Keeps a group's attributes that are text."""
        for name in group.attrs:
            self.count_object()
            value = _text(group, name)
            if value is not None:
                self.metadata[prefix + name] = value
                self.text += len(value)
            if self.text > MAX_TEXT:
                raise RefusedError(f"its attributes hold more than {MAX_TEXT:,} characters")

    def legacy(self, root: h5py.Group) -> None:
        """Follows `layer_names` and `weight_names`, as Keras does."""
        for layer in _names(root, "layer_names"):
            group = _descend(root, layer)
            for weight in _names(group, "weight_names"):
                self.add(f"{layer}/{weight}", _descend(group, weight), required=True)

    def walk(self, group: h5py.Group, prefix: str, depth: int = 0) -> None:
        """Visits every group, as Keras 3 names variables by their path."""
        if depth > MAX_DEPTH:
            raise RefusedError(f"its groups are nested more than {MAX_DEPTH} deep")
        for name in group:
            child = _child(group, name)
            if isinstance(child, h5py.Group):
                self.count_object()
                self.note(child, f"{prefix}{name}@")
                self.walk(child, f"{prefix}{name}/", depth + 1)
            else:
                self.add(prefix + name, child, required=False)

    def add(self, name: str, dataset: object, *, required: bool) -> None:
        self.count_object()
        if not isinstance(dataset, h5py.Dataset) or len(name) > MAX_NAME:
            raise RefusedError(
                f"{name[:100]!r} is no dataset, or its name is longer than {MAX_NAME} characters"
            )
        if dataset.external or dataset.is_virtual:
            raise RefusedError(f"{name[:100]!r} keeps its values in other files")
        dtype = _dtype(dataset)
        if dtype is None or dataset.shape is None:
            if required:
                raise RefusedError(f"{name[:100]!r} holds no numbers")
            return
        offset = dataset.id.get_offset()  # None where the values do not lie in one piece
        spilled = offset is None or not _is_plain(dataset)
        if spilled:
            offset = self.keep(name, dataset)
        self.tensors.append(
            {
                "name": name,
                "dtype": dtype,
                "shape": dataset.shape,
                "offset": offset,
                "spilled": spilled,
            }
        )

    def keep(self, name: str, dataset: h5py.Dataset) -> int:
        """Unpacks a tensor with libhdf5 into the spill file; returns its offset there."""
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        if self.spilled + size > max(MAX_EXPANSION * self.length, SMALL):
            raise RefusedError(f"{name[:100]!r} inflates to {size:,} bytes")
        limit(self.length, 2 * size)
        values = np.ascontiguousarray(dataset[...])
        offset = self.spilled
        with self.spill.open("ab") as file:
            file.write(values.reshape(-1).view(np.uint8).data)
        self.spilled += size
        return offset


def _text(group: h5py.Group, name: str) -> str | None:
    if group.attrs.get_id(name).shape != ():
        return None
    value = group.attrs[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """An attribute that lists names; a long list is spread over `name0`, `name1` and so on."""
    parts = [attribute] if attribute in group.attrs else _numbered(group, attribute)
    names: list[str] = []
    for part in parts:
        if math.prod(group.attrs.get_id(part).shape) > MAX_OBJECTS:
            raise RefusedError(f"its {attribute} are more than {MAX_OBJECTS:,}")
        for name in np.atleast_1d(group.attrs[part]).tolist():
            names.append(name.decode() if isinstance(name, bytes) else str(name))
    return names


def _numbered(group: h5py.Group, attribute: str) -> Iterator[str]:
    index = 0
    while f"{attribute}{index}" in group.attrs:
        yield f"{attribute}{index}"
        index += 1


def _child(group: h5py.Group, name: str) -> object:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise RefusedError(f"{name[:100]!r} is a link")
    return group[name]


def _descend(group: h5py.Group, path: str) -> Any:
    found: Any = group
    for part in path.split("/"):
        if not part or not isinstance(found, h5py.Group):
            raise RefusedError(f"{path[:100]!r} is no path to a layer or weight")
        found = _child(found, part)
    return found


def _dtype(dataset: h5py.Dataset) -> str | None:
    if dataset.dtype.kind in "biufc":
        return str(dataset.dtype.str)
    # Keras stores bfloat16 as two bytes without a type, and says so in an attribute.
    is_bfloat16 = dataset.dtype.str == "|V2" and dataset.attrs.get("dtype") == "bfloat16"
    return "bfloat16" if is_bfloat16 else None


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Whether the stored bytes are the dtype's bytes, or libhdf5 has to convert them."""
    return bool(dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype))


def survey(path: str, start: int, length: int, spill: Path) -> dict[str, Any]:
    """The layout, metadata and tensors of a file, or the reason to refuse it."""
    found = _Survey(length, spill)
    try:
        with (
            Path(path).open("rb", buffering=0) as stream,
            h5py.File(io.BufferedReader(_Region(stream, start, length)), "r") as file,
        ):
            layout = found.visit(file)
    except RefusedError as reason:
        return {"refused": str(reason)}
    except Exception as error:  # h5py raises many types for a damaged file
        return {"refused": f"libhdf5 cannot read it: {str(error)[:200]}"}
    return {"layout": layout, "metadata": found.metadata, "tensors": found.tensors}


def limit(length: int, extra_memory: int = 0) -> None:
    """Limits the time and the memory of this process, if the system supports it."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_CPU, SECONDS + (length >> 26))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY + extra_memory)


def _lower(kind: int, value: int) -> None:
    import resource

    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def main(path: str, start: str, length: str, spill: str) -> None:
    """Prints the survey of a file as JSON."""
    limit(int(length))
    json.dump(survey(path, int(start), int(length), Path(spill)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
