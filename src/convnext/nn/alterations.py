"""What is changed about a model that is built: its classifier, and what training keeps of it."""

from __future__ import annotations

import keras

from convnext.errors import ArgumentError
from convnext.nn.block import Block
from convnext.nn.model import dense

__all__ = ["reset_classifier", "set_grad_checkpointing"]


def reset_classifier(model: keras.Model, num_classes: int) -> keras.Model:
    """The same network, its layers shared, with a new classifier.

    Args:
        model: A model of this package with a classifier.
        num_classes: Width of the new one; 0 for none, so that what is classified comes out.
    """
    old = next((layer for layer in model.layers if layer.name == "head"), None)
    if old is None:
        raise ArgumentError(
            f"The model {model.name!r} has no layer head. Build it with include_top=True."
        )
    x = dense(num_classes, "head", old.activation)(old.input) if num_classes else old.input
    return keras.Model(model.input, x, name=model.name)


def set_grad_checkpointing(model: keras.Model, enable: bool = True) -> None:
    """Have training keep less: each block is computed once more for its gradient.

    To be set before training begins: a step that is compiled already stays as it is.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, Block)]
    if not blocks:
        raise ArgumentError(f"The model {model.name!r} has no ConvNeXt blocks of this package.")
    for block in blocks:
        block.grad_checkpointing = enable
