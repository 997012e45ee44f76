"""What models answer: the output classes of transformers, without a framework.

An answer is an ordered dictionary of what is there; what is not there (None) has no key. Its fields
are attributes too, and numbers count what is there: `output.logits`, `output["logits"]` and, when
there was no loss, `output[0]` are the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

__all__ = [
    "BackboneOutput",
    "BaseModelOutputWithNoAttention",
    "BaseModelOutputWithPoolingAndNoAttention",
    "ImageClassifierOutputWithNoAttention",
    "ModelOutput",
]


class ModelOutput(OrderedDict[str, Any]):
    """Base of all answers.

    Args:
        items: Pairs of a field and its value.
        **values: Values by field.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **values: Any
    ) -> None:
        given = {**dict(items), **values}
        unknown = [name for name in given if name not in self.fields]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {unknown[0]!r}")
        super().__init__((n, given[n]) for n in self.fields if given.get(n) is not None)

    def __getattr__(self, name: str) -> Any:
        if name in type(self).fields:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are there, in the order of the fields."""
        return tuple(super(ModelOutput, self).__getitem__(name) for name in self)


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """Of a model: the last map, the pooled vector after its norm, every map."""

    fields = ("last_hidden_state", "pooler_output", "hidden_states")


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """Of a classifier: the loss if there were labels, the logits, every map."""

    fields = ("loss", "logits", "hidden_states")


class BaseModelOutputWithNoAttention(ModelOutput):
    """Of a model's stages: the last map, every map."""

    fields = ("last_hidden_state", "hidden_states")


class BackboneOutput(ModelOutput):
    """Of a backbone: the maps of the stages that were asked for, every map; no attentions ever."""

    fields = ("feature_maps", "hidden_states", "attentions")
