"""Draws a training batch with its targets.

A wrong mean, too strong an augmentation or shifted labels are visible in it, but in no metric.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convnext.atomic import replaced
from convnext.data.labelled import Examples
from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order

__all__ = ["contact_sheet"]

COLUMNS, ROWS = 8, 5
LEAST_SIDE = 112  # pixels: smaller pictures are enlarged, so that a label fits below
GAP, LINE = 4, 12  # pixels
NAMED = 2  # classes written below a picture
LEAST_SHARE = 0.02  # of a class that is written
CHARACTER = 6  # pixels, in Pillow's built-in font


def contact_sheet(
    examples: Examples,
    augmentation: Augmentation,
    mixer: Mixer | None,
    seed: int,
    out: str | Path,
    *,
    balanced: bool = False,
) -> None:
    """Draw the first 40 pictures of a run with their targets, as PNG.

    Args:
        examples: The training data.
        augmentation: Augments each picture.
        mixer: Mixes the batch; None for pictures without labels.
        seed: Of the run.
        out: The file, which is replaced if it exists.
        balanced: Whether all classes are equally frequent in the run.

    Raises:
        ArgumentError: The file cannot be written.
        ImageError: Most pictures cannot be read.
    """
    out = Path(out)
    order = Order(examples.labels, seed=seed, balanced=balanced)
    with Loader(
        examples, augmentation, mixer, order, batch_size=COLUMNS * ROWS, seed=seed, workers=0
    ) as loader:
        [batch] = loader.batches(0, 1)
    recipe = augmentation.preprocess
    values = (batch.pictures * np.array(recipe.std) + np.array(recipe.mean)) / recipe.rescale
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    captions = [_caption(t, examples.classes) if mixer else [] for t in batch.targets]
    sheet = _drawn(pixels, captions)
    try:
        with replaced(out) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise ArgumentError(f"The contact sheet {out} cannot be written: {error}") from error


def _caption(target: NDArray[np.float32], classes: tuple[str, ...]) -> list[str]:
    lines = []
    for number in np.argsort(-target, kind="stable")[:NAMED].tolist():
        if target[number] >= LEAST_SHARE:
            name = classes[number].split(", ")[0] if number < len(classes) else str(number)
            lines.append(f"{target[number]:.2f} {name}")
    return lines


def _drawn(pixels: NDArray[np.uint8], captions: list[list[str]]) -> Image.Image:
    size = pixels.shape[1]
    side = size * max(1, -(-LEAST_SIDE // size))
    width, height = side + GAP, side + GAP + NAMED * LINE
    sheet = Image.new("RGB", (COLUMNS * width + GAP, ROWS * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (picture, lines) in enumerate(zip(pixels, captions, strict=True)):
        left, top = GAP + index % COLUMNS * width, GAP + index // COLUMNS * height
        drawn = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(drawn, (left, top))
        for number, line in enumerate(lines):
            text = line[: side // CHARACTER].encode("latin-1", "replace").decode("latin-1")
            pen.text((left, top + side + number * LINE), text, fill="black")
    return sheet
