"""FCMAE: ConvNeXt V2's masked autoencoder, without sparse convolutions.

The authors' code needs a sparse-tensor engine. At visible positions, a submanifold convolution
equals a dense one on a map whose hidden positions are zero. So the encoder uses its ordinary
layers: pointwise ones, nearly all of the work, compute a list of the visible positions, and
convolutions a map that is zero elsewhere. GRN over the list has the statistics of one picture's
visible positions.

Two details of the authors' code that the paper lacks are left out: GRN's statistics over all
pictures of a batch, and initial values with a deviation of 1.0 instead of 0.02.

Reference: https://arxiv.org/abs/2301.00808
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convnext.architecture import Geometry, Strides, Variant
from convnext.errors import ArgumentError
from convnext.nn.block import KERNEL_STDDEV
from convnext.nn.initializers import Normal
from convnext.nn.layers import Linear, PatchConv
from convnext.nn.model import Block, build_model
from convnext.nn.visible import Listed, Mapped, Positions, find_positions, mapped
from convnext.train.sections import Masking

__all__ = [
    "MaskToken",
    "MaskedAutoencoder",
    "autoencoder",
    "decoded",
    "draw_visible",
    "encode_visible",
]

PATCH_EPSILON = 1e-6  # added to a patch's variance


def autoencoder(
    variant: Variant, side: int, strides: Strides, masking: Masking, *, drop_path_rate: float = 0.0
) -> MaskedAutoencoder:
    """Build an encoder of visible patches and a decoder of the hidden ones.

    Args:
        variant: The encoder's architecture.
        side: Of the pictures, in pixels.
        strides: Of the encoder. Their product is the side of a patch.
        masking: The recipe's section on the decoder and its targets.
        drop_path_rate: Stochastic depth of the encoder's last block.

    Raises:
        ArgumentError: The pictures do not divide into patches, or there are too few patches.

    Example:
        >>> from convnext.architecture import VARIANTS
        >>> model = autoencoder(VARIANTS["test_v2"], 64, (4, 2, 2, 2), Masking(decoder_width=32))
        >>> model.output_shape
        (None, 2, 2, 3072)
    """
    patch = math.prod(strides)
    if side % patch:
        raise ArgumentError(
            f"Pictures of {side} pixels do not divide into patches of {patch}, the product of the "
            f"strides {strides}. Set model.resolution to a multiple of {patch}, or model.strides."
        )
    grid = side // patch
    count = visible_count(grid, masking.ratio)
    encoder = build_model(
        variant,
        input_shape=(side, side, 3),
        geometry=Geometry(strides),
        include_top=False,
        drop_path_rate=drop_path_rate,
    )
    visible = keras.Input((grid, grid, 1), name="visible")
    x, positions = encode_visible(encoder, encoder.input, visible, count)  # (B, count, 1, dim)
    x = decoded(x, positions, masking, patch)  # (B, h, w, patch * patch * 3)
    model = MaskedAutoencoder([encoder.input, visible], x, name=f"fcmae_{variant.name}")
    model.patch, model.normalise = patch, masking.normalise
    return model


def encode_visible(
    encoder: keras.Model, pictures: Any, visible: Any, count: int
) -> tuple[Any, Positions]:
    """Encode the visible positions of pictures.

    Args:
        encoder: From `build_model`, without a top.
        pictures: `(batch, side, side, 3)`, symbolic.
        visible: `(batch, h, w, 1)`, symbolic: 1 at visible positions of the last map, else 0.
        count: Visible positions of each picture.

    Returns:
        The features, `(batch, count, 1, dim)`, and their positions.
    """

    def seen(side: int) -> Any:
        """The mask at the size of a feature map."""
        factor = side // visible.shape[1]
        return ops.repeat(ops.repeat(visible, factor, axis=1), factor, axis=2)

    x, positions = pictures * seen(pictures.shape[1]), None
    for layer in encoder.layers[1:]:
        if isinstance(layer, PatchConv):
            y = layer(x if positions is None else Mapped()(x, positions))
            side = y.shape[1]
            positions = find_positions(seen(side), count * (side // visible.shape[1]) ** 2)
            x = Listed()(y, positions)
        elif isinstance(layer, Block):
            x = layer(x, positions=positions)
        else:
            x = layer(x)
    assert positions is not None
    return x, positions


def decoded(features: Any, positions: Positions, masking: Masking, patch: int) -> Any:
    """Predict all patches of the pictures.

    Args:
        features: Of the visible patches, `(batch, count, 1, dim)`, symbolic.
        positions: Positions of the visible patches.
        masking: The recipe's section on the decoder.
        patch: Side of a patch, in pixels.
    """
    x = _linear(masking.decoder_width, "decoder_proj")(features)
    x = MaskToken(name="decoder_mask")(x, positions)
    for number in range(masking.decoder_depth):
        x = Block(grn=True, name=f"decoder_block_{number}")(x)
    return _linear(3 * patch**2, "decoder_pred")(x)


def visible_count(grid: int, ratio: float) -> int:
    """Number of visible patches of a picture, rounded as the authors do.

    Raises:
        ArgumentError: No patch would be visible, or none hidden.
    """
    count = int(grid**2 * (1 - ratio))
    if not 0 < count < grid**2:
        raise ArgumentError(
            f"With {grid}x{grid} patches, a ratio of {ratio:g} leaves {count} visible. Set "
            "masking.ratio so that some are visible and some are hidden, or make patches smaller "
            "with model.strides, or pictures larger with model.resolution."
        )
    return count


def draw_visible(
    pictures: int, grid: int, ratio: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the visible patches of each picture: `[pictures, grid, grid, 1]`, 1 or 0.

    Example:
        >>> int(draw_visible(1, 7, 0.6, np.random.default_rng(0)).sum())
        19
    """
    order = rng.random((pictures, grid**2)).argsort(axis=1).argsort(axis=1)
    seen = order < visible_count(grid, ratio)
    return seen.reshape(pictures, grid, grid, 1).astype(np.float32)


def to_patches(pictures: Any, patch: int) -> Any:
    """Reshape `(batch, side, side, c)` to `(batch, h, w, patch * patch * c)`, channels last."""
    _, height, width, channels = pictures.shape
    rows, columns = height // patch, width // patch
    x = ops.reshape(pictures, (-1, rows, patch, columns, patch, channels))
    return ops.reshape(
        ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, patch**2 * channels)
    )


def patch_statistics(patches: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of each patch, from the unbiased variance."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    count = patches.shape[-1]
    variance = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True) / (count - 1)
    return mean, ops.sqrt(variance + PATCH_EPSILON)


class MaskedAutoencoder(keras.Model):  # type: ignore[misc]
    """Predicts all patches from pictures and the mask of visible patches.

    Attributes:
        patch: Side of a patch, in pixels.
        normalise: Whether each target patch is normalised by its own mean and deviation.
    """

    patch: int
    normalise: bool

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean squared error over hidden patches."""
        del y, sample_weight, training
        pictures, visible = x
        targets = to_patches(ops.cast(pictures, "float32"), self.patch)
        if self.normalise:
            mean, deviation = patch_statistics(targets)
            targets = (targets - mean) / deviation
        errors = ops.mean(ops.square(ops.cast(y_pred, "float32") - targets), axis=-1)
        hidden = 1.0 - ops.cast(visible, "float32")[..., 0]
        return ops.sum(errors * hidden) / ops.sum(hidden)


@keras.saving.register_keras_serializable(package="convnext")
class MaskToken(keras.layers.Layer):  # type: ignore[misc]
    """Puts listed positions into a map, with one learned vector at all others."""

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the vector, for lists `(batch, count, 1, width)`."""
        self.token = self.add_weight(
            shape=(input_shape[-1],), initializer=Normal(KERNEL_STDDEV), name="token"
        )

    def call(self, x: Any, positions: Positions) -> Any:
        """Map `(batch, count, 1, width)` to `(batch, height, width, width)`."""
        hidden = ops.cast(positions.in_list == x.shape[1], x.dtype)
        return mapped(x, positions) + self.token * hidden[..., None]


def _linear(width: int, name: str) -> keras.Layer:
    return Linear(width, None, Normal(KERNEL_STDDEV), name=name)
