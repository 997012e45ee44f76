"""Whole Keras models as .keras files, on whichever backend runs."""

from __future__ import annotations

from pathlib import Path

import keras

from convnext.exports.job import Answer, Array, Job
from convnext.exports.keras_model import build

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"Keras {keras.__version__} on {keras.backend.backend()}"


def write(job: Job, target: Path) -> None:
    """Write the model."""
    build(job).save(target)


def opened(job: Job, target: Path) -> Answer:
    """The model, loaded again."""
    model = keras.saving.load_model(target, compile=False)
    del job

    def answer(batch: Array) -> Array:
        values: Array = model.predict_on_batch(batch)
        return values

    return answer
