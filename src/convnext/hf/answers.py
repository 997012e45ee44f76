"""transformers' output objects from a network's maps and vectors, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from convnext.errors import ArgumentError
from convnext.hf.config import ConvNextConfig
from convnext.hf.losses import classification_loss
from convnext.hf.network import Kind
from convnext.hf.outputs import (
    BackboneOutput,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    ModelOutput,
)

__all__ = ["answer", "check_pixels", "given", "wants_maps"]


def check_pixels(config: ConvNextConfig, pixel_values: Any) -> None:
    """Refuse input that is not a batch of pictures.

    Raises:
        ArgumentError: It is None, or its axes or channels are wrong.
    """
    if pixel_values is None:
        raise ArgumentError(
            "You have to specify pixel_values: a batch of pictures (batch, channels, height, "
            "width), such as ConvNextImageProcessor gives."
        )
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] not in (config.num_channels, None):
        raise ArgumentError(
            f"pixel_values have the shape {shape}; (batch, {config.num_channels}, height, width) "
            f"is expected. Make sure that the channels come second and match "
            f"config.num_channels={config.num_channels}."
        )


def wants_maps(config: ConvNextConfig, option: bool | None) -> bool:
    """Whether to return every map; None for the configuration's default."""
    return bool(config.output_hidden_states if option is None else option)


def given(
    config: ConvNextConfig, out: ModelOutput, option: bool | None
) -> ModelOutput | tuple[Any, ...]:
    """`out`, or its tuple if the option is False; None for the configuration's default."""
    return out if (config.return_dict if option is None else option) else out.to_tuple()


def tokens(pooled: Any, positions: Any) -> Any:
    """Each picture's vector, then its positions' vectors: `(batch, 1 + positions, channels)`."""
    width = pooled.shape[-1]
    one_by_one = ops.reshape(positions, (ops.shape(positions)[0], -1, width))
    return ops.concatenate([ops.expand_dims(pooled, 1), one_by_one], 1)


def answer(
    config: ConvNextConfig,
    kind: Kind,
    found: Mapping[str, Any],
    channels_first: Callable[[Any], Any],
    *,
    labels: Any = None,
    output_hidden_states: bool | None = None,
) -> ModelOutput:
    """The output object of a model.

    Args:
        config: The model's configuration.
        kind: The kind of model.
        found: The network's outputs by name, channels last.
        channels_first: Moves the channels of a map to the front.
        labels: A classifier's labels; None for no loss.
        output_hidden_states: Whether to return every map; None for the configuration's default.
    """
    wants_all = wants_maps(config, output_hidden_states)
    maps = tuple(channels_first(found[n]) for n in config.stage_names) if wants_all else None
    if kind == "model":
        if "normed" in found:
            last = tokens(found["pooled"], found["normed"])
        else:
            last = maps[-1] if maps else channels_first(found[config.stage_names[-1]])
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=found["pooled"], hidden_states=maps
        )
    if kind == "backbone":
        wanted = tuple(channels_first(found[f"feature_{name}"]) for name in config.out_features)
        return BackboneOutput(feature_maps=wanted, hidden_states=maps)
    logits = found["logits"]
    loss = None if labels is None else classification_loss(config, logits, labels)
    return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=maps)
