"""Weight files made by hand, true and false, without the frameworks that usually write them."""

from __future__ import annotations

import json
import pickle
import random
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from convnext.weights.files import LazyTensor, open_weights

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE = np.arange(6, dtype="<f4")


def lazy(arrays: Mapping[str, np.ndarray]) -> dict[str, LazyTensor]:
    return {name: LazyTensor.from_array(array) for name, array in arrays.items()}


def contents(path: Path) -> dict[str, np.ndarray]:
    with open_weights(path) as file:
        return {name: each.read() for name, each in file.tensors.items()}


def plain(value: object) -> bytes:
    """The opcodes that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def named(module: str, name: str) -> bytes:
    """The opcode that pushes a global."""
    return f"c{module}\n{name}\n".encode()


def tensor(
    shape: object = (2, 3),
    strides: object = (3, 1),
    offset: object = 0,
    count: object = 6,
    key: object = "0",
    storage: bytes = named("torch", "FloatStorage"),
) -> bytes:
    """The opcodes with which torch describes a tensor, true or not."""
    persistent_id = plain("storage") + storage + plain(key) + plain("cpu") + plain(count)
    view = plain(offset) + plain(shape) + plain(strides)
    hooks = b"\x89" + named("collections", "OrderedDict") + b")R"
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return rebuild + b"((" + persistent_id + b"tQ" + view + hooks + b"tR"


def dictionary(**values: bytes) -> bytes:
    """A whole pickle of a dictionary whose values are given as opcodes."""
    items = b"".join(plain(name) + value for name, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def write_zip(
    path: Path, members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_pth(path: Path, data_pickle: bytes, storage: bytes = STORAGE.tobytes()) -> Path:
    """A .pth file of this pickle and one storage."""
    return write_zip(path, [("archive/data.pkl", data_pickle), ("archive/data/0", storage)])


def write_legacy_pth(
    path: Path, data_pickle: bytes, keys: Sequence[str] = ("0",), count: int = 6
) -> Path:
    """The same in torch's format before 1.6."""
    magic = b"\x80\2\x8a\n" + LEGACY_MAGIC.to_bytes(10, "little") + b"."
    about = [b"\x80\2" + plain(value) + b"." for value in (1001, {"little_endian": True})]
    listed = b"\x80\2" + plain(list(keys)) + b"."
    storages = (struct.pack("<q", count) + STORAGE.tobytes()) * len(keys)
    path.write_bytes(magic + b"".join(about) + data_pickle + listed + storages)
    return path


def damaged(content: bytes, seed: int) -> bytes:
    """One of endlessly many damages: up to 100 cut off at that percentage, then a byte changed."""
    if seed < 100:
        return content[: len(content) * seed // 100]
    chance = random.Random(seed)
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    return bytes(changed)


def write_safetensors(path: Path, header: object, data: bytes = bytes(24)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path
