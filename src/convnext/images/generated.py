"""Generated pictures for timing and comparing networks, correlated in space like photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["generated_pictures"]

GRAIN = (2, 4, 8, 16, 32, 64)  # cells per side of each layer; each has half the contrast


def generated_pictures(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of cloud noise: strong low and weak high frequencies, as in photographs.

    Args:
        count: Number of pictures.
        side: Height and width.
        seed: Of the random numbers.

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
