"""transformers' three losses of a classifier, chosen by `config.problem_type`, on any backend."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from convnext.errors import ArgumentError
from convnext.hf.config import ConvNextConfig

__all__ = ["IGNORED", "classification_loss"]

IGNORED = -100  # pictures with this label do not count in the loss


def classification_loss(config: ConvNextConfig, logits: Any, labels: Any) -> Any:
    """The mean loss of a batch.

    Sets `config.problem_type` if it is None: regression for one label, classes for integer labels,
    else a probability for each label.

    Args:
        config: The classifier's configuration.
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
    count = logits.shape[-1]
    if keras.backend.backend() == "torch":
        import torch

        # PyTorch checks the labels itself, without waiting for the GPU.
        try:
            return torch.nn.functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED)
        except IndexError as error:
            raise _no_class(count) from error
    labels = ops.cast(labels, "int32")
    counts = ops.not_equal(labels, IGNORED)
    is_class = ops.logical_and(labels >= 0, labels < count)
    if not _unless_traced(ops.all(ops.logical_or(is_class, ops.logical_not(counts)))):
        raise _no_class(count)
    target = ops.expand_dims(ops.where(is_class, labels, 0), -1)
    log_probabilities = ops.log_softmax(logits, axis=-1)
    picked = ops.take_along_axis(log_probabilities, target, axis=-1)[:, 0]
    picked = ops.where(is_class, picked, float("nan"))  # a compiled step cannot raise
    summed = ops.sum(ops.where(counts, picked, 0))
    return -summed / ops.sum(ops.cast(counts, logits.dtype))


def _no_class(count: int) -> ArgumentError:
    return ArgumentError(
        f"A label is no class: with num_labels={count}, allowed are 0 to {count - 1}, and "
        f"{IGNORED} for pictures that do not count. Number the classes from 0, or build the model "
        "with as many labels as there are classes."
    )


def _unless_traced(truth: Any) -> bool:
    """The value as a bool; True while a step is being compiled, when there is no value."""
    try:
        return bool(truth)
    except TypeError:
        return True
