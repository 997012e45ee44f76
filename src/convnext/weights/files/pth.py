"""Reads and writes torch's .pth files, in both of torch's formats, without torch.

Why it exists: the published ConvNeXt weights are .pth files. The zip format (torch 1.6 and later)
holds a pickle `*/data.pkl` and one stored member per storage, `*/data/0`; the older format holds
five pickles and then the storages one after another. In both, the pickle describes tensors as views
of storages, and the storages are mapped where they lie.
Containers are flattened: `{"model": {"a.b": tensor}}` holds a tensor named `model.a.b`. Values that
are no tensors are dropped.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files.pickles import INERT, MAX_PICKLE, PLAIN_GLOBALS, Global, Maker, evaluate
from convnext.weights.files.tensors import (
    MAX_NUMBER,
    MAX_TENSORS,
    ByteSource,
    LazyTensor,
    Mapped,
    check_name,
    map_file,
    raw_bytes,
    stored_tensor,
)
from convnext.weights.files.zips import Member, add_member

__all__ = ["read_legacy", "read_zip", "write"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_DEPTH = 64  # of containers in containers
MAX_STEPS = 1_000_000  # through containers, some of which may be shared

DTYPES: Mapping[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
STORAGE_DTYPES = {f"torch.{name}": DTYPES[dtype] for name, dtype in STORAGES.items()} | {
    "torch.storage.UntypedStorage": np.dtype("u1")
}


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    nbytes: int


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as torch pickles it: a strided view of a storage, counted in elements."""

    storage: _Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(persistent_id: object) -> _Storage:
    match persistent_id:
        case ("storage", Global(name=name), str(key), _, int(count), *view) if (
            name in STORAGE_DTYPES and view in ([], [None]) and 0 <= count < MAX_NUMBER
        ):
            return _Storage(key, STORAGE_DTYPES[name], count * STORAGE_DTYPES[name].itemsize)
    raise ValueError("it refers to something outside that is no storage of a known type")


def _view(arguments: tuple[Any, ...], dtype: np.dtype[Any] | None = None) -> _View:
    match arguments:
        case (_Storage() as storage, offset, tuple(shape), tuple(strides), *_) if all(
            type(number) is int for number in (offset, *shape, *strides)
        ):
            return _View(storage, dtype or storage.dtype, offset, shape, strides)
    raise ValueError("a tensor is not made of a storage, an offset, a shape and strides")


def _view_with_dtype(arguments: tuple[Any, ...]) -> _View:
    match arguments:
        case (_, _, _, _, _, _, Global(name=name), *_):
            return _view(arguments, DTYPES[name.removeprefix("torch.")])
    raise ValueError("a tensor lacks its dtype")


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    match arguments:
        case ((list() | tuple()) as sizes,):
            return tuple(sizes)
    raise ValueError("a size is not made of a list")


GLOBALS: Mapping[str, Maker] = {
    **PLAIN_GLOBALS,
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_tensor_v3": _view_with_dtype,
    "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
    "torch.Size": _size,
    **dict.fromkeys(
        (
            "torch.device",
            "torch.serialization._get_layout",
            *(f"torch.{name}" for name in DTYPES),
            *STORAGE_DTYPES,
        ),
        lambda _: INERT,
    ),
}


def read_zip(members: Mapping[str, Member]) -> dict[str, LazyTensor]:
    """The tensors of a .pth file in the zip format."""
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1 or members[pickles[0]].size > MAX_PICKLE:
        raise WeightsFileError(f"It needs one data.pkl of at most {MAX_PICKLE:,} bytes.")
    root = pickles[0].removesuffix("data.pkl")
    value, _ = evaluate(members[pickles[0]].content().tobytes(), GLOBALS, _storage)
    order = members.get(f"{root}byteorder")
    big_endian = order is not None and order.head(3) == b"big"

    def find(storage: _Storage) -> ByteSource:
        member = members.get(f"{root}data/{storage.key}")
        if member is None:
            raise WeightsFileError(f"Its storage {storage.key[:50]!r} is missing.")
        return member

    return _tensors(value, find, big_endian=big_endian)


def read_legacy(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a .pth file in the format before torch 1.6."""
    data = map_file(path)
    head = data[:MAX_PICKLE].tobytes()
    storages: dict[str, _Storage] = {}

    def storage(persistent_id: object) -> _Storage:
        found = _storage(persistent_id)
        return storages.setdefault(found.key, found)

    magic, position = evaluate(head, {}, storage)
    if magic != LEGACY_MAGIC:
        raise WeightsFileError("It is a pickle and not a .pth file. Save it with torch.save.")
    _, position = evaluate(head, {}, storage, position)  # version of the format
    _, position = evaluate(head, {}, storage, position)  # about the machine it was written on
    value, position = evaluate(head, GLOBALS, storage, position)
    keys, position = evaluate(head, {}, storage, position)

    contents: dict[str, ByteSource] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in storages:
            raise WeightsFileError("It lists a storage that no tensor uses.")
        start = position + 8
        count = int.from_bytes(data[position:start].tobytes(), "little")
        position = start + storages[key].nbytes
        if count * storages[key].dtype.itemsize != position - start:
            raise WeightsFileError("A storage is not as long as its pickle says.")
        contents[key] = Mapped(data[start:position])

    def find(storage: _Storage) -> ByteSource:
        if storage.key not in contents:
            raise WeightsFileError(f"Its storage {storage.key[:50]!r} is missing.")
        return contents[storage.key]

    return _tensors(value, find)


def _tensors(
    value: object,
    find: Callable[[_Storage], ByteSource],
    *,
    big_endian: bool = False,
) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for name, view in _flatten(value):
        if name in tensors or len(tensors) == MAX_TENSORS:
            raise WeightsFileError(
                f"It holds {name!r} twice, or more than {MAX_TENSORS:,} tensors in all."
            )
        dtype = view.dtype.newbyteorder(">") if big_endian else view.dtype
        tensors[name] = stored_tensor(
            find(view.storage),
            dtype,
            view.shape,
            offset=view.offset * dtype.itemsize,
            strides=[stride * dtype.itemsize for stride in view.strides],
        )
    return tensors


def _flatten(root: object) -> Iterator[tuple[str, _View]]:
    """Every tensor in nested containers with its dotted name, found without recursion."""
    open_containers = [("", _children(root))]
    steps = 0
    while open_containers:
        prefix, children = open_containers[-1]
        for key, child in children:
            steps += 1
            if steps > MAX_STEPS or len(open_containers) > MAX_DEPTH:
                raise WeightsFileError(
                    f"Its containers are nested more than {MAX_DEPTH} deep, or without end."
                )
            if isinstance(child, _View):
                yield check_name(f"{prefix}{key}"), child
            elif isinstance(child, (dict, list, tuple)):
                open_containers.append((check_name(f"{prefix}{key}") + ".", _children(child)))
                break
        else:
            open_containers.pop()


def _children(container: object) -> Iterator[tuple[object, object]]:
    if isinstance(container, dict):
        return iter(container.items())
    return iter(enumerate(container)) if isinstance(container, (list, tuple)) else iter(())


def write(
    path: Path,
    tensors: Mapping[str, LazyTensor],
    nested_under: str | None,
    on_progress: Callable[[int], None],
) -> None:
    """Writes a state dict in the zip format, which `torch.load(weights_only=True)` reads.

    Args:
        path: Where to write.
        tensors: The state dict.
        nested_under: Key of an outer dictionary that is to hold the state dict, or None.
        on_progress: Called after each tensor with its bytes.
    """
    with zipfile.ZipFile(path, "w") as archive:
        add_member(archive, "archive/data.pkl", b"".join(_pickle(tensors, nested_under)))
        add_member(archive, "archive/byteorder", b"little")
        for index, tensor in enumerate(tensors.values()):
            add_member(archive, f"archive/data/{index}", raw_bytes(tensor.read()))
            on_progress(tensor.nbytes)
        add_member(archive, "archive/version", b"3\n")


def _pickle(tensors: Mapping[str, LazyTensor], nested_under: str | None) -> Iterator[bytes]:
    storages = {DTYPES[dtype].newbyteorder("="): name for name, dtype in STORAGES.items()}
    new_dictionary = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    yield pickle.PROTO + b"\2"
    if nested_under is not None:
        yield pickle.EMPTY_DICT + _plain(nested_under)
    yield new_dictionary + pickle.MARK
    for index, (name, tensor) in enumerate(tensors.items()):
        if tensor.dtype not in storages:
            raise ArgumentError(
                f"A .pth file cannot hold {name!r} as {tensor.dtype}. Allowed: "
                f"{', '.join(str(dtype) for dtype in storages)}. Convert it first."
            )
        count = math.prod(tensor.shape)
        strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
        yield _plain(name) + _global("torch._utils", "_rebuild_tensor_v2") + pickle.MARK
        yield pickle.MARK + _plain("storage") + _global("torch", storages[tensor.dtype])
        yield _plain(str(index)) + _plain("cpu") + _plain(count) + pickle.TUPLE + pickle.BINPERSID
        yield _plain(0) + _plain(tensor.shape) + _plain(tuple(strides)) + pickle.NEWFALSE
        yield new_dictionary + pickle.TUPLE + pickle.REDUCE
    yield pickle.SETITEMS
    if nested_under is not None:
        yield pickle.SETITEM
    yield pickle.STOP


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _plain(value: str | int | tuple[int, ...]) -> bytes:
    """The opcodes that push a plain value: its pickle without the first and the last opcode."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]
