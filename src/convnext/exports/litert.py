"""Write and run LiteRT (TensorFlow Lite) files, for phones and small devices.

Float16 is the precision of the stored weights; int8 is that of the blocks' linear layers, see
`convnext.int8.litert`. Files use only LiteRT's own operators, so they need no extensions.

Needs Keras on TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from convnext.errors import ExportError
from convnext.exports.keras_model import build
from convnext.exports.spec import INPUT, Array, ExportSpec, Predict
from convnext.images.transform import normalise
from convnext.int8.litert import prepare, round_linear_layers
from convnext.processors import available_processors

__all__ = ["RUNTIME", "opened", "write"]

SIGNATURE = "serving_default"
TOGETHER = 8  # calibration pictures in a batch

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = "LiteRT"
except ImportError:
    Interpreter = tf.lite.Interpreter
    RUNTIME = f"TensorFlow Lite {tf.__version__}"


def write(spec: ExportSpec, target: Path) -> None:
    """Convert the model and write it."""
    model = build(spec)
    if spec.precision == "int8":
        prepare(model, _seen(spec))
    with TemporaryDirectory(dir=target.parent) as folder:
        _save(model, spec, folder)
        content = _converted(spec, folder)
    if spec.precision == "int8":
        content = round_linear_layers(content, model)
    target.write_bytes(content)


def _seen(spec: ExportSpec) -> Iterator[Array]:
    """Yield batches of calibration pictures as the model's input."""
    pictures = spec.calibration
    assert isinstance(pictures, np.ndarray)
    for start in range(0, len(pictures), TOGETHER):
        part = pictures[start : start + TOGETHER]
        if part.dtype == np.uint8 and not spec.pixels:
            part = normalise(part, spec.network.preprocess)
        yield part.astype(np.float32)


def _save(model: Any, spec: ExportSpec, folder: str) -> None:
    """Save as a SavedModel, from which the converter reads all variables."""
    images = tf.TensorSpec(spec.shape, spec.dtype.name, name=INPUT)

    @tf.function(input_signature=[images])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> Any:
        return {spec.output: model(tf.cast(images, tf.float32), training=False)}

    module = tf.__internal__.tracking.AutoTrackable()
    module.variables = [variable.value for variable in model.variables]
    tf.saved_model.save(module, folder, signatures={SIGNATURE: serve})


def _converted(spec: ExportSpec, folder: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if spec.precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter raises nearly anything
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"TensorFlow cannot convert this model to LiteRT: {reason}") from error
    return content


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the file in LiteRT's interpreter."""
    interpreter = Interpreter(model_path=str(target), num_threads=available_processors())
    [taken] = interpreter.get_input_details()
    [given] = interpreter.get_output_details()

    def answer(batch: Array) -> Array:
        if spec.batch is None:
            interpreter.resize_tensor_input(taken["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        values: Array = interpreter.get_tensor(given["index"]).copy()
        return values

    return answer
