"""Draw pictures of two objects for a multi-label model, with a table of their labels.

    python benchmarks/two_objects.py two_objects --train 2000 --validation 500
    convnext train multi_label --data two_objects/labels.csv --out runs/two_objects ...

A picture has noise and up to two objects (mostly two) of three shapes and four colours: twelve
labels, such as "red disc". Objects may overlap.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
}
SHAPES = ("square", "disc", "triangle")
COUNTS = (0, 1, 2, 2, 2, 2)  # objects in a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = write(args.out, {"train": args.train, "val": args.validation}, args.side, args.seed)
    print(f"{table}: {args.train:,} + {args.validation:,} pictures.")


def write(out: Path, counts: dict[str, int], side: int, seed: int = 0) -> Path:
    """Write pictures and the table, whose columns are path, labels and split."""
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True)
    table = out / "labels.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "labels", "split"])
        for split, count in counts.items():
            for number in range(count):
                picture, labels = draw(rng, side)
                name = f"{split}_{number}.png"
                picture.save(out / name)
                rows.writerow([name, "|".join(labels), split])
    return table


def draw(rng: np.random.Generator, side: int) -> tuple[Image.Image, list[str]]:
    """A picture, and the labels of what is in it."""
    picture = Image.fromarray(rng.integers(0, 90, (side, side, 3), np.uint8))
    pen = ImageDraw.Draw(picture)
    labels = set()
    for _ in range(rng.choice(COUNTS)):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        width = int(rng.integers(side // 4, side // 2))
        left, top = rng.integers(0, side - width, 2).tolist()
        box = (left, top, left + width, top + width)
        if shape == "square":
            pen.rectangle(box, fill=COLOURS[colour])
        elif shape == "disc":
            pen.ellipse(box, fill=COLOURS[colour])
        else:
            corners = [(left, box[3]), (box[2], box[3]), (left + width // 2, top)]
            pen.polygon(corners, fill=COLOURS[colour])
        labels.add(f"{colour} {shape}")
    return picture, sorted(labels)


if __name__ == "__main__":
    main()
