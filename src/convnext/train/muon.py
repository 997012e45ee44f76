"""Muon for the matrices inside the blocks, AdamW for everything else.

Why it exists: a small network that is trained for minutes or hours on a CPU learns more from each
picture if its matrices move equally far in all directions. Keras' Muon has one learning rate for
all parameters and leaves the downsampling convolutions out; decay, groups, clipping and averages
are AdamW's here.
"""

from __future__ import annotations

import collections
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

    def _moments(self, variables: Sequence[Any]) -> Any:
        others = itertools.compress(variables, map(operator.not_, self.matrices))
        squares = iter(self.add_optimizer_variables(list(others), "square"))
        return self.add_optimizer_variables(variables, "mean"), [
            None if is_matrix else next(squares) for is_matrix in self.matrices
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        if self.matrices[self._get_variable_index(variable)]:
            step = orthogonal(self._ahead(gradient, variable))
            self._move(variable, step, learning_rate)
        else:
            super().update_step(gradient, variable, learning_rate)

    def _torch_update(self, gradients: Any, variables: Any, learning_rate: float) -> None:
        import torch

        pairs = list(zip(gradients, variables, strict=True))
        turned = [self.matrices[self._get_variable_index(variable)] for variable in variables]
        alike: dict[Any, list[tuple[Any, Any]]] = collections.defaultdict(list)
        with torch.no_grad():
            for gradient, variable in itertools.compress(pairs, turned):
                ahead = self._ahead(gradient, variable)
                alike[ahead.shape].append((variable, ahead))
            for members in alike.values():  # those of one shape turn together
                steps = orthogonal(torch.stack([ahead for _, ahead in members]))
                for (variable, _), step in zip(members, steps, strict=True):
                    self._move(variable, step, learning_rate)
        others = list(itertools.compress(pairs, map(operator.not_, turned)))
        super()._torch_update([g for g, _ in others], [v for _, v in others], learning_rate)

    def _ahead(self, gradient: Any, variable: Any) -> Any:
        """The matrix whose directions count: the gradient, carried on by the mean it adds to."""
        mean = self._means[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(mean, (gradient - mean) * (1 - MOMENTUM))
        return ops.reshape(gradient + (mean - gradient) * MOMENTUM, (-1, variable.shape[-1]))

    def _move(self, variable: Any, step: Any, learning_rate: Any) -> None:
        group = self.groups[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype) * group.scale
        size = ADAMS_SIZE * max(step.shape) ** 0.5
        kept = 1 - rate * self.decay if group.decays else 1.0
        step = ops.reshape(step, variable.shape)
        self.assign(variable, variable * kept - rate * size * step)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "matrices": self.matrices}


def orthogonal(matrix: Any) -> Any:
    """The matrix with all its singular values near 1, or each of a stack: Newton and Schulz.

    The products are of the smaller square alone, half the work of iterating over the matrix.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    if tall:
        matrix = ops.swapaxes(matrix, -2, -1)
    norm = ops.sqrt(ops.sum(ops.square(matrix), axis=(-2, -1), keepdims=True))
    matrix = matrix / (norm + SMALLEST_NORM)
    square = ops.matmul(matrix, ops.swapaxes(matrix, -2, -1))
    unit = ops.eye(matrix.shape[-2], dtype=matrix.dtype)
    product = unit
    for step in range(STEPS):
        factor = a * unit + b * square + c * ops.matmul(square, square)
        product = ops.matmul(factor, product) if step else factor
        if step < STEPS - 1:
            square = ops.matmul(ops.matmul(factor, square), factor)
    result = ops.matmul(product, matrix)
    return ops.swapaxes(result, -2, -1) if tall else result
