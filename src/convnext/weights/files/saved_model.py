"""Reads the variables of TensorFlow SavedModels, as a folder or as the .tar.gz that TF-Hub serves.

The ConvNeXt collection on TF-Hub is published this way. Only the checkpoint in
`variables/` is read, by TensorFlow's own reader in this process; nothing of the graph is loaded.
TensorFlow is imported when a SavedModel is opened and at no other time.

A tensor's name is its path through the object graph, such as `variables/17` or
`layer_with_weights-8/kernel`. The metadata holds, under the same name, the variable's full name
where it has one.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from convnext.errors import MissingDependencyError, WeightsFileError
from convnext.weights.files.tensors import MAX_TENSORS, LazyTensor, check_name

__all__ = ["read", "unpack"]

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
ESCAPED, UNESCAPED = re.compile(r"\.([.S])"), {".": ".", "S": "/"}
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAX_INDEX = 1 << 20  # bytes; TensorFlow reads it as a whole
MAX_EXPANSION = 8  # of an archive; trained weights deflate by a tenth
SMALL = 16 << 20  # bytes; an archive may always inflate to this size
MAX_MEMBERS = 4_096
MAX_READ = 1 << 20  # bytes at once; the longest name or header that tarfile can ask for


def read(folder: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The variables of a SavedModel, and their full names by their paths."""
    index = folder / "variables" / "variables.index"
    if not index.is_file() or index.stat().st_size > MAX_INDEX:
        raise WeightsFileError(f"It needs a {index.name} of at most {MAX_INDEX:,} bytes.")
    try:
        import tensorflow as tf
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
    except ImportError as error:
        raise MissingDependencyError(
            "TensorFlow, which reads SavedModels,", "tensorflow"
        ) from error
    stored = sum(file.stat().st_size for file in index.parent.glob("variables.data-*"))

    def guarded(call: Callable[[], Any]) -> Any:
        failures = (tf.errors.OpError, DecodeError, RuntimeError, LookupError, ValueError)
        try:
            return call()
        except failures as error:
            raise WeightsFileError(f"Its checkpoint is damaged: {str(error)[:200]}.") from error

    reader = guarded(lambda: tf.train.load_checkpoint(str(index.with_suffix(""))))
    types = guarded(reader.get_variable_to_dtype_map)
    tensors: dict[str, LazyTensor] = {}
    for key, shape in sorted(guarded(reader.get_variable_to_shape_map).items()):
        dtype = np.dtype(types[key].as_numpy_dtype)
        if dtype.hasobject:  # texts, such as the object graph itself
            continue
        load = partial(guarded, partial(reader.get_tensor, key))
        tensor = LazyTensor(tuple(shape), dtype, load)
        if tensor.nbytes > stored or len(tensors) == MAX_TENSORS:
            raise WeightsFileError(f"Its variable {key[:100]!r} is larger than the data.")
        tensors[check_name(_path(key))] = tensor
    graph = TrackableObjectGraph()
    if OBJECT_GRAPH in types:
        guarded(lambda: graph.ParseFromString(reader.get_tensor(OBJECT_GRAPH)))
    attributes = (attribute for node in graph.nodes for attribute in node.attributes)
    names = {_path(each.checkpoint_key): each.full_name for each in attributes}
    return tensors, {name: full for name, full in names.items() if full and name in tensors}


def _path(key: str) -> str:
    """The path that a key of the checkpoint spells, in which dots and slashes are escaped."""
    return ESCAPED.sub(lambda match: UNESCAPED[match[1]], key.removesuffix(SUFFIX))


def unpack(path: Path, scratch: Path) -> Path:
    """Copies the checkpoint out of a .tar.gz and returns the folder that holds it.

    Only `variables/variables.index` and its `.data-` files are copied. An archive that holds
    anything but plain files and folders, or a name that leads out of it, is refused.
    """
    target = scratch / "saved_model" / "variables"
    target.mkdir(parents=True)
    room = max(MAX_EXPANSION * path.stat().st_size, SMALL)
    try:
        with (
            _Inflated(path, room) as inflated,
            tarfile.open(fileobj=inflated, mode="r:") as archive,
        ):
            for count, member in enumerate(archive):
                if count == MAX_MEMBERS:
                    raise WeightsFileError(f"It holds more than {MAX_MEMBERS:,} files.")
                _copy(archive, member, target)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise WeightsFileError(f"The archive is damaged: {error}.") from error
    return target.parent


class _Inflated(gzip.GzipFile):
    """A .gz file that raises beyond a size limit, in total and of one read."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "rb")
        self._room = room

    def read(self, size: int | None = -1) -> bytes:
        asked = -1 if size is None else size
        if not 0 <= asked <= MAX_READ or self.tell() > self._room:
            raise WeightsFileError(f"The archive inflates to more than {self._room:,} bytes.")
        return super().read(asked)


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
    if not plain or member.issparse() or name.is_absolute() or ".." in name.parts:
        raise WeightsFileError(
            f"Its member {member.name[:100]!r} is a link, a device or leads out of the archive."
        )
    source = archive.extractfile(member)
    if source is None or name.parent.name != "variables" or name.stem != "variables":
        return
    with source, (target / name.name).open("xb") as file:
        shutil.copyfileobj(source, file)
