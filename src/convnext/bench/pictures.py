"""Reads the user's pictures for a race."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError
from convnext.images.batches import batches
from convnext.images.recipe import Preprocess

__all__ = ["MOST_PICTURES", "pictures_from"]

MOST_PICTURES = 256


def pictures_from(folder: str | Path, preprocess: Preprocess) -> tuple[NDArray[np.uint8], str]:
    """Read and preprocess the first pictures of a folder; returns them with a description.

    Args:
        folder: A folder, archive or pattern.
        preprocess: The model's preprocessing.

    Raises:
        ArgumentError: None of the pictures can be read.
    """
    good: list[NDArray[np.uint8]] = []
    bad: list[str] = []
    for batch in batches(folder, preprocess):
        good.extend(batch.pixels)
        bad.extend(str(error) for error in batch.errors.values())
        if len(good) >= MOST_PICTURES:
            break
    if not good:
        raise ArgumentError(f"{folder} has no picture that can be read: {bad[0]}")
    good = good[:MOST_PICTURES]
    about = f"{len(good)} pictures of {folder}" + (f" ({len(bad)} cannot be read)" if bad else "")
    return np.stack(good), about
