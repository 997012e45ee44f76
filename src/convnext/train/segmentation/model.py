"""The network of a segmentation run, and its loss: cross-entropy over pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from convnext.architecture import Architecture, Geometry
from convnext.nn.resizing import resized
from convnext.nn.segmenter import build_segmenter
from convnext.train.recipe import SegmentationRecipe

__all__ = ["TrainedSegmenter", "pixel_loss", "segmenter"]


class TrainedSegmenter(keras.Model):  # type: ignore[misc]
    """Scores at the first map's size, and those of the auxiliary head if there is one.

    Attributes:
        auxiliary_weight: Of the auxiliary head's loss.
    """

    auxiliary_weight: float

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of the scores, and of the auxiliary ones, enlarged to the size of the masks."""
        del x, sample_weight, training
        scores, *auxiliary = y_pred if isinstance(y_pred, list | tuple) else [y_pred]
        loss = pixel_loss(y, scores)
        for other in auxiliary:
            loss = loss + self.auxiliary_weight * pixel_loss(y, other)
        return loss


def segmenter(
    recipe: SegmentationRecipe, architecture: Architecture, num_classes: int, layer_scale: float
) -> TrainedSegmenter:
    """Build the network of a recipe.

    Args:
        recipe: The recipe.
        architecture: The encoder.
        num_classes: Number of classes.
        layer_scale: Initial value of layer scale, of architectures that have it.
    """
    side = recipe.model.resolution
    model = build_segmenter(
        architecture,
        recipe.head.head,
        num_classes,
        input_shape=(side, side, 3),
        geometry=Geometry(recipe.model.actual_strides),
        layer_scale_init_value=layer_scale,
        drop_path_rate=recipe.model.drop_path,
        drop_rate=recipe.head.dropout,
    )
    taps = ["scores", *(["auxiliary"] if recipe.head.auxiliary else [])]
    trained = TrainedSegmenter(model.input, [model.get_layer(tap).output for tap in taps])
    trained.auxiliary_weight = recipe.head.auxiliary_weight
    return trained


def pixel_loss(classes: Any, scores: Any) -> Any:
    """The cross-entropy, summed over pixels that have a class and divided by the number of all.

    As mmsegmentation's; so the loss of a batch is the mean of those of its parts.

    Args:
        classes: Class of each pixel, `(batch, height, width)`; negative for none.
        scores: Logits `(batch, h, w, classes)`, which are enlarged to the size of the masks.
    """
    classes = ops.cast(classes, "int32")
    sides = ops.shape(classes)[1:3]
    scores = ops.cast(scores, "float32")
    if tuple(scores.shape[1:3]) != tuple(classes.shape[1:3]):
        scores = resized(scores, sides)
    known = ops.cast(classes >= 0, "float32")
    chosen = ops.maximum(classes, 0)[..., None]
    logs = ops.log_softmax(scores, axis=-1)
    return -ops.mean(known * ops.take_along_axis(logs, chosen, axis=-1)[..., 0])
