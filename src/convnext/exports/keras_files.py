"""Write and run .keras files of whole Keras models, on any backend."""

from __future__ import annotations

from pathlib import Path

import keras

from convnext.exports.keras_model import build
from convnext.exports.spec import Array, ExportSpec, Predict

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"Keras {keras.__version__} on {keras.backend.backend()}"


def write(spec: ExportSpec, target: Path) -> None:
    """Write the Keras model."""
    build(spec).save(target)


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the Keras model."""
    model = keras.saving.load_model(target, compile=False)
    del spec

    def answer(batch: Array) -> Array:
        values: Array = model.predict_on_batch(batch)
        return values

    return answer
