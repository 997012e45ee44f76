"""Change a built model: its outputs, its classifier, or gradient checkpointing."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from convnext.errors import ArgumentError
from convnext.nn.block import Block
from convnext.nn.model import dense

__all__ = ["feature_maps", "reset_classifier", "set_grad_checkpointing"]


def feature_maps(model: keras.Model, stages: Sequence[int] = ()) -> keras.Model:
    """Create a model that shares its layers and outputs the stages' feature maps.

    Args:
        model: A model of this package.
        stages: Numbers of the stages, from 0; by default all.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> from convnext.nn.model import build_model
        >>> model = build_model(ARCHITECTURES["test_v2"], input_shape=(64, 64, 3))
        >>> [m.shape for m in feature_maps(model, (1, 3)).outputs]
        [(None, 8, 8, 16), (None, 2, 2, 32)]
    """
    layers = {layer.name: layer for layer in model.layers}
    wanted = [f"stage_{stage}" for stage in stages or range(4 if "stage_1" in layers else 1)]
    missing = [name for name in wanted if name not in layers]
    if missing:
        raise ArgumentError(
            f"The model {model.name!r} has no layers {', '.join(missing)}: it is not a ConvNeXt "
            "model of this package. Build one with create_convnext_v1 or create_convnext_v2."
        )
    outputs = [layers[name].output for name in wanted]
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def reset_classifier(model: keras.Model, num_classes: int) -> keras.Model:
    """Create a model that shares its layers and has a new classifier.

    Args:
        model: A model of this package with a classifier.
        num_classes: Width of the new classifier; 0 for none, to output the classifier's input.
    """
    old = next((layer for layer in model.layers if layer.name == "head"), None)
    if old is None:
        raise ArgumentError(
            f"The model {model.name!r} has no layer head. Build it with include_top=True."
        )
    x = dense(num_classes, "head", old.activation)(old.input) if num_classes else old.input
    return keras.Model(model.input, x, name=model.name)


def set_grad_checkpointing(model: keras.Model, enable: bool = True) -> None:
    """Save memory in training by computing each block again for its gradient.

    Call it before training: a training step that is compiled already does not change.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, Block)]
    if not blocks:
        raise ArgumentError(f"The model {model.name!r} has no ConvNeXt blocks of this package.")
    for block in blocks:
        block.grad_checkpointing = enable
