"""What each augmentation does to a picture: one row for each, drawn eight times.

python examples/augmentations.py PICTURE OUT [SIZE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from convnext.images.decode import decode
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Augment, Augmentation

STILL = {"crop": "center", "flip": 0.0}
ROWS = {
    "crop (default)": (Augment(flip=0.0), Mixing()),
    "padding 16": (Augment(padding=16, flip=0.0), Mixing()),
    "color_jitter 0.4": (Augment(**STILL, color_jitter=0.4), Mixing()),
    "rand-m9-mstd0.5-inc1": (Augment(**STILL, rand_augment="rand-m9-mstd0.5-inc1"), Mixing()),
    "erase": (Augment(**STILL, erase=1.0), Mixing()),
    "mixup 0.8": (Augment(**STILL), Mixing(mixup=0.8)),
    "cutmix 1.0": (Augment(**STILL), Mixing(cutmix=1.0)),
}
COLUMNS, GAP, LINE = 8, 4, 14


def drawn(values: np.ndarray, recipe: Preprocess) -> Image.Image:
    """Normalised numbers as a picture again."""
    pixels = (values * np.array(recipe.std) + np.array(recipe.mean)) / recipe.rescale
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def main() -> None:
    path, out = map(Path, sys.argv[1:3])
    recipe = Preprocess(size=int(sys.argv[3]) if len(sys.argv) > 3 else 112)
    picture, rng = decode(path), np.random.default_rng(0)
    mirrored = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)  # someone to be mixed with
    side, height = recipe.size + GAP, recipe.size + GAP + LINE
    sheet = Image.new("RGB", (COLUMNS * side + GAP, len(ROWS) * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (title, (settings, mixing)) in enumerate(ROWS.items()):
        augmentation, mixer = Augmentation(settings, recipe), Mixer(mixing, 2)
        pen.text((GAP, row * height + 1), title, fill="black")
        for column in range(COLUMNS):
            pair = np.stack([augmentation(one, rng) for one in (picture, mirrored)])
            mixed, _ = mixer(pair, np.array([0, 1]), rng)
            place = (GAP + column * side, row * height + LINE)
            sheet.paste(drawn(mixed[0], recipe), place)
    sheet.save(out, quality=80)


if __name__ == "__main__":
    main()
