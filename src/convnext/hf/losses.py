"""What a classifier is trained by: one of three losses, as `config.problem_type` says.

They are those of transformers, on any backend.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from convnext.errors import ArgumentError
from convnext.hf.config import ConvNextConfig

__all__ = ["IGNORED", "classification_loss"]

IGNORED = -100  # a label that does not count


def classification_loss(config: ConvNextConfig, logits: Any, labels: Any) -> Any:
    """The mean loss of a batch; settles `config.problem_type` if that is still open.

    One label is a regression, whole numbers are classes, and anything else is the probability of
    each label.

    Args:
        config: Of the classifier.
        logits: `(batch, num_labels)`.
        labels: `(batch,)` for classes or one number each, `(batch, num_labels)` otherwise.
    """
    if not config.num_labels:
        raise ArgumentError(
            "A classifier with num_labels=0 has no loss: its logits are the pooled vector. Leave "
            "labels out, or build it with the number of classes."
        )
    labels = ops.convert_to_tensor(labels)
    if config.problem_type is None:
        config.problem_type = _guessed(config, labels)
    if config.problem_type == "single_label_classification":
        return _cross_entropy(logits, ops.reshape(labels, (-1,)))
    if config.problem_type == "regression":
        if config.num_labels == 1:
            logits, labels = ops.reshape(logits, (-1,)), ops.reshape(labels, (-1,))
        _check_shapes(config, logits, labels)
        return ops.mean(ops.square(logits - ops.cast(labels, logits.dtype)))
    _check_shapes(config, logits, labels)
    labels = ops.cast(labels, logits.dtype)
    return ops.mean(ops.relu(logits) - logits * labels + ops.softplus(-ops.abs(logits)))


def _guessed(config: ConvNextConfig, labels: Any) -> Any:
    if config.num_labels == 1:
        return "regression"
    if "int" in keras.backend.standardize_dtype(labels.dtype):
        return "single_label_classification"
    return "multi_label_classification"


def _check_shapes(config: ConvNextConfig, logits: Any, labels: Any) -> None:
    if tuple(labels.shape[1:]) != tuple(logits.shape[1:]):
        raise ArgumentError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)} and problem_type={config.problem_type!r}. Give one number for "
            "each label."
        )


def _cross_entropy(logits: Any, labels: Any) -> Any:
    counts = ops.not_equal(labels, IGNORED)
    target = ops.expand_dims(ops.cast(ops.where(counts, labels, 0), "int32"), -1)
    log_probabilities = ops.log_softmax(logits, axis=-1)
    picked = ops.take_along_axis(log_probabilities, target, axis=-1)[:, 0]
    weights = ops.cast(counts, logits.dtype)
    return -ops.sum(picked * weights) / ops.sum(weights)
