"""From a network's maps and vectors to what a model of transformers answers, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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

__all__ = ["Asked", "answer", "check_pixels"]


@dataclass(frozen=True)
class Asked:
    """What a caller wants to know.

    Attributes:
        labels: What a classifier's loss is taken against; None for no loss.
        output_hidden_states: Whether every map is wanted; None for what the configuration says.
        return_dict: False for a plain tuple; None for what the configuration says.
    """

    labels: Any = None
    output_hidden_states: bool | None = None
    return_dict: bool | None = None


def check_pixels(config: ConvNextConfig, pixel_values: Any) -> None:
    """Refuse what cannot be a batch of pictures.

    Raises:
        ArgumentError: There is none, or it has other axes or channels.
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


def answer(
    config: ConvNextConfig,
    kind: Kind,
    found: Mapping[str, Any],
    asked: Asked,
    channels_first: Callable[[Any], Any],
) -> ModelOutput | tuple[Any, ...]:
    """The answer of a model of this kind.

    Args:
        config: Of the model.
        kind: Which model it is.
        found: The network's outputs by name, channels last.
        asked: What the caller wants.
        channels_first: Turns the axes of a map.
    """
    wants_all = asked.output_hidden_states
    if wants_all is None:
        wants_all = config.output_hidden_states
    maps = tuple(channels_first(found[n]) for n in config.stage_names) if wants_all else None
    out: ModelOutput
    if kind == "model":
        last = maps[-1] if maps else channels_first(found[config.stage_names[-1]])
        out = BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=found["pooled"], hidden_states=maps
        )
    elif kind == "backbone":
        wanted = tuple(channels_first(found[f"feature_{name}"]) for name in config.out_features)
        out = BackboneOutput(feature_maps=wanted, hidden_states=maps)
    else:
        logits = found["logits"]
        loss = None
        if asked.labels is not None:
            loss = classification_loss(config, logits, asked.labels)
        out = ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=maps)
    as_class = config.return_dict if asked.return_dict is None else asked.return_dict
    return out if as_class else out.to_tuple()
