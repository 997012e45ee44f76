"""Augmentation of a decoded picture: crop, flip, RandAugment or colour jitter, erasing.

Pixels are the same as timm's and torchvision's; the caller passes the random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise, pixels
from convnext.train.augment.erasing import Box, erase
from convnext.train.augment.rand_augment import Canvas, RandAugment, parse_policy
from convnext.train.settings import check, setting

__all__ = ["Augment", "Augmentation", "Evaluation", "Transform", "crop_box", "jitter"]

ATTEMPTS = 10  # to draw a crop that fits into the picture

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ANY_FILTER = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class Augment:
    """Augmentation settings of a recipe, in the order in which they are applied."""

    crop: Literal["random", "center"] = setting(
        "random", '"random": another part each time; "center": the crop of validation'
    )
    crop_scale: tuple[float, float] = setting(
        (0.08, 1.0), "the area of a random crop, least and largest", low=0, high=1
    )
    crop_ratio: tuple[float, float] = setting(
        (3 / 4, 4 / 3), "width over height of a random crop, least and largest", low=0
    )
    padding: int = setting(
        0, "for small pictures: move by up to this many pixels instead of cropping", low=0
    )
    interpolation: Literal["bicubic", "bilinear", "random"] = setting(
        "bicubic", "how crops are resized; random draws one of the two"
    )
    flip: float = setting(0.5, "probability of a horizontal flip", low=0, high=1)
    rand_augment: str = setting("", 'RandAugment as timm writes it: "rand-m9-mstd0.5-inc1"')
    color_jitter: float = setting(
        0.0, "brightness, contrast and saturation change by up to this share", low=0
    )
    erase: float = setting(0.0, "probability of random erasing", low=0, high=1)
    erase_mode: Literal["pixel", "const", "rand"] = setting(
        "pixel", 'fill of erased boxes: "pixel" noise, "const" the mean colour, "rand" any colour'
    )
    erase_count: int = setting(1, "the most boxes that are erased", low=1)

    def __post_init__(self) -> None:
        check(self)
        for name in ("crop_scale", "crop_ratio"):
            least, largest = getattr(self, name)
            if not 0 < least <= largest < math.inf:
                raise ArgumentError(
                    f"{name} is [least, largest], both above 0; got [{least:g}, {largest:g}]."
                )
        if self.crop == "center" and self.padding:
            raise ArgumentError('padding moves the crop at random, and crop is "center": set one.')
        if self.rand_augment:
            parse_policy(self.rand_augment)
            if self.color_jitter:
                raise ArgumentError(
                    "rand_augment changes colours already (timm silently ignores color_jitter with "
                    "it). Set color_jitter = 0, or leave out rand_augment."
                )


class Transform(Protocol):
    """Interface of `Augmentation` and `Evaluation`."""

    @property
    def size(self) -> int:
        """Side of the output, in pixels."""

    def __call__(self, picture: Image.Image, rng: np.random.Generator, /) -> NDArray[np.float32]:
        """Transform an RGB picture to `[size, size, 3]`, normalised."""


class Augmentation:
    """Augments pictures as the settings of a recipe say.

    Args:
        settings: The augmentation settings.
        preprocess: The model's preprocessing: size, means and deviations, and for `crop="center"`
            how to resize.

    Example:
        >>> augmentation = Augmentation(Augment(), Preprocess(size=32))
        >>> augmentation(Image.new("RGB", (50, 40)), np.random.default_rng(0)).shape
        (32, 32, 3)
    """

    def __init__(self, settings: Augment, preprocess: Preprocess) -> None:
        self.settings = settings
        self.preprocess = preprocess
        self._rand_augment = None
        if settings.rand_augment:
            red, green, blue = (
                min(255, round(mean / preprocess.rescale)) for mean in preprocess.mean
            )
            self._rand_augment = RandAugment(
                parse_policy(settings.rand_augment),
                Canvas((red, green, blue), self._filters),
            )

    @property
    def size(self) -> int:
        """Side of the output, in pixels."""
        return self.preprocess.size

    @property
    def _filters(self) -> tuple[Image.Resampling, ...]:
        name = self.settings.interpolation
        return _ANY_FILTER if name == "random" else (_FILTERS[name],)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> NDArray[np.float32]:
        """Transform an RGB picture to `[size, size, 3]`, normalised."""
        settings = self.settings
        values = normalise(np.asarray(self.picture(picture, rng)), self.preprocess)
        if settings.erase:
            erase(
                values,
                rng,
                probability=settings.erase,
                mode=settings.erase_mode,
                max_count=settings.erase_count,
            )
        return values

    def picture(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Apply all steps before normalising; erasing comes after it."""
        settings = self.settings
        picture = self._cropped(picture, rng)
        if settings.flip and rng.random() < settings.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self._rand_augment:
            picture = self._rand_augment(picture, rng)
        elif settings.color_jitter:
            strength = settings.color_jitter
            factors = rng.uniform(max(0.0, 1 - strength), 1 + strength, size=3)
            picture = jitter(picture, factors.tolist(), rng.permutation(3).tolist())
        return picture

    def _cropped(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        size, settings = self.size, self.settings
        if settings.crop == "random" and not settings.padding:
            top, left, height, width = crop_box(
                picture.height, picture.width, settings.crop_scale, settings.crop_ratio, rng
            )
            filters = self._filters
            chosen = filters[int(rng.integers(2))] if len(filters) > 1 else filters[0]
            part = picture.crop((left, top, left + width, top + height))
            return part.resize((size, size), chosen)
        if picture.size != (size, size) or self.preprocess.resized_side != size:
            picture = Image.fromarray(pixels(picture, self.preprocess))
        if settings.padding:
            left, top = rng.integers(
                -settings.padding, settings.padding, size=2, endpoint=True
            ).tolist()
            picture = picture.crop((left, top, left + size, top + size))  # black beyond its borders
        return picture


class Evaluation:
    """Preprocesses pictures as in inference, without augmentation."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    @property
    def size(self) -> int:
        """Side of the output, in pixels."""
        return self.preprocess.size

    def __call__(
        self, picture: Image.Image, _rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Transform an RGB picture to `[size, size, 3]`, normalised."""
        return normalise(pixels(picture, self.preprocess), self.preprocess)


def crop_box(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """Draw a random crop by area and aspect ratio, as torchvision and timm do.

    If no attempt fits into the picture, return the largest central crop with an allowed ratio.
    """
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(lowest, highest))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h, endpoint=True))
            left = int(rng.integers(0, width - w, endpoint=True))
            return Box(top, left, h, w)
    h, w = height, width
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def jitter(picture: Image.Image, factors: list[float], order: list[int]) -> Image.Image:
    """Change brightness, contrast and saturation, in the order given.

    Args:
        picture: RGB.
        factors: One for each of the three; 1 changes nothing.
        order: The indices 0 to 2 in the order of application.
    """
    for number in order:
        picture = _ENHANCERS[number](picture).enhance(factors[number])
    return picture
