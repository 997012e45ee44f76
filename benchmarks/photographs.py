"""JPEGs that cost as much to decode as photographs do: parts of some, with a camera's noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parent.parent.parent / "shared" / "data" / "photos"
NAMES = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")
SIZE = (500, 375)  # of most pictures of ImageNet
QUALITY = 95
NOISE = 3  # what resizing has smoothed away; it brings a file to ImageNet's 110 kB


def write_photographs(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` different crops of the four photographs, at about `SIZE`."""
    originals = [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    rng = np.random.default_rng(seed)
    for number in range(count):
        original = originals[number % len(originals)]
        width, height = (int(side * rng.uniform(0.95, 1.05)) for side in SIZE)
        part = min(original.width / width, original.height / height) * rng.uniform(0.75, 1)
        left = rng.uniform(0, original.width - part * width)
        top = rng.uniform(0, original.height - part * height)
        box = (left, top, left + part * width, top + part * height)
        picture = original.resize((width, height), Image.Resampling.LANCZOS, box)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        noisy = np.asarray(picture) + rng.normal(0, NOISE, (height, width, 3))
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        picture.save(folder / f"{number:04}.jpg", quality=QUALITY)
