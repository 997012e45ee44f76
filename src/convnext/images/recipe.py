"""The preprocessing of a checkpoint's pictures, as data; `images.transform` applies it.

Each checkpoint has its own: a resize unlike the authors' costs up to 0.8 points of top-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from convnext.errors import ArgumentTypeError, UnknownNameError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NORMALISATIONS",
    "SEGMENTATION",
    "Preprocess",
    "Triple",
    "stated_recipe",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]
NORMALISATIONS: Mapping[str, tuple[Triple, Triple]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of each named normalisation."""


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a checkpoint, from a decoded RGB picture to the model's input.

    Attributes:
        size: Side of the model's square input.
        crop_fraction: In mode `"crop"`, the short side is resized to `int(size / crop_fraction)`.
        mode: `"crop"` keeps the aspect ratio and crops the centre; `"squash"` warps to the square;
            `"pad"` first makes the picture a square, with white at both sides.
        interpolation: Resampling filter, always antialiased.
        mean: Subtracted from each channel, after rescaling.
        std: Divides each channel, after subtracting `mean`.
        rescale: Factor of the uint8 pixels, applied first.

    Example:
        >>> Preprocess(size=224).resized_side
        256
    """

    size: int = 224
    crop_fraction: float = 0.875
    mode: Literal["crop", "squash", "pad"] = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    rescale: float = 1 / 255

    @property
    def resized_side(self) -> int:
        """The short side after resizing and before cropping (mode `"crop"`)."""
        return int(self.size / self.crop_fraction)


SEGMENTATION = Preprocess(512, 1.0, "squash", "bilinear")
"""The preprocessing of segmentation models that do not state theirs: that of the published ones."""


def stated_recipe(given: object, base: Preprocess | None = None) -> Preprocess:
    """Resolve a `preprocess` argument.

    Args:
        given: A `Preprocess`, or one of `NORMALISATIONS`.
        base: The recipe to change if `given` is a normalisation.

    Raises:
        ArgumentError: It is neither.

    Example:
        >>> stated_recipe("half").mean
        (0.5, 0.5, 0.5)
    """
    if isinstance(given, Preprocess):
        return given
    if not isinstance(given, str):
        raise ArgumentTypeError(
            "preprocess must be a convnext.images.recipe.Preprocess or one of "
            f"{', '.join(NORMALISATIONS)}, not {type(given).__name__}."
        )
    if given not in NORMALISATIONS:
        raise UnknownNameError("normalisation", given, NORMALISATIONS)
    mean, std = NORMALISATIONS[given]
    return replace(base or Preprocess(), mean=mean, std=std)
