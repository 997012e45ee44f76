"""Fit a classifier's temperature on labelled pictures, so that its confidence is its accuracy.

The temperature divides the logits (Guo et al. 2017, arXiv 1706.04599). It is written into the
classifier's kernel and bias, so every engine, export and library has it; no prediction changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from convnext.data.datasets import Dataset
from convnext.errors import ArgumentError, ImageError
from convnext.evaluate.accuracy import Accuracy, Tally, judge
from convnext.evaluate.run import READ
from convnext.evaluate.subject import Subject
from convnext.images.batches import batches
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

__all__ = ["Temperature", "fit_temperature", "measure_temperature", "write_with_temperature"]

LOWEST, HIGHEST = 1e-6, 1e6  # of temperatures
HALVINGS = 60
CLASSIFIER = ("head.kernel", "head.bias")


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: What the logits are divided by; above 1, probabilities become less certain.
        before: Accuracy and calibration of the logits as they are.
        after: The same of the divided logits, on the same pictures.
        bad: Names of pictures that could not be read.
    """

    value: float
    before: Accuracy
    after: Accuracy
    bad: tuple[str, ...]


def fit_temperature(logits: NDArray[Any], labels: Sequence[int] | NDArray[Any]) -> float:
    """Return the temperature with the smallest mean log-loss.

    Args:
        logits: `[pictures, classes]`.
        labels: The right class of each picture.

    Raises:
        ArgumentError: Every prediction is right, so the lower the better; or predictions are no
            better than guesses, so the higher the better.

    Example:
        >>> logits = np.log([[0.9, 0.1]] * 4)
        >>> round(fit_temperature(logits, [0, 0, 0, 1]), 3)  # sure of 90 %, right in 75 %
        2.0
    """
    values = np.asarray(logits, np.float64)
    right = np.take_along_axis(values, np.asarray(labels)[:, None], 1)[:, 0]

    def slope(factor: float) -> float:
        """Derivative of the mean log-loss by the factor of the logits, which only rises."""
        scaled = values * factor
        weights = np.exp(scaled - scaled.max(1, keepdims=True))
        means = (weights * values).sum(1) / weights.sum(1)
        return float((means - right).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if (right == values.max(1)).all():
        raise ArgumentError(
            f"Every one of these {len(values):,} predictions is right, so no finite temperature is "
            "the best. Give more pictures, and only such as the model was not trained on."
        )
    if slope(low) > 0:
        raise ArgumentError(
            "The model's predictions are no better than guesses on these pictures. Check that the "
            "labels are those of its classes."
        )
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def measure_temperature(
    subject: Subject, data: Dataset, batch_size: int = 32, *, progress: bool = False
) -> Temperature:
    """Fit the temperature of a model on labelled pictures.

    Args:
        subject: The model, from `open_subject`.
        data: Pictures that it was not trained on, from `open_dataset`.
        batch_size: Pictures in a batch.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        ArgumentError: No picture can be read, or see `fit_temperature`.
    """
    outputs: list[Any] = []
    labels: list[int] = []
    bad: list[str] = []
    remaining = iter([label for _, label in data.entries])
    sources = (named for named, _ in data.pictures())
    disable = None if progress else True
    with tqdm(total=len(data.entries), desc="evaluating", unit="img", disable=disable) as bar:
        for batch in batches(sources, subject.preprocess, batch_size, read=READ):
            kept = [next(remaining) for _ in batch.ids]
            answers = list(subject.engine.predict(batch.pixels)) if len(batch.pixels) else []
            for (name, outcome), label in zip(batch.outcomes(answers), kept, strict=True):
                if isinstance(outcome, ImageError):
                    bad.append(name)
                else:
                    outputs.append(outcome)
                    labels.append(label)
            bar.update(len(kept))
    if not outputs:
        raise ArgumentError(f"No picture of {data.path} can be read. Repair the data.")
    logits = np.stack(outputs)
    if not np.isfinite(logits).all():
        raise ArgumentError(
            "The model's logits are not all finite. Measure it with convnext evaluate, in float32."
        )
    value = fit_temperature(logits, labels)
    before, after = (_accuracy(logits / factor, labels) for factor in (1.0, value))
    return Temperature(value, before, after, tuple(bad))


def _accuracy(logits: NDArray[Any], labels: list[int]) -> Accuracy:
    tally = Tally(logits.shape[1])
    for judgement, label in zip(judge(logits, labels), labels, strict=True):
        tally.add(label, judgement)
    return tally.accuracy()


def write_with_temperature(model: str | Path, temperature: float, path: str | Path) -> None:
    """Write a model's weights with its classifier divided by a temperature.

    Args:
        model: A checkpoint's name, or a weights file.
        temperature: From `fit_temperature`.
        path: The file, see `convnext.weights.save_weights`.

    Raises:
        ArgumentError: It is a multi-label model, whose thresholds would no longer fit.
    """
    with read_weights(model) as weights:
        if weights.info.thresholds is not None:
            raise ArgumentError(
                f"{weights.source} is a multi-label model. A temperature is for classes that "
                "exclude each other."
            )
        arrays = {name: tensor.read() for name, tensor in weights.tensors.items()}
        for name in CLASSIFIER:
            array = arrays[name]
            arrays[name] = (array.astype(np.float32) / np.float32(temperature)).astype(array.dtype)
        save_weights(arrays, path, info=weights.info, architecture=weights.found.architecture)
