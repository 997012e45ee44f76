"""Muon for the matrices of blocks and downsamplings, AdamW for all other parameters.

Small networks learn more from each picture with updates of equal size in all directions. Unlike
Keras' Muon, this one has parameter groups and includes the downsampling convolutions; decay,
clipping and averages are AdamW's.
"""

from __future__ import annotations

import collections
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from convnext.train.optim.adamw import AdamW
from convnext.train.optim.groups import Group

__all__ = ["Muon", "orthogonal"]

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # chosen for few steps, not for exact singular values of 1
ADAMS_SIZE = 0.2  # root mean square of AdamW's updates, so that one learning rate suits both
SMALLEST_NORM = 1e-7


@keras.saving.register_keras_serializable(package="convnext")
class Muon(AdamW):
    """Muon over groups of parameters.

    Args:
        groups: One for each trainable variable, in their order.
        matrices: Whether each of them is a matrix; a convolution's kernel is one of inputs by
            outputs.
        options: See `AdamW`; betas and epsilon apply to the parameters that are no matrices.

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

        from convnext.nn.torch_updates import nesterov_step

        pairs = list(zip(gradients, variables, strict=True))
        turned = [self.matrices[self._get_variable_index(variable)] for variable in variables]
        matrices = list(itertools.compress(pairs, turned))
        indices = [self._get_variable_index(variable) for _, variable in matrices]
        means = [self._means[index].value for index in indices]
        ahead = nesterov_step([gradient for gradient, _ in matrices], means, MOMENTUM)
        alike: dict[Any, list[tuple[Any, Any]]] = collections.defaultdict(list)
        for matrix, (_, variable), index in zip(ahead, matrices, indices, strict=True):
            matrix = matrix.reshape(-1, matrix.shape[-1])
            alike[matrix.shape].append((matrix, (variable.value, self.groups[index])))
        with torch.no_grad():
            for members in alike.values():  # matrices of one shape in one product
                steps = orthogonal(torch.stack([matrix for matrix, _ in members]))
                for (_, (value, group)), step in zip(members, steps, strict=True):
                    rate = learning_rate * group.scale
                    value.mul_(1 - rate * self.decay if group.decays else 1.0)
                    value.sub_(step.reshape(value.shape), alpha=rate * _size(step))
        others = list(itertools.compress(pairs, map(operator.not_, turned)))
        super()._torch_update([g for g, _ in others], [v for _, v in others], learning_rate)

    def _ahead(self, gradient: Any, variable: Any) -> Any:
        """Nesterov momentum of a gradient, as a matrix."""
        mean = self._means[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(mean, (gradient - mean) * (1 - MOMENTUM))
        return ops.reshape(gradient + (mean - gradient) * MOMENTUM, (-1, variable.shape[-1]))

    def _move(self, variable: Any, step: Any, learning_rate: Any) -> None:
        group = self.groups[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype) * group.scale
        kept = 1 - rate * self.decay if group.decays else 1.0
        reshaped = ops.reshape(step, variable.shape)
        self.assign(variable, variable * kept - rate * _size(step) * reshaped)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        return {**super().get_config(), "matrices": self.matrices}


def _size(step: Any) -> Any:
    """Factor of a step that gives it the size of AdamW's."""
    return ADAMS_SIZE * max(step.shape) ** 0.5


def orthogonal(matrix: Any) -> Any:
    """Set the singular values of a matrix, or of a stack of them, near 1: Newton-Schulz iteration.

    Iterating on the smaller square product takes half the work of iterating on the matrix.
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
