"""Write and run TensorFlow SavedModels as on TF-Hub: a trainable folder or .tar.gz.

It has the entry points of all readers of the format:

- `serving_default`, from `images` to the output by its name, for TensorFlow Serving and
  `keras.layers.TFSMLayer(path, call_endpoint="serving_default")`
- `__call__(images, training=False)` with `variables`, `trainable_variables` and
  `regularization_losses`: the reusable SavedModel of TF2, which `tensorflow_hub.KerasLayer` runs
  and trains
- `serve` and `serve_training`, the endpoints of `TFSMLayer` in Keras 3

Variables are stored under their canonical names, so that this package can load them. Needs Keras
on TensorFlow.

Reference: https://www.tensorflow.org/hub/reusable_saved_models
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from convnext.exports.keras_model import build
from convnext.exports.spec import INPUT, Array, ExportSpec, Predict
from convnext.nn.operations import portable_gradients
from convnext.weights.canonical import canonical_variables

__all__ = ["RUNTIME", "module_of", "opened", "write"]

RUNTIME = f"TensorFlow {tf.__version__}"
SIGNATURE = "serving_default"
COMPRESSION = 1  # weights shrink by a tenth at any level


def module_of(model: Any, spec: ExportSpec) -> Any:
    """Turn a Keras model of this package into a TensorFlow module of functions and variables."""
    inputs = tf.TensorSpec(spec.shape, tf.float32, name=INPUT)
    named = {name: variable.value for name, variable in canonical_variables(model).items()}
    known = {id(value) for value in named.values()}
    seeds = [v.value for v in model.variables if id(v.value) not in known]

    class Module(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # First, as a variable is stored under the first of the shortest paths to it.
            self.parameters = named
            self.seed_generator = seeds  # of drop path
            self.trainable_variables = [v.value for v in model.trainable_variables]
            self.variables = [*named.values(), *seeds]
            self.regularization_losses: list[Any] = []

        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, images: Any, training: bool = False) -> Any:
            with portable_gradients():
                return model(images, training=training)

        # The functions below call `__call__`, so that the model is traced only once.
        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def serve(self, images: Any) -> Any:
            return self(images, training=False)

        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def serve_training(self, images: Any) -> Any:
            return self(images, training=True)

        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def by_name(self, images: Any) -> Any:
            return {spec.output: self(images, training=False)}

    module = Module()
    for training in (False, True):
        module.__call__.get_concrete_function(inputs, training=training)
    return module


def write(spec: ExportSpec, target: Path) -> None:
    """Write the folder, or an archive of it."""
    model = build(spec)
    model.trainable = True
    module = module_of(model, spec)
    if not target.name.lower().endswith((".tar.gz", ".tgz")):
        _save(module, target)
        return
    with TemporaryDirectory(dir=target.parent) as folder:
        _save(module, Path(folder))
        _pack(Path(folder), target)


def _save(module: Any, folder: Path) -> None:
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.by_name})


def _pack(folder: Path, target: Path) -> None:
    """Write a reproducible archive: without times and owners."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for path in sorted(folder.rglob("*")):
            name = f"./{path.relative_to(folder).as_posix()}"
            archive.add(path, name, recursive=False, filter=anonymous)


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the folder or archive in TensorFlow."""
    if target.is_dir():
        return _loaded(spec, target)
    with TemporaryDirectory(dir=target.parent) as folder:
        shutil.unpack_archive(target, folder, "gztar", filter="data")
        return _loaded(spec, Path(folder))


def _loaded(spec: ExportSpec, folder: Path) -> Predict:
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[SIGNATURE]

    def answer(batch: Array) -> Array:
        assert loaded is not None  # keeps its variables alive
        values: Array = signature(**{INPUT: tf.constant(batch)})[spec.output].numpy()
        return values

    return answer
