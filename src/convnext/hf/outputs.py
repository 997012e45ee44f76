"""The output classes of transformers, without a framework.

An output is an ordered dictionary of the fields that are not None. Fields are attributes too, and
numbers index the fields that are present: `output.logits`, `output["logits"]` and, without a loss,
`output[0]` are the same.
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
    """Base class of outputs.

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
        """The values that are not None, in the order of the fields."""
        return tuple(super(ModelOutput, self).__getitem__(name) for name in self)


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """Outputs of a model: the last map, the normalised pooled vector, every map."""

    fields = ("last_hidden_state", "pooler_output", "hidden_states")


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """Outputs of a classifier: the loss if there were labels, the logits, every map."""

    fields = ("loss", "logits", "hidden_states")


class BaseModelOutputWithNoAttention(ModelOutput):
    """Outputs of an encoder: the last map, every map."""

    fields = ("last_hidden_state", "hidden_states")


class BackboneOutput(ModelOutput):
    """Outputs of a backbone: maps of `out_features`, every map; `attentions` is always None."""

    fields = ("feature_maps", "hidden_states", "attentions")
