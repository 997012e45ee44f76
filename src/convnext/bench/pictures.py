"""The pictures that a race runs on: the user's own, or generated ones that resemble pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.errors import ArgumentError
from convnext.images.batches import batches
from convnext.images.recipe import Preprocess

__all__ = ["MOST_PICTURES", "generated_pictures", "pictures_from"]

MOST_PICTURES = 256
GRAIN = (2, 4, 8, 16, 32, 64)  # cells on a side, each half as strong as the coarser one


def pictures_from(folder: str | Path, preprocess: Preprocess) -> tuple[NDArray[np.uint8], str]:
    """The first pictures of a folder, as the model sees them, and what to say about them.

    Args:
        folder: A folder, archive or pattern.
        preprocess: The model's recipe.

    Raises:
        ArgumentError: No picture in there can be read.
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
    said = f"{len(good)} pictures of {folder}" + (f" ({len(bad)} cannot be read)" if bad else "")
    return np.stack(good), said


def generated_pictures(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of clouds: large forms strong and small ones weak, as in photographs.

    Args:
        count: How many.
        side: Height and width.
        seed: The same seed, the same pictures.

    Returns:
        `[count, side, side, 3]`.
    """
    rng = np.random.default_rng(seed)
    return np.stack([_clouds(rng, side) for _ in range(count)])


def _clouds(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    mean, contrast = rng.uniform(60, 200, 3), rng.uniform(10, 60)
    picture = np.broadcast_to(mean, (side, side, 3)).copy()
    for level, cells in enumerate(GRAIN):
        coarse = rng.normal(0, contrast / 2**level, (cells, cells, 3))
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel].astype(np.float32))
            picture[..., channel] += np.asarray(
                layer.resize((side, side), Image.Resampling.BICUBIC)
            )
    return np.clip(picture, 0, 255).astype(np.uint8)
