"""Muon for the matrices inside the blocks, AdamW for everything else.

Why it exists: a small network that is trained for minutes or hours on a CPU learns more from each
picture if its matrices move equally far in all directions. Keras' Muon has one learning rate for
all parameters and leaves the downsampling convolutions out; decay, groups, clipping and averages
are AdamW's here.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from convnext.train.groups import Group
from convnext.train.optimizer import AdamW

__all__ = ["Muon", "orthogonal"]

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # drive singular values to about 1, fast rather than near
ADAMS_SIZE = 0.2  # root mean square of AdamW's updates; with it one learning rate suits both
SMALLEST_NORM = 1e-7


@keras.saving.register_keras_serializable(package="convnext")
class Muon(AdamW):
    """Muon over groups of parameters.

    Args:
        groups: One for each trainable variable, in their order.
        matrices: Which of them are matrices; a convolution's kernel is one, of its inputs by its
            outputs.
        options: See `AdamW`; both betas and epsilon are for the parameters that are no matrices.

    References: Jordan et al., https://kellerjordan.github.io/posts/muon/ ; Liu et al. for the size
    of an update, https://arxiv.org/abs/2502.16982
    """

    def __init__(self, groups: Sequence[Group], *, matrices: Sequence[bool], **options: Any):
        super().__init__(groups, **options)
        self.matrices = tuple(matrices)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        if not self.matrices[index]:
            super().update_step(gradient, variable, learning_rate)
            return
        group, mean, shape = self.groups[index], self._means[index], tuple(variable.shape)
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype) * group.scale
        self.assign_add(mean, (gradient - mean) * (1 - MOMENTUM))
        ahead = ops.reshape(gradient + (mean - gradient) * MOMENTUM, (-1, shape[-1]))
        size = ADAMS_SIZE * max(ahead.shape) ** 0.5
        kept = 1 - rate * self.decay if group.decays else 1.0
        step = ops.reshape(orthogonal(ahead), shape)
        self.assign(variable, variable * kept - rate * size * step)

    def _torch_update(self, gradients: Any, variables: Any, learning_rate: float) -> None:
        import torch

        pairs = list(zip(gradients, variables, strict=True))
        turned = [self.matrices[self._get_variable_index(variable)] for variable in variables]
        with torch.no_grad():
            for gradient, variable in itertools.compress(pairs, turned):
                self.update_step(gradient, variable, learning_rate)
        others = list(itertools.compress(pairs, map(operator.not_, turned)))
        super()._torch_update([g for g, _ in others], [v for _, v in others], learning_rate)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "matrices": self.matrices}


def orthogonal(matrix: Any) -> Any:
    """The matrix with all its singular values near 1: Newton and Schulz' iteration.

    The products are of the smaller square alone, half the work of iterating over the matrix.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        matrix = ops.transpose(matrix)
    matrix = matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + SMALLEST_NORM)
    square = ops.matmul(matrix, ops.transpose(matrix))
    unit = ops.eye(matrix.shape[0], dtype=matrix.dtype)
    product = unit
    for step in range(STEPS):
        factor = a * unit + b * square + c * ops.matmul(square, square)
        product = ops.matmul(factor, product) if step else factor
        if step < STEPS - 1:
            square = ops.matmul(ops.matmul(factor, square), factor)
    result = ops.matmul(product, matrix)
    return ops.transpose(result) if tall else result
