"""Augmentation of a picture together with its mask: resize, crop, flip; colours of the picture.

The mask is resized by the nearest pixel, with the same centres as the picture, so that both stay
aligned. Steps and numbers are mmsegmentation's, in its order.

Reference: the authors' ADE20K pipeline, semantic_segmentation/configs, github.com/facebookresearch/
ConvNeXt; SSD's photometric distortion, https://arxiv.org/abs/1512.02325.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.train.settings import check, setting

__all__ = [
    "Distortion",
    "SegmentationAugment",
    "SegmentationAugmentation",
    "distorted",
    "draw_distortion",
    "nearest",
]

IGNORED = -1
ATTEMPTS = 10  # to draw a crop without a class that covers nearly all of it
BRIGHTNESS = 32  # of 255, at most
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18 / 180  # of the circle, at most

Classes = NDArray[np.int16]


@dataclass(frozen=True)
class SegmentationAugment:
    """Augmentation settings of a segmentation recipe, in the order in which they are applied."""

    short_side: int | None = setting(
        None, "short side of resized pictures, in pixels; none: model.resolution", low=8, high=8192
    )
    ratio: tuple[float, float] = setting(
        (0.5, 2.0), "short_side is multiplied by a random number, least and largest", low=0.05
    )
    most_of_one_class: float = setting(
        0.75, "share of a crop that one class may cover, in ten attempts; 1: any", low=0.01, high=1
    )
    flip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)
    photometric: bool = setting(
        True, "whether brightness, contrast, saturation and hue change at random"
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.ratio[0] <= self.ratio[1]:
            raise ArgumentError(f"ratio is [least, largest]; got {list(self.ratio)}.")


class Distortion(NamedTuple):
    """The change of a picture's colours; None for no change.

    Attributes:
        brightness: Added to each value.
        contrast: Multiplies each value.
        contrast_first: Whether contrast comes before saturation and hue, else after them.
        saturation: Multiplies the saturation.
        hue: Added to the hue, as a share of the circle.
    """

    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = True
    saturation: float | None = None
    hue: float | None = None


class SegmentationAugmentation:
    """Augments pictures and masks as the settings of a recipe say.

    Args:
        settings: The augmentation settings.
        preprocess: The model's preprocessing: size, means and deviations.
    """

    def __init__(self, settings: SegmentationAugment, preprocess: Preprocess) -> None:
        self.settings = settings
        self.preprocess = preprocess

    @property
    def size(self) -> int:
        """Side of the output, in pixels."""
        return self.preprocess.size

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> NDArray[np.float32]:
        """Transform a picture without a mask."""
        mask = np.zeros((picture.height, picture.width), np.int16)
        return self.pair(picture, mask, rng)[0]

    def pair(
        self, picture: Image.Image, mask: Classes, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Classes]:
        """Transform an RGB picture and its mask, `(height, width)`, to the output's size.

        Beyond the borders of a picture that is smaller, values are zeros and classes are ignored.
        """
        settings, size = self.settings, self.size
        short = (settings.short_side or size) * rng.uniform(*settings.ratio)
        scale = short / min(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        rows, columns = nearest(picture.height, height), nearest(picture.width, width)
        for _ in range(ATTEMPTS):
            top = int(rng.integers(0, max(height - size, 0), endpoint=True))
            left = int(rng.integers(0, max(width - size, 0), endpoint=True))
            classes = mask[rows[top : top + size]][:, columns[left : left + size]]
            if _is_varied(classes, settings.most_of_one_class):
                break
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        resized = resized.crop((left, top, left + classes.shape[1], top + classes.shape[0]))
        if rng.random() < settings.flip:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            classes = classes[:, ::-1]
        if settings.photometric:
            resized = distorted(resized, draw_distortion(rng))
        values = np.zeros((size, size, 3), np.float32)
        padded = np.full((size, size), IGNORED, np.int16)
        inside = tuple(map(slice, classes.shape))
        values[inside] = normalise(np.asarray(resized), self.preprocess)
        padded[inside] = classes
        return values, padded


def nearest(before: int, after: int) -> NDArray[np.int64]:
    """The position before resizing that is nearest to each position after.

    Example:
        >>> nearest(2, 4).tolist(), nearest(4, 2).tolist()
        ([0, 0, 1, 1], [1, 3])
    """
    return ((2 * np.arange(after) + 1) * before) // (2 * after)


def _is_varied(classes: Classes, most: float) -> bool:
    """Whether there are two classes, none of which covers more than a share of the pixels."""
    if most == 1:
        return True
    counts = np.unique(classes[classes >= 0], return_counts=True)[1]
    return len(counts) > 1 and bool(counts.max() < most * counts.sum())


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """Draw a change of colours; each part of it happens with probability 1/2."""
    return Distortion(
        brightness=float(rng.uniform(-BRIGHTNESS, BRIGHTNESS)) if rng.random() < 0.5 else None,
        contrast_first=bool(rng.random() < 0.5),
        contrast=float(rng.uniform(*CONTRAST)) if rng.random() < 0.5 else None,
        saturation=float(rng.uniform(*SATURATION)) if rng.random() < 0.5 else None,
        hue=float(rng.uniform(-HUE, HUE)) if rng.random() < 0.5 else None,
    )


def distorted(picture: Image.Image, distortion: Distortion) -> Image.Image:
    """Change the colours of an RGB picture."""
    d = distortion
    before = d.contrast if d.contrast_first else None
    if d.brightness is not None or before is not None:
        table = np.clip(np.arange(256) + (d.brightness or 0.0), 0, 255) * (before or 1.0)
        picture = picture.point(_table(table) * 3)
    if d.saturation is not None or d.hue is not None:
        # Saturation times a number leaves the value: colours move along a line to grey.
        hue, saturation, value = picture.convert("HSV").split()
        if d.saturation is not None:
            saturation = saturation.point(_table(np.arange(256) * d.saturation))
        if d.hue is not None:
            shifted = (np.arange(256) + round(d.hue * 256)) % 256
            hue = hue.point(shifted.tolist())
        picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if d.contrast is not None and not d.contrast_first:
        picture = picture.point(_table(np.arange(256) * d.contrast) * 3)
    return picture


def _table(values: NDArray[Any]) -> list[int]:
    found: list[int] = np.clip(np.rint(values), 0, 255).astype(int).tolist()
    return found
