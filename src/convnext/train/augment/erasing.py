"""Random erasing of rectangles of a normalised picture.

In normalised values, 0 is the mean colour, and unit Gaussian noise has a picture's deviation.

Reference: Zhong et al., "Random Erasing Data Augmentation", 2017, as in timm.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "EraseMode", "erase", "erased_boxes"]

EraseMode = Literal["pixel", "const", "rand"]

AREA = (0.02, 1 / 3)  # of the picture, shared by its boxes
ASPECT = (0.3, 1 / 0.3)  # height to width
ATTEMPTS = 10  # to draw a box that fits


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


def erased_boxes(
    height: int, width: int, rng: np.random.Generator, max_count: int = 1
) -> list[Box]:
    """Draw one to `max_count` boxes to erase; fewer if some do not fit."""
    count = int(rng.integers(1, max_count, endpoint=True)) if max_count > 1 else 1
    boxes = []
    for _ in range(count):
        for _ in range(ATTEMPTS):
            area = rng.uniform(*AREA) * height * width / count
            aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if w < width and h < height:
                top = int(rng.integers(0, height - h, endpoint=True))
                left = int(rng.integers(0, width - w, endpoint=True))
                boxes.append(Box(top, left, h, w))
                break
    return boxes


def erase(
    picture: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    probability: float = 0.25,
    mode: EraseMode = "pixel",
    max_count: int = 1,
) -> None:
    """Erase boxes of a picture in place, with some probability.

    Args:
        picture: `[height, width, 3]`, normalised.
        rng: The random generator.
        probability: Of erasing anything.
        mode: The fill: noise in every pixel, the mean colour, or one random colour for each box.
        max_count: The most boxes.
    """
    if rng.random() >= probability:
        return
    height, width, _ = picture.shape
    for box in erased_boxes(height, width, rng, max_count):
        part = picture[box.top : box.top + box.height, box.left : box.left + box.width]
        if mode == "pixel":
            part[:] = rng.standard_normal(part.shape, np.float32)
        else:
            part[:] = rng.standard_normal(3, np.float32) if mode == "rand" else 0
