"""Losses of a student against its teacher, in float32 under every precision.

No gradient reaches the teacher.

References:
    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022 (DIST).
    Wei et al., "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
    Distillation", 2022.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from keras import ops

from convnext.errors import UnknownNameError

__all__ = ["FeatureLoss", "dist", "features", "soft_targets"]

FeatureLoss = Literal["cosine", "smooth_l1"]

PEARSON_EPSILON = 1e-8  # added to the product of deviations, as DIST's authors do
CONSTANT = 1e-6  # relative deviation below which numbers differ by the rounding of float32 alone
SMALLEST_NORM = 1e-6
SMOOTH_L1_BETA = 2.0  # as Wei et al.
WHITENING_EPSILON = 1e-5  # of their layer norm


def soft_targets(logits: Any, teacher_logits: Any, temperature: float) -> Any:
    """The Kullback-Leibler divergence of softened probabilities, from the teacher's, times T².

    Args:
        logits: The student's, `(n, classes)`.
        teacher_logits: Of the same pictures and classes.
        temperature: Divides both logits. The factor T² keeps the size of gradients.

    Returns:
        The loss of each picture, `(n,)`.
    """
    own = ops.log_softmax(_float32(logits) / temperature, axis=-1)
    teachers = ops.log_softmax(_fixed(teacher_logits) / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(teachers) * (teachers - own), axis=-1)


def dist(
    logits: Any, teacher_logits: Any, temperature: float, between: float, within: float
) -> Any:
    """DIST: how far softened probabilities are from a full correlation with the teacher's.

    1 less the mean Pearson correlation of the rows of a batch (relations between classes), and of
    its columns (relations within a class), both times T². Where either is constant, the
    correlation is 0 and has no gradient.

    Args:
        logits: The student's, `(n, classes)`. Columns are correlated over these n pictures alone,
            so with `run.accumulate` or on several hosts over a part of the batch.
        teacher_logits: Of the same pictures and classes.
        temperature: Divides both logits.
        between: Weight of the rows; the authors' beta.
        within: Weight of the columns; the authors' gamma.

    Returns:
        The loss of the batch, a scalar.
    """
    own = ops.softmax(_float32(logits) / temperature, axis=-1)
    teachers = ops.softmax(_fixed(teacher_logits) / temperature, axis=-1)
    rows = 1 - ops.mean(_correlation(own, teachers, axis=1))
    columns = 1 - ops.mean(_correlation(own, teachers, axis=0))
    return temperature**2 * (between * rows + within * columns)


def features(mapped: Any, teacher_features: Any, kind: FeatureLoss) -> Any:
    """The distance of a student's features from the teacher's.

    Args:
        mapped: The student's, mapped to the teacher's width: `(n, width)` or `(n, h, w, width)`.
        teacher_features: Of the same pictures and positions.
        kind: `"cosine"`: 1 less the cosine of the angle. `"smooth_l1"`: the mean of smooth L1 with
            beta 2 after the teacher's features are whitened, by a layer norm without parameters.

    Returns:
        The loss of each picture, `(n,)`, a mean over its positions.

    Raises:
        UnknownNameError: There is no such kind.
    """
    own, teachers = _float32(mapped), _fixed(teacher_features)
    if kind == "cosine":
        loss = 1 - ops.sum(_unit(own) * _unit(teachers), axis=-1)
    elif kind == "smooth_l1":
        loss = ops.mean(_smooth_l1(own - _whitened(teachers)), axis=-1)
    else:
        raise UnknownNameError("feature loss", kind, get_args(FeatureLoss))
    return ops.mean(ops.reshape(loss, (ops.shape(loss)[0], -1)), axis=-1)


def _float32(values: Any) -> Any:
    return ops.cast(values, "float32")


def _fixed(values: Any) -> Any:
    return ops.stop_gradient(_float32(values))


def _correlation(own: Any, teachers: Any, axis: int) -> Any:
    """Pearson's correlations along an axis; 0 without gradient where either is constant."""
    own, own_square, varies = _deviations(own, axis)
    teachers, square, also = _deviations(teachers, axis)
    both = ops.logical_and(varies, also)
    # Masked before the root and the division, whose gradients at 0 are not finite.
    own = ops.where(both, own, 0.0)
    product = ops.sqrt(ops.where(both, own_square, 1.0)) * ops.sqrt(ops.where(both, square, 1.0))
    return ops.sum(own * teachers, axis=axis, keepdims=True) / (product + PEARSON_EPSILON)


def _deviations(values: Any, axis: int) -> tuple[Any, Any, Any]:
    """Deviations from the mean, their summed squares, and whether these are not rounding alone."""
    deviations = values - ops.mean(values, axis=axis, keepdims=True)
    squares = ops.sum(ops.square(deviations), axis=axis, keepdims=True)
    whole = ops.sum(ops.square(values), axis=axis, keepdims=True)
    return deviations, squares, squares > CONSTANT**2 * whole


def _unit(values: Any) -> Any:
    squares = ops.sum(ops.square(values), axis=-1, keepdims=True)
    return values / ops.sqrt(ops.maximum(squares, SMALLEST_NORM**2))


def _whitened(values: Any) -> Any:
    deviations = values - ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(deviations), axis=-1, keepdims=True)
    return deviations / ops.sqrt(variance + WHITENING_EPSILON)


def _smooth_l1(difference: Any) -> Any:
    size = ops.abs(difference)
    squared = ops.square(difference) / (2 * SMOOTH_L1_BETA)
    return ops.where(size < SMOOTH_L1_BETA, squared, size - SMOOTH_L1_BETA / 2)
