"""Draws the predictions of a masked autoencoder: original, visible patches, prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.atomic import replaced
from convnext.classifier.heatmap import captioned, contact_sheet
from convnext.images.recipe import Preprocess
from convnext.train.run.run_states import disk_errors

__all__ = ["draw_reconstructions", "reconstructed"]

Array = NDArray[np.float32]

SMALLEST_SIDE = 128  # pixels: smaller pictures are drawn larger
COLUMNS = 2  # of three pictures each
HIDDEN = 0.5  # grey
EPSILON = 1e-6  # added to a patch's variance


def reconstructed(pictures: Array, visible: Array, predicted: Array, *, normalised: bool) -> Array:
    """Replace the hidden patches of pictures by their predictions.

    A decoder of normalised patches does not predict brightness and contrast; these are taken from
    the original.

    Args:
        pictures: `[n, side, side, 3]`.
        visible: `[n, h, w, 1]`.
        predicted: `[n, h, w, patch * patch * 3]`.
        normalised: Whether the decoder was trained on normalised patches.
    """
    count, rows, columns, width = predicted.shape
    patch = round((width / 3) ** 0.5)
    cut = pictures.reshape(count, rows, patch, columns, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    cut = cut.reshape(predicted.shape)
    if normalised:
        mean = cut.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(cut.var(axis=-1, ddof=1, keepdims=True) + EPSILON)
        predicted = predicted * deviation + mean
    whole = np.where(visible > 0, cut, predicted)
    whole = whole.reshape(count, rows, columns, patch, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    found: Array = whole.reshape(pictures.shape)
    return found


def draw_reconstructions(
    pictures: Array,
    visible: Array,
    predicted: Array,
    preprocess: Preprocess,
    out: Path,
    *,
    normalised: bool,
    names: Sequence[str] = (),
) -> None:
    """Write a PNG with three pictures in a row: original, visible patches, prediction.

    Args:
        pictures: `[n, side, side, 3]`, normalised.
        visible: `[n, h, w, 1]`.
        predicted: `[n, h, w, patch * patch * 3]`.
        preprocess: The model's preprocessing.
        out: The file.
        normalised: Whether the decoder was trained on normalised patches.
        names: Names of the pictures.

    Raises:
        TrainingError: It cannot be written.
    """
    patch = pictures.shape[1] // visible.shape[1]
    mask = visible.repeat(patch, axis=1).repeat(patch, axis=2)
    colours = _colours(pictures, preprocess)
    prediction = _colours(
        reconstructed(pictures, visible, predicted, normalised=normalised), preprocess
    )
    rows = zip(colours, colours * mask + HIDDEN * (1 - mask), prediction, strict=True)
    titles = names or [""] * len(pictures)
    panels = [
        captioned([_image(picture) for picture in row], title, "original, visible, predicted")
        for row, title in zip(rows, titles, strict=True)
    ]
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replaced(out) as temporary:
            contact_sheet(panels, COLUMNS).save(temporary, format="PNG")


def _colours(pictures: Array, preprocess: Preprocess) -> Array:
    std, mean = np.array(preprocess.std, np.float32), np.array(preprocess.mean, np.float32)
    clipped: Array = (pictures * std + mean).clip(0, 1)
    return clipped


def _image(colours: Array) -> Image.Image:
    image = Image.fromarray(np.rint(255 * colours).astype(np.uint8))
    factor = -(-SMALLEST_SIDE // image.width)
    return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
