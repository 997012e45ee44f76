"""Reads Keras's HDF5 files, of every generation, and writes the legacy layout.

Names are HDF5 paths. There are two layouts:

- Legacy (`"h5"`): tf.keras 2 and `keras.applications`. A group per layer; the attribute
  `layer_names` of the root and `weight_names` of each group give the order. A tensor is named
  `{layer name}/{weight name}`, both as the attributes have them. tf.keras 2 wrote
  `convnext_tiny_stem/convnext_tiny_stem_conv/kernel:0`, where Keras 3 writes
  `convnext_tiny_stem/convnext_tiny_stem/convnext_tiny_stem_conv/kernel`. The weights of a whole
  saved model (in the group `model_weights`) are named the same way.
- Keras 3 (`"weights.h5"`, and inside `"keras"`): a tree of groups, where a tensor is named by its
  path, such as `layers/conv2d_3/vars/0`. The text attribute `a` of group `g` is the metadata
  `g@a`; Keras 3 keeps a layer's own name in `layers/conv2d_3/vars@name`.

libhdf5 crashes and hangs on damaged files. So it never runs in this process on a file that is read:
`hdf5_survey.py` lists the tensors in a process of its own, and here they are mapped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files.tensors import (
    ByteSource,
    LazyTensor,
    Mapped,
    check_name,
    is_numpys_own,
    map_file,
    stored_tensor,
)

__all__ = ["read", "write"]

SURVEY = Path(__file__).with_name("hdf5_survey.py")
TIMEOUT = 60  # seconds; for a stalled disk, as the survey limits its processor time
ATTRIBUTE_LIMIT = 64_512  # bytes of names in one attribute, as in Keras

# Without a version, tf.keras 2 takes the weights for Keras 1's and transposes them.
LEGACY_ATTRIBUTES = {"keras_version": "2.9.0", "backend": "tensorflow"}


def read(
    path: Path, start: int, source: ByteSource, scratch: Path
) -> tuple[str, dict[str, LazyTensor], dict[str, str]]:
    """The layout, tensors and metadata of an HDF5 file or of a part of a file.

    Args:
        path: The file.
        start: Offset of the HDF5 file in it, in bytes.
        source: Its bytes.
        scratch: Temporary folder for values that have to be unpacked.
    """
    spill = scratch / "unpacked"
    report = _survey(path, start, source.size, spill)
    if "refused" in report:
        raise WeightsFileError(f"Its HDF5 structure is refused: {report['refused']}.")
    spill.touch()
    unpacked = Mapped(map_file(spill))
    tensors: dict[str, LazyTensor] = {}
    for found in report["tensors"]:
        name = check_name(found["name"])
        if name in tensors:
            raise WeightsFileError(f"It lists {name!r} twice.")
        tensors[name] = stored_tensor(
            unpacked if found["spilled"] else source,
            np.dtype(ml_dtypes.bfloat16 if found["dtype"] == "bfloat16" else found["dtype"]),
            found["shape"],
            offset=found["offset"],
        )
    return report["layout"], tensors, report["metadata"]


def _survey(path: Path, start: int, length: int, spill: Path) -> dict[str, Any]:
    arguments = [str(path.absolute()), str(start), str(length), str(spill)]
    quiet = {"OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}  # one thread, no plug-ins
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(SURVEY), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | quiet,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsFileError(f"libhdf5 did not finish within {TIMEOUT} s.") from error
    if done.returncode != 0:
        raise WeightsFileError(
            f"libhdf5 crashed or used up its time (exit code {done.returncode}). The file is "
            "damaged or hostile; fetch it again."
        )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def write(
    path: Path,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str],
    on_progress: Callable[[int], None],
) -> None:
    """Writes the legacy layout, which `keras_model.load_weights("x.h5")` reads by order.

    A name is split at its first slash: `"stem/stem_conv/kernel:0"` becomes the weight
    `stem_conv/kernel:0` of the layer `stem`. Keras assigns layers in the order in which they come
    up first, and each layer's weights in the order they have here.
    """
    layers: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        layer, slash, weight = name.partition("/")
        if not slash or not all(name.split("/")):
            raise ArgumentError(
                f"An .h5 file needs names such as 'layer/kernel:0', not {name!r}: a layer, a "
                "slash, and the weight."
            )
        if not is_numpys_own(tensor.dtype):
            raise ArgumentError(
                f"An .h5 file cannot hold {name!r} as {tensor.dtype}: NumPy's own types are "
                "allowed. Convert it first, to float32 for example."
            )
        layers.setdefault(layer, []).append(weight)
    try:
        with h5py.File(path, "w") as file:
            file.attrs.update({**LEGACY_ATTRIBUTES, **metadata})
            _write_names(file, "layer_names", list(layers))
            for layer, weights in layers.items():
                _write_names(file.create_group(layer), "weight_names", weights)
            for name, tensor in tensors.items():
                file.create_dataset(name, data=tensor.read())
                on_progress(tensor.nbytes)
    except RuntimeError as error:  # how h5py reports a full disk when it closes the file
        raise OSError(str(error)) from error


def _write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    encoded = np.array([name.encode() for name in names])
    parts = -(-encoded.nbytes // ATTRIBUTE_LIMIT)
    if parts <= 1:
        group.attrs[attribute] = encoded
        return
    for index, part in enumerate(np.array_split(encoded, parts)):
        group.attrs[f"{attribute}{index}"] = part
