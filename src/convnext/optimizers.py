"""Keras' AdamW, faster on PyTorch."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["AdamW"]


def _on_torch() -> bool:
    return bool(keras.backend.backend() == "torch")


@keras.saving.register_keras_serializable(package="convnext.optimizers")
class AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """`keras.optimizers.AdamW`, with PyTorch's fused kernel on PyTorch.

    Arguments, variables and results, but for rounding, are those of `keras.optimizers.AdamW`, so
    each continues from the other's saved state. On TensorFlow and JAX, which compile a step, this
    is Keras' computation unchanged.

    Example:
        >>> from convnext import create_convnext_v2
        >>> model = create_convnext_v2("test", num_classes=10, input_shape=(32, 32, 3))
        >>> model.compile(AdamW(1e-3, weight_decay=0.05), "sparse_categorical_crossentropy")
    """

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        if not _on_torch():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        from convnext.nn.torch_updates import adamw_step

        # Keras corrects the bias in the learning rate, which the decay does not share.
        update = ops.cast(self.iterations + 1, "float32")
        seen = [1 - ops.power(ops.cast(b, "float32"), update) for b in (self.beta_1, self.beta_2)]
        correction = float(ops.sqrt(seen[1]) / seen[0])
        for decays in (True, False):
            pairs = [
                (gradient, variable)
                for gradient, variable in zip(grads, trainable_variables, strict=True)
                if self._use_weight_decay(variable) == decays
            ]
            numbers = [self._get_variable_index(variable) for _, variable in pairs]
            adamw_step(
                [variable.value for _, variable in pairs],
                [gradient for gradient, _ in pairs],
                [self._momentums[number].value for number in numbers],
                [self._velocities[number].value for number in numbers],
                [self._velocity_hats[number].value for number in numbers] if self.amsgrad else (),
                rate=float(learning_rate) * correction,
                betas=(self.beta_1, self.beta_2),
                decay=self.weight_decay / correction if decays else 0.0,
                epsilon=self.epsilon,
            )

    def _apply_weight_decay(self, variables: Any) -> None:
        if not _on_torch():  # there, the update includes it
            super()._apply_weight_decay(variables)

    def _clip_gradients(self, grads: Any) -> Any:
        if not _on_torch() or not (self.clipnorm or self.global_clipnorm):
            return super()._clip_gradients(grads)
        from convnext.nn.torch_updates import clipped, clipped_together

        if self.clipnorm:
            return clipped(grads, self.clipnorm)
        return clipped_together(grads, self.global_clipnorm)

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        if not _on_torch():
            super()._update_model_variables_moving_average(trainable_variables)
            return
        from convnext.nn.torch_updates import move_averages

        averages = self._model_variables_moving_average
        pairs = [
            pair for pair in zip(averages, trainable_variables, strict=True) if pair[0] is not None
        ]
        move_averages(
            [average.value for average, _ in pairs],
            [variable.value for _, variable in pairs],
            self.ema_momentum if int(self.iterations) else 0.0,
        )
