"""Pictures of two classes that are easy to learn: red and blue noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_colours(folder: Path, **counts: int) -> Path:
    """Write so many pictures, half of each class, into each part: `train=96, val=20`."""
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for label, channel in (("blue", 2), ("red", 0)):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(count // 2):
                pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 110
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder
