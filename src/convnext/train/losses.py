"""The loss of multi-label models."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

__all__ = ["BinaryCrossEntropy"]


class BinaryCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """Binary cross-entropy of logits, the mean over labels and pictures.

    Equal to timm's `BinaryCrossEntropy` with targets of a probability for each label, so also for
    classes that exclude one another. Reference: Wightman et al., "ResNet strikes back", 2021.

    Args:
        label_weights: How often a label that a picture has counts, for each label: PyTorch's
            `pos_weight`. None: once.
    """

    def __init__(self, label_weights: NDArray[Any] | None = None) -> None:
        super().__init__(name="binary_cross_entropy")
        self.more = None if label_weights is None else np.asarray(label_weights, np.float32) - 1

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each picture.

        Args:
            y_true: `(pictures, labels)`, from 0 to 1.
            y_pred: `(pictures, labels)` logits.
        """
        losses = ops.softplus(-y_pred)
        if self.more is not None:
            losses = losses * (1 + ops.convert_to_tensor(self.more, y_true.dtype) * y_true)
        return ops.mean(losses + (1 - y_true) * y_pred, axis=-1)
