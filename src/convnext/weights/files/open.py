"""Opens a weights file: recognises its format by its content. Errors get the file's name here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from convnext.errors import (
    ArgumentTypeError,
    ConvNeXtError,
    WeightsFileError,
    WeightsUnavailableError,
)
from convnext.weights.files import hdf5, npz, pth, safetensors_file, saved_model
from convnext.weights.files.shards import main_file, read_index
from convnext.weights.files.tensors import Array, LazyTensor, Mapped, WeightsFile, map_file
from convnext.weights.files.zips import read_members

__all__ = ["open_weights"]

KERAS_MEMBER = "model.weights.h5"
KERAS_TEXTS = ("config.json", "metadata.json")

Content = tuple[str, dict[str, LazyTensor], dict[str, str]]


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Open a weights file of any format; values are read lazily.

    Args:
        path: A .pth, .safetensors, .npz, .h5, .weights.h5 or .keras file, a SavedModel (folder or
            .tar.gz), an index of shards, or a folder with the files of a hub. The format is
            recognised by the content, not by the name.

    Returns:
        The open file. Use it in a `with` statement, and read tensors inside. It is mapped, so it
        must not be truncated meanwhile; replacing it, as `write_weights` does, is safe.

    Raises:
        ArgumentTypeError: `path` is no path.
        WeightsFileError: The content is damaged, hostile or of an unknown format.
        WeightsUnavailableError: There is no such file, or it cannot be read.
        MissingDependencyError: It is a SavedModel, and TensorFlow is not installed.

    Example:
        with open_weights("convnext_tiny_1k_224_ema.pth") as file:
            kernel = file.tensors["model.head.weight"].read()
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentTypeError(f"Weights are opened by a path, not {type(path).__name__}.")
    path = Path(path)
    with _naming(path), ExitStack() as held:
        kind, tensors, metadata = _read(path, held)
        named = {name: _naming_when_read(path, tensor) for name, tensor in tensors.items()}
        return WeightsFile(kind, named, metadata, held.pop_all().close)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before errors raised inside."""
    try:
        yield
    except WeightsFileError as error:
        raise WeightsFileError(f"{path} cannot be used. {error}") from error
    except ConvNeXtError:
        raise
    except OSError as error:
        name = error.filename or path
        raise WeightsUnavailableError(
            f"{name} cannot be read: {error.strerror or error}."
        ) from error
    except ValueError as error:  # an invalid name
        raise WeightsUnavailableError(f"{str(path)!a} cannot be read: {error}.") from error


def _naming_when_read(path: Path, tensor: LazyTensor) -> LazyTensor:
    def load() -> Array:
        with _naming(path):
            return tensor.read()

    return LazyTensor(tensor.shape, tensor.dtype, load)


def _read(path: Path, held: ExitStack) -> Content:
    if path.is_dir():
        if (path / "variables" / "variables.index").is_file():
            return "saved_model", *saved_model.read(path)
        path = main_file(path)
    first = _first_bytes(path)
    if (
        first.lstrip()[:1] == b"{" and 0 not in first
    ):  # not the length of a safetensors header, which may begin with the same byte
        return _read_shards(path, held)
    return _read_file(path, held)


def _first_bytes(path: Path) -> bytes:
    if path.stat() and not path.is_file():
        raise WeightsFileError("It is neither a file nor a folder.")
    with path.open("rb") as file:
        return file.read(16)


def _read_shards(path: Path, held: ExitStack) -> Content:
    kind = ""
    tensors: dict[str, LazyTensor] = {}
    metadata: dict[str, str] = {}
    for shard, names in read_index(path).items():
        kind, found, about = _read_file(shard, held)
        metadata |= about
        missing = [name for name in names if name not in found]
        if missing:
            raise WeightsFileError(f"Its shard {shard.name} lacks {missing[0]!r}.")
        tensors |= {name: found[name] for name in names}
    return kind, tensors, metadata


def _read_file(path: Path, held: ExitStack) -> Content:
    first = _first_bytes(path)
    if first.startswith(b"PK\3\4"):
        return _read_zip(path, held)
    if first.startswith(b"\x89HDF\r\n\x1a\n"):
        return hdf5.read(path, 0, Mapped(map_file(path)), _scratch(held))
    if first.startswith(b"\x1f\x8b"):
        return "saved_model", *saved_model.read(saved_model.unpack(path, _scratch(held)))
    if first[8:9] == b"{":  # tested before pickles: the length before it may begin like one
        return "safetensors", *safetensors_file.read(path)
    if first.startswith(b"\x80"):
        return "pth", pth.read_legacy(path), {}
    raise WeightsFileError(
        f"It starts with {first!r}, like no format we read: .pth, .safetensors, .npz, .h5, .keras, "
        "SavedModel."
    )


def _read_zip(path: Path, held: ExitStack) -> Content:
    members = read_members(path)
    if KERAS_MEMBER in members:
        inner = members[KERAS_MEMBER]
        if not inner.stored:
            raise WeightsFileError(f"Its {KERAS_MEMBER} is compressed. Save it with Keras again.")
        _, tensors, metadata = hdf5.read(path, inner.start, inner, _scratch(held))
        about = {name: members[name].text() for name in KERAS_TEXTS if name in members}
        return "keras", tensors, metadata | about
    if any(name.endswith("/data.pkl") for name in members):
        return "pth", pth.read_zip(members), {}
    if members and all(name.endswith(".npy") for name in members):
        return "npz", npz.read(members), {}
    raise WeightsFileError("It is a zip archive of neither torch, NumPy nor Keras.")


def _scratch(held: ExitStack) -> Path:
    folder = TemporaryDirectory(prefix="convnext-", ignore_cleanup_errors=True)
    return Path(held.enter_context(folder))
