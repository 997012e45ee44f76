"""The models on TensorFlow and JAX: `keras.Model`s with transformers' behaviour.

Pictures have their channels first. `fit` uses the loss of `config.problem_type` unless `compile`
gets one. Labels are given as `fit(pixel_values, labels)` or
`fit({"pixel_values": ..., "labels": ...})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import keras
import numpy as np
import optree

from convnext.errors import ArgumentError
from convnext.hf import outputs
from convnext.hf.answers import answer, check_pixels, given
from convnext.hf.config import ConvNextConfig, ConvNextV2Config, DINOv3ConvNextConfig
from convnext.hf.losses import classification_loss
from convnext.hf.network import Kind, build_network, named_rows, precision
from convnext.hf.pretrained import Pretrained, checked_config
from convnext.nn.initializers import Normal
from convnext.weights.canonical import canonical_variables
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array, moved

__all__ = [
    "ConvNextBackbone",
    "ConvNextForImageClassification",
    "ConvNextModel",
    "ConvNextV2Backbone",
    "ConvNextV2ForImageClassification",
    "ConvNextV2Model",
    "DINOv3ConvNextBackbone",
    "DINOv3ConvNextModel",
]


def _register(kind: type[outputs.ModelOutput]) -> None:
    """Register an output class as a pytree, for compiled functions and Keras' loops."""

    def rebuild(names: tuple[str, ...], values: Any) -> outputs.ModelOutput:
        out = kind()
        for name, value in zip(names, values, strict=True):
            out[name] = value  # None too: a tree map may return anything for a leaf
        return out

    def flatten(out: outputs.ModelOutput) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        return out.to_tuple(), tuple(out)

    register: Any = optree.register_pytree_node
    register(kind, lambda out: (*flatten(out), tuple(out)), rebuild, namespace="keras")
    if keras.backend.backend() == "jax":
        import jax

        jax.tree_util.register_pytree_node(kind, flatten, rebuild)


for _kind in (
    outputs.BackboneOutput,
    outputs.BaseModelOutputWithPoolingAndNoAttention,
    outputs.ImageClassifierOutputWithNoAttention,
):
    _register(_kind)


class _Model(Pretrained, keras.Model):  # type: ignore[misc]
    """Base class of the models."""

    config_class: ClassVar[type[ConvNextConfig]] = ConvNextConfig
    kind: ClassVar[Kind]

    def __init__(self, config: ConvNextConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = checked_config(config, self.config_class, type(self).__name__)
        self.network = build_network(self.config, self.kind)
        self._rows = named_rows(self.network, self.config, self.kind)
        for canonical, variable in canonical_variables(self.network).items():
            if canonical.endswith("kernel"):
                initial = Normal(self.config.initializer_range)(variable.shape, variable.dtype)
                variable.assign(initial)
        self.built = True

    def __call__(self, pixel_values: Any = None, *args: Any, **kwargs: Any) -> Any:
        """See `call`."""
        pixels = pixel_values
        if isinstance(pixels, Mapping):
            pixels = pixels.get("pixel_values")
        check_pixels(self.config, pixels)
        return super().__call__(pixel_values, *args, **kwargs)

    def call(
        self,
        pixel_values: Any,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`, or a dictionary of the arguments.
            labels: Labels for a classifier's loss, see `config.problem_type`.
            output_hidden_states: Whether to return every map.
            return_dict: Whether to return an output object; False for a tuple.
            training: Whether to apply stochastic depth.
        """
        if isinstance(pixel_values, Mapping):
            labels = pixel_values.get("labels", labels)
            pixel_values = pixel_values["pixel_values"]
        x = keras.ops.transpose(pixel_values, (0, 2, 3, 1))
        found = dict(self.network(x, training=training))
        if "pooled" in found:
            found.setdefault("logits", found["pooled"])
        out = answer(
            self.config,
            self.kind,
            found,
            _channels_first,
            labels=labels,
            output_hidden_states=output_hidden_states,
        )
        return given(self.config, out, return_dict)

    def get_config(self) -> dict[str, Any]:
        """The arguments of `from_config`."""
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """A model with initial values, from the result of `get_config`."""
        del custom_objects
        own = dict(config)
        return cls(cls.config_class.from_dict(own.pop("config")), name=own.get("name"))

    # ---- for `Pretrained`

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, by transformers' name."""
        return {name: tensor.shape for name, tensor in self.parameter_values().items()}

    def parameter_values(self) -> dict[str, LazyTensor]:
        """Lazy tensor of every parameter, by transformers' name."""
        variables = canonical_variables(self.network)
        return {
            row.foreign: moved(row.move.write, LazyTensor.of(variables[canonical]))
            for canonical, row in self._rows.items()
        }

    def assign_parameter(self, name: str, value: Array) -> None:
        """Copy values into the variable of this name."""
        variables = canonical_variables(self.network)
        canonical, row = next((c, r) for c, r in self._rows.items() if r.foreign == name)
        variables[canonical].assign(np.ascontiguousarray(row.move.read(value)))

    @classmethod
    def _built(cls, config: ConvNextConfig, dtype: str | None) -> Self:
        with precision(dtype):
            return cls(config)


def _channels_first(x: Any) -> Any:
    return keras.ops.transpose(x, (0, 3, 1, 2))


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextModel(_Model):
    """ConvNeXt without a classifier: returns the maps and the normalised pooled vector.

    Args:
        config: The configuration.
        **kwargs: Arguments of `keras.Model`.
    """

    kind = "model"


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextForImageClassification(_Model):
    """ConvNeXt with a classifier; returns the loss too if labels are given.

    Args:
        config: The configuration; with `num_labels=0`, logits are the pooled vector.
        **kwargs: Arguments of `keras.Model`.
    """

    kind = "classifier"

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """`keras.Model.compile`; the default loss is that of the configuration."""
        self._by_config = loss is None
        super().compile(optimizer, loss, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of a batch."""
        if not self._by_config:
            return super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        if sample_weight is not None:
            raise ArgumentError(
                "The loss of the configuration does not take sample_weight. Compile the model with "
                "a loss, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )
        if y is not None:
            return classification_loss(self.config, y_pred["logits"], y)
        if "loss" not in y_pred:
            raise ArgumentError(
                "There are no labels to train by. Give fit(pixel_values, labels), or labels beside "
                "pixel_values in a dictionary."
            )
        return y_pred["loss"]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The metrics of a batch, computed from its logits."""
        return super().compute_metrics(x, y, y_pred["logits"], sample_weight)


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextBackbone(_Model):
    """ConvNeXt as a backbone: returns normalised maps of the stages in `out_features`.

    Args:
        config: The configuration.
        **kwargs: Arguments of `keras.Model`.
    """

    kind = "backbone"


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextV2Model(ConvNextModel):
    """`ConvNextModel` with global response normalisation: V2."""

    config_class = ConvNextV2Config


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextV2ForImageClassification(ConvNextForImageClassification):
    """`ConvNextForImageClassification` with global response normalisation: V2."""

    config_class = ConvNextV2Config


@keras.saving.register_keras_serializable(package="convnext.hf")
class ConvNextV2Backbone(ConvNextBackbone):
    """`ConvNextBackbone` with global response normalisation: V2."""

    config_class = ConvNextV2Config


@keras.saving.register_keras_serializable(package="convnext.hf")
class DINOv3ConvNextModel(_Model):
    """DINOv3: returns a normalised vector of the picture and of each position of the last map.

    Args:
        config: The configuration.
        **kwargs: Arguments of `keras.Model`.
    """

    config_class = DINOv3ConvNextConfig
    kind = "model"


@keras.saving.register_keras_serializable(package="convnext.hf")
class DINOv3ConvNextBackbone(_Model):
    """DINOv3 as a backbone: returns the maps of the stages in `out_features`, without norms.

    Args:
        config: The configuration.
        **kwargs: Arguments of `keras.Model`.
    """

    config_class = DINOv3ConvNextConfig
    kind = "backbone"
