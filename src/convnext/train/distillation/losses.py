"""Losses that compare a model's answers with its teacher's, in the operations of any backend."""

from __future__ import annotations

from typing import Any

from keras import ops

__all__ = ["soft_targets"]


def soft_targets(logits: Any, teacher_logits: Any, temperature: float) -> Any:
    """The divergence of the teacher's softened probabilities from the model's, `[n]`.

    Multiplied by the temperature's square, as gradients shrink by it (Hinton et al., 2015).

    Args:
        logits: The model's, `[n, classes]`.
        teacher_logits: The teacher's.
        temperature: Divides both.
    """
    logs = ops.log_softmax(ops.cast(logits, "float32") / temperature, axis=-1)
    theirs = ops.log_softmax(ops.cast(teacher_logits, "float32") / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(theirs) * (theirs - logs), axis=-1)
