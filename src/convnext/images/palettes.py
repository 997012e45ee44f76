"""Colours of classes, for maps of them."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from convnext.images.labels import Labels, ade20k_classes, labels_for

__all__ = ["palette"]

GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, never come close to an earlier one soon
LEVELS = ((0.85, 0.95), (0.55, 0.75), (0.95, 0.6))  # saturation and value, in turn


def palette(classes: Labels | int) -> NDArray[np.uint8]:
    """Return a colour for each class, as bytes `(classes, 3)` of red, green and blue.

    ADE20K's classes have the colours of its benchmark. All others have colours that are far from
    those of the classes around them, always the same for a class's number.

    Args:
        classes: The classes' names, or how many there are.

    Example:
        >>> palette(labels_for("ade20k"))[0], palette(2).shape
        (array([120, 120, 120], dtype=uint8), (2, 3))
    """
    if classes == labels_for("ade20k"):
        colours = [tuple(bytes.fromhex(colour)) for _, colour in ade20k_classes()]
        return np.array(colours, np.uint8)
    count = classes if isinstance(classes, int) else len(classes)
    generated = [
        colorsys.hsv_to_rgb(number * GOLDEN % 1, *LEVELS[number % len(LEVELS)])
        for number in range(count)
    ]
    return np.round(255 * np.reshape(generated, (count, 3))).astype(np.uint8)
