"""Load a module of the collection as a Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import convnext
from convnext.architecture import VARIANTS
from convnext.errors import ArgumentTypeError
from convnext.hub.collection import get_module

if TYPE_CHECKING:
    import keras

__all__ = ["load"]


def load(name: str, trainable: bool = False, *, weights: str | Path | None = None) -> keras.Model:
    """Load a module of the collection, or a new one, as a Keras model.

    Args:
        name: Its name or handle, see `get_module`.
        trainable: Whether its variables are trainable, as in `tensorflow_hub.KerasLayer`.
        weights: A weights file in any layout, such as the collection's own archive; by default the
            published checkpoint, from the cache or downloaded.

    Returns:
        A model from normalised pictures `(batch, side, side, 3)` to logits or, for a feature
        extractor, to the layer-normalised mean of the last feature map.

    Raises:
        UnknownNameError: There is no such module; suggests similar names.
        WeightsMismatchError: The file has the weights of another model.

    Example:
        backbone = hub.load("convnext_tiny_1k_224_fe", trainable=True)
        model = keras.Sequential([backbone, keras.layers.Dense(5)])
    """
    module = get_module(name)
    if not isinstance(trainable, bool):
        raise ArgumentTypeError(f"trainable must be True or False, not {trainable!r}.")
    variant = VARIANTS[module.architecture]
    create = getattr(convnext, f"create_convnext_{variant.family}")
    model: keras.Model = create(
        variant.size,
        module.num_classes or 1,
        (module.resolution, module.resolution, 3),
        include_top=not module.feature_extractor,
        pooling="avg" if module.feature_extractor else None,
        classifier_activation=None,
        weights=module.checkpoint if weights is None else weights,
        name=module.name,
    )
    model.trainable = trainable
    return model
