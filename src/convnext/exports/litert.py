"""LiteRT files, which used to be called TensorFlow Lite: for phones and small devices.

Float16 stores the weights in half precision; the device computes in what it has. Eight bits are
those of the blocks' linear layers, see `convnext.int8.litert`. Only operators of LiteRT's own are
allowed, so that a file runs wherever the interpreter does.

This runs in a process whose Keras is on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from convnext.errors import ExportError
from convnext.exports.job import INPUT, Answer, Array, Job
from convnext.exports.keras_model import build
from convnext.images.transform import normalise
from convnext.int8.litert import prepare, round_linear_layers
from convnext.processors import available_processors

__all__ = ["RUNTIME", "opened", "write"]

SIGNATURE = "serving_default"
TOGETHER = 8  # pictures of the calibration, at once

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = "LiteRT"
except ImportError:
    Interpreter = tf.lite.Interpreter
    RUNTIME = f"TensorFlow Lite {tf.__version__}"


def write(job: Job, target: Path) -> None:
    """Convert the model and write it."""
    model = build(job)
    if job.precision == "int8":
        prepare(model, _seen(job))
    with TemporaryDirectory(dir=target.parent) as folder:
        _save(model, job, folder)
        content = _converted(job, folder)
    if job.precision == "int8":
        content = round_linear_layers(content, model)
    target.write_bytes(content)


def _seen(job: Job) -> Iterator[Array]:
    """The calibration's pictures as the model takes them, a few at a time."""
    pictures = job.calibration
    assert pictures is not None
    for start in range(0, len(pictures), TOGETHER):
        part = pictures[start : start + TOGETHER]
        if part.dtype == np.uint8 and not job.pixels:
            part = normalise(part, job.network.preprocess)
        yield part.astype(np.float32)


def _save(model: Any, job: Job, folder: str) -> None:
    """As a SavedModel, in which the converter finds the values of all variables."""
    images = tf.TensorSpec(job.shape, job.dtype.name, name=INPUT)

    @tf.function(input_signature=[images])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> Any:
        return {job.output: model(tf.cast(images, tf.float32), training=False)}

    module = tf.__internal__.tracking.AutoTrackable()
    module.variables = [variable.value for variable in model.variables]
    tf.saved_model.save(module, folder, signatures={SIGNATURE: serve})


def _converted(job: Job, folder: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if job.precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"TensorFlow cannot convert this model to LiteRT: {reason}") from error
    return content


def opened(job: Job, target: Path) -> Answer:
    """The file in its interpreter."""
    interpreter = Interpreter(model_path=str(target), num_threads=available_processors())
    [taken] = interpreter.get_input_details()
    [given] = interpreter.get_output_details()

    def answer(batch: Array) -> Array:
        if job.batch is None:
            interpreter.resize_tensor_input(taken["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        values: Array = interpreter.get_tensor(given["index"]).copy()
        return values

    return answer
