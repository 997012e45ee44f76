"""TensorFlow SavedModels as TF-Hub has them: a folder or a .tar.gz, to run and to train on.

One artefact for every reader of the format:

- `serving_default`, from `images` to the output by its name, for TensorFlow Serving and
  `keras.layers.TFSMLayer(path, call_endpoint="serving_default")`
- `__call__(images, training=False)` with `variables`, `trainable_variables` and
  `regularization_losses`: the reusable SavedModel of TF2, which `tensorflow_hub.KerasLayer` runs
  and trains
- `serve` and `serve_training`, the endpoints of `TFSMLayer` in Keras 3

Variables are stored under their canonical names, so that this package reads its own archives back.
This runs in a process whose Keras is on TensorFlow.

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

from convnext.exports.job import INPUT, Answer, Array, Job
from convnext.exports.keras_model import build
from convnext.weights.canonical import canonical_variables

__all__ = ["RUNTIME", "module_of", "opened", "write"]

RUNTIME = f"TensorFlow {tf.__version__}"
SIGNATURE = "serving_default"
COMPRESSION = 1  # trained weights deflate by a tenth, at any level


def module_of(model: Any, job: Job) -> Any:
    """What is saved: a Keras model of ours as functions and variables of TensorFlow."""
    inputs = tf.TensorSpec(job.shape, tf.float32, name=INPUT)
    named = {name: variable.value for name, variable in canonical_variables(model).items()}
    known = {id(value) for value in named.values()}
    seeds = [v.value for v in model.variables if id(v.value) not in known]

    class Module(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # First, because a variable is stored under the first of the shortest paths to it.
            self.parameters = named
            self.seed_generator = seeds  # of drop path
            self.trainable_variables = [v.value for v in model.trainable_variables]
            self.variables = [*named.values(), *seeds]
            self.regularization_losses: list[Any] = []

        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, images: Any, training: bool = False) -> Any:
            return model(images, training=training)

        # The others call that one: tracing the model is what takes time.
        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def serve(self, images: Any) -> Any:
            return self(images, training=False)

        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def serve_training(self, images: Any) -> Any:
            return self(images, training=True)

        @tf.function(input_signature=[inputs])  # type: ignore[untyped-decorator]
        def by_name(self, images: Any) -> Any:
            return {job.output: self(images, training=False)}

    module = Module()
    for training in (False, True):
        module.__call__.get_concrete_function(inputs, training=training)
    return module


def write(job: Job, target: Path) -> None:
    """Write the folder, or the archive of it."""
    model = build(job)
    model.trainable = True
    module = module_of(model, job)
    if not target.name.lower().endswith((".tar.gz", ".tgz")):
        _save(module, target)
        return
    with TemporaryDirectory(dir=target.parent) as folder:
        _save(module, Path(folder))
        _pack(Path(folder), target)


def _save(module: Any, folder: Path) -> None:
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.by_name})


def _pack(folder: Path, target: Path) -> None:
    """The same bytes for the same content, whenever and by whomever it is packed."""

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


def opened(job: Job, target: Path) -> Answer:
    """The artefact as TensorFlow loads it, from the archive if it is one."""
    if target.is_dir():
        return _loaded(job, target)
    with TemporaryDirectory(dir=target.parent) as folder:
        shutil.unpack_archive(target, folder, "gztar", filter="data")
        return _loaded(job, Path(folder))


def _loaded(job: Job, folder: Path) -> Answer:
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[SIGNATURE]

    def answer(batch: Array) -> Array:
        assert loaded is not None  # its variables go when it goes
        values: Array = signature(**{INPUT: tf.constant(batch)})[job.output].numpy()
        return values

    return answer
