"""AdamW with parameter groups and a moving average of the weights.

Keras' AdamW has one learning rate for all parameters, and starts its moving average from the first
update instead of the initial weights. The formulas are PyTorch's on every backend; on PyTorch its
fused kernel computes them.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from convnext.train.optim.groups import Group

__all__ = ["AdamW"]


@keras.saving.register_keras_serializable(package="convnext")
class AdamW(keras.optimizers.Optimizer):  # type: ignore[misc]
    """AdamW over groups of parameters.

    Args:
        groups: One for each trainable variable, in their order.
        weight_decay: Of parameters that decay, multiplied by the learning rate.
        beta_1: Decay of the gradients' mean.
        beta_2: Decay of the gradients' squares.
        epsilon: Added to the root of the squares.
        ema: Decay of the weights' moving average; 0 for none.
        accumulate: Number of gradients averaged for one update.
        clip_norm: Largest norm of the gradient over all parameters; 0 for no limit.

    Attributes:
        average: Averages gradients over processes, if there are several without XLA.

    Reference: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101
    """

    def __init__(  # noqa: PLR0913
        self,
        groups: Sequence[Group],
        *,
        weight_decay: float = 0.05,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        ema: float = 0.0,
        accumulate: int = 1,
        clip_norm: float = 0.0,
    ) -> None:
        super().__init__(
            learning_rate=0.0,
            global_clipnorm=clip_norm or None,
            use_ema=bool(ema),
            ema_momentum=ema,
            gradient_accumulation_steps=accumulate if accumulate > 1 else None,
            name="adamw",
        )
        self.groups = tuple(groups)
        self.decay = weight_decay
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.average: Callable[[Any], Any] | None = None

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments, and the moving average at the variables' values."""
        if self.built:
            return
        super().build(variables)
        self._means, self._squares = self._moments(variables)
        self.adopt(variables)

    def _moments(self, variables: Sequence[Any]) -> Any:
        return self.add_optimizer_variables(variables, ["mean", "square"])

    def adopt(self, variables: Sequence[Any]) -> None:
        """Restart the moving average at the present values of these variables."""
        for average, variable in zip(self.averages, variables, strict=False):
            average.assign(ops.copy(variable.value))  # copied, as JAX donates buffers

    @property
    def averages(self) -> list[Any]:
        """The moving average of each trainable variable; none without `ema`."""
        return list(self._model_variables_moving_average) if self.use_ema else []

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        index = self._get_variable_index(variable)
        group, mean, square = self.groups[index], self._means[index], self._squares[index]
        dtype = variable.dtype
        rate = ops.cast(learning_rate, dtype) * group.scale
        gradient = ops.cast(gradient, dtype)
        update = ops.cast(self.iterations + 1, dtype)
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        seen_1, seen_2 = _seen(self.beta_1, update), _seen(self.beta_2, update)
        root = ops.sqrt(square) / ops.sqrt(seen_2) + self.epsilon
        kept = 1 - rate * self.decay if group.decays else 1.0
        self.assign(variable, variable * kept - rate / seen_1 * mean / root)

    def _clip_gradients(self, grads: Any) -> Any:
        """Average over processes before clipping, once per accumulated gradient."""
        if self.average is not None:
            grads = self.average(grads)
        if self.global_clipnorm and keras.backend.backend() == "torch":
            from convnext.nn.torch_updates import clipped_together

            return clipped_together(grads, self.global_clipnorm)
        return super()._clip_gradients(grads)

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        if keras.backend.backend() == "torch":
            self._torch_update(grads, trainable_variables, float(learning_rate))
        else:
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _torch_update(self, gradients: Any, variables: Any, learning_rate: float) -> None:
        from convnext.nn.torch_updates import adamw_step

        alike: dict[Group, list[tuple[Any, int]]] = collections.defaultdict(list)
        for gradient, variable in zip(gradients, variables, strict=True):
            index = self._get_variable_index(variable)
            alike[self.groups[index]].append((gradient, index))
        for group, members in alike.items():
            indices = [index for _, index in members]
            adamw_step(
                [self._trainable_variables[index].value for index in indices],
                [gradient for gradient, _ in members],
                [self._means[index].value for index in indices],
                [self._squares[index].value for index in indices],
                done=float(self.iterations),
                rate=learning_rate * group.scale,
                betas=(self.beta_1, self.beta_2),
                decay=self.decay if group.decays else 0.0,
                epsilon=self.epsilon,
            )

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        steps = self.gradient_accumulation_steps or 1
        if keras.backend.backend() == "torch":
            from convnext.nn.torch_updates import move_averages

            if (int(self._iterations) + 1) % steps == 0:
                averages = [average.value for average in self.averages]
                values = [variable.value for variable in trainable_variables]
                move_averages(averages, values, self.ema_momentum)
            return
        is_update = ops.equal((self._iterations + 1) % steps, 0)
        for average, variable in zip(self.averages, trainable_variables, strict=True):
            step = ops.cast(is_update, variable.dtype) * (1 - self.ema_momentum)
            average.assign(average + (variable - average) * step)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `from_config`."""
        return {
            "groups": [(group.scale, group.decays) for group in self.groups],
            "weight_decay": self.decay,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "ema": self.ema_momentum if self.use_ema else 0.0,
            "accumulate": self.gradient_accumulation_steps or 1,
            "clip_norm": self.global_clipnorm or 0.0,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> AdamW:
        """Create the optimizer of a configuration."""
        del custom_objects
        return cls(**{**config, "groups": [Group(*group) for group in config["groups"]]})


def _seen(beta: float, update: Any) -> Any:
    """Adam's bias correction: 1 - beta**update."""
    if not beta:
        return 1.0
    # With expm1: in float32, 1 - 0.999**n loses most digits.
    return -ops.expm1(update * math.log(beta))
