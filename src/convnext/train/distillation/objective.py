"""The loss of a classifier that has a teacher."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convnext.train.distillation.losses import soft_targets
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Distill

__all__ = ["LabelAccuracy", "TaughtLoss", "taught_targets"]


def taught_targets(batch: TrainingBatch) -> NDArray[np.float32]:
    """The targets of `TaughtLoss`: those of the labels, and the teacher's answers after them."""
    assert batch.answers is not None
    return np.concatenate([batch.targets, batch.answers], axis=1, dtype=np.float32)


class TaughtLoss(keras.losses.Loss):  # type: ignore[misc]
    """The labels' cross-entropy and the divergence from a teacher, in the recipe's shares.

    Args:
        settings: The recipe's section on the teacher.
    """

    def __init__(self, settings: Distill) -> None:
        super().__init__(name="taught")
        self.settings = settings

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each picture; `y_true` as `taught_targets` makes it."""
        classes = y_pred.shape[-1]
        targets, answers = y_true[:, :classes], y_true[:, classes:]
        loss = (1 - self.settings.hard) * soft_targets(y_pred, answers, self.settings.temperature)
        if self.settings.hard:
            labels = ops.categorical_crossentropy(targets, y_pred, from_logits=True)
            loss = loss + self.settings.hard * labels
        return loss


class LabelAccuracy(keras.metrics.MeanMetricWrapper):  # type: ignore[misc]
    """The accuracy by the labels in `taught_targets`."""

    def __init__(self) -> None:
        super().__init__(_right, name="accuracy")


def _right(y_true: Any, y_pred: Any) -> Any:
    return keras.metrics.categorical_accuracy(y_true[:, : y_pred.shape[-1]], y_pred)
